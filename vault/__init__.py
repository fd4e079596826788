"""Evergrant."""
