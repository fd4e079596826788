"""Webhook secrets changed at providers, over HTTP, as data says: each registrar is a ``Rotator`` named by a table."""
