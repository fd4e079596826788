"""Tokens that are presented to the user's own service: what they are, and what they are good for. Asks nobody."""
