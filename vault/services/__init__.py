"""One file per use case; a service knows ports and rules, never an adapter, never another service."""
