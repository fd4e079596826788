"""Connection ids as callers write them."""

from __future__ import annotations

from uuid import UUID

from vault.errors import UnknownConnection


def read_id(connection_id: UUID | str) -> UUID:
    """Read an id. Raises ``UnknownConnection`` when it is none."""
    if isinstance(connection_id, UUID):
        return connection_id
    try:
        return UUID(connection_id)
    except (ValueError, AttributeError, TypeError):
        raise UnknownConnection(connection_id) from None
