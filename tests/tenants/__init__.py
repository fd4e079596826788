"""Tenants who ask for what is each other's, over HTTP: `make chaos ARGS=tenants` in ten thousand calls."""
