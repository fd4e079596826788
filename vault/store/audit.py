"""The shape of an audit row, written in the transaction of the change it tells of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from vault.model import Credential


def audit_row(tenant: str, event: str, connection_id: UUID | None, detail: Mapping[str, object]) -> dict[str, Any]:
    """Return the values of an audit row; ``detail`` holds ids, words and fingerprints, never a value."""
    return {"tenant": tenant, "event": event, "connection_id": connection_id, "detail": dict(detail)}


def credential_row(of: Credential, event: str, detail: Mapping[str, object]) -> dict[str, Any]:
    """Return the values of an audit row that tells of a credential."""
    said = {"credential_id": str(of.id), "kind": of.kind, "provider": of.provider, **detail}
    return audit_row(of.tenant, event, of.connection_id, said)
