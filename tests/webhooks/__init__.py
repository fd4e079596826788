"""Secrets of webhooks rotated by processes that are killed at every point, while deliveries come and are verified."""
