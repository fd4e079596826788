"""Keys are rotated, again and again, by processes that are killed, while tokens are read and refreshed."""
