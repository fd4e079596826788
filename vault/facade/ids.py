"""Ids and values as callers write them."""

from __future__ import annotations

from uuid import UUID

from vault.errors import UnknownConnection
from vault.secret import Secret

Id = UUID | str
Text = Secret | str


def read_id(connection_id: UUID | str) -> UUID:
    """Read an id. Raises ``UnknownConnection`` when it is none."""
    if isinstance(connection_id, UUID):
        return connection_id
    try:
        return UUID(connection_id)
    except (ValueError, AttributeError, TypeError):
        raise UnknownConnection(connection_id) from None


def read_secret(value: Text) -> Secret:
    """Return a value as one that is never shown by accident."""
    return value if isinstance(value, Secret) else Secret(value)


def revealed(value: Text) -> str:
    """Return a value as text."""
    return value.reveal() if isinstance(value, Secret) else value
