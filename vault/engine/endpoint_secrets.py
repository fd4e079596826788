"""Between an endpoint at rest and what its events are signed with: its secrets, sealed and opened."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from vault.envelope import context, open_envelope, seal
from vault.keyring import Keyring
from vault.ports import StoredEndpoint
from vault.secret import Secret

OWNER: Final = ""
PROVIDER: Final = "webhook"
"""Of the data key of a tenant's endpoint secrets."""
CURRENT: Final = "endpoint_secret"  # the name of a field
FORMER: Final = "former_endpoint_secret"  # the name of a field


def opened(
    keyring: Keyring, tenant: str, endpoint_id: UUID, version: int, key_id: UUID, *envelopes: bytes | None
) -> list[Secret]:
    """Open the secrets there are, the current one first.

    Raises ``KeyUnavailable``, ``CannotOpen``, ``StoreUnavailable``.
    """
    found = []
    for field, envelope in zip((CURRENT, FORMER), envelopes, strict=True):
        if envelope is not None:
            bound = context(tenant, endpoint_id, field)
            found.append(Secret(open_envelope(keyring.opening_key(key_id), envelope, bound, version).decode()))
    return found


def sealed(keyring: Keyring, row: StoredEndpoint, current: Secret, former: Secret | None) -> StoredEndpoint:
    """Return the row with these secrets, bound to its id and version. Raises as ``opened``."""
    key = keyring.sealing_key(row.tenant, OWNER, PROVIDER)

    def envelope(field: str, secret: Secret) -> bytes:
        return seal(key, secret.reveal().encode(), context(row.tenant, row.id, field), row.version)

    return row._replace(
        data_key_id=key.id,
        secret_envelope=envelope(CURRENT, current),
        former_envelope=None if former is None else envelope(FORMER, former),
    )
