"""The shape of an audit row, written in the transaction of the change it tells of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID


def audit_row(tenant: str, event: str, connection_id: UUID | None, detail: Mapping[str, object]) -> dict[str, Any]:
    """Return the values of an audit row; ``detail`` holds ids, words and fingerprints, never a value."""
    return {"tenant": tenant, "event": event, "connection_id": connection_id, "detail": dict(detail)}
