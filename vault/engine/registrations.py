"""Between a registration at rest and the client it makes: its secrets, opened and sealed.

The provider and the client id are sealed in with each secret, and must be those of the row it is found in: whoever can
write to the database could otherwise have it shown to another provider.
"""

from __future__ import annotations

import json
from uuid import NAMESPACE_URL, UUID, uuid5

from vault.envelope import context, open_envelope, seal
from vault.errors import CannotOpen
from vault.events import EventType, Fact
from vault.keyring import Keyring
from vault.model import SYSTEM
from vault.ports import StoredClient
from vault.provider import Client
from vault.secret import Secret

OWNER = "client"
"""Of the data keys of client secrets, one for each provider; their tenant is nobody's (``SYSTEM``)."""
CLIENT_SECRET = "client_secret"  # the name of a field
OTHER_SECRET = "other_client_secret"  # the name of a field


def opened(keyring: Keyring, row: StoredClient) -> Client:
    """Open a registration's secrets. Raises ``KeyUnavailable``, ``CannotOpen``, ``StoreUnavailable``."""

    def secret(field: str, envelope: bytes | None) -> Secret | None:
        if envelope is None:
            return None
        key = keyring.opening_key(row.data_key_id)
        *whose, text = json.loads(open_envelope(key, envelope, context(SYSTEM, row.id, field), row.version))
        if whose != [row.provider, row.client_id]:
            raise CannotOpen
        return Secret(text)

    return Client(row.client_id, secret(CLIENT_SECRET, row.secret_envelope), secret(OTHER_SECRET, row.other_envelope))


def sealed(keyring: Keyring, row: StoredClient, client: Client) -> StoredClient:
    """Return the row with these secrets, bound to its id and version. Raises as ``opened``."""
    key = keyring.sealing_key(SYSTEM, OWNER, row.provider)

    def envelope(field: str, secret: Secret | None) -> bytes | None:
        if secret is None:
            return None
        text = json.dumps([row.provider, row.client_id, secret.reveal()]).encode()
        return seal(key, text, context(SYSTEM, row.id, field), row.version)

    return row._replace(
        data_key_id=key.id,
        secret_envelope=envelope(CLIENT_SECRET, client.client_secret),
        other_envelope=envelope(OTHER_SECRET, client.other_secret),
    )


def refusal(keyring: Keyring, provider: str, client: Client, instead: str) -> Fact:
    """Return the fact that a provider refused a secret, the same in every process. Raises as ``opened``."""
    registration = uuid5(NAMESPACE_URL, f"evergrant:client:{provider}:{client.client_id}")
    kind = EventType.CLIENT_SECRET_REFUSED
    key = ":".join((kind, str(registration), print_of(keyring, registration, client.client_secret) or "", instead))
    return Fact(SYSTEM, kind, key, {"provider": provider, "client_id": client.client_id, "instead": instead})


def print_of(keyring: Keyring, client_row: UUID, secret: Secret | None) -> str | None:
    """Return a keyed fingerprint, for the audit: whether two secrets of a registration are equal, and no more."""
    return None if secret is None else keyring.fingerprint(SYSTEM, client_row, secret.reveal()).hex()
