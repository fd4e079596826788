"""How we show a provider who is asking (RFC 6749, section 2.3; RFC 7523, section 2.2)."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import quote_plus

from vault.oauth.assertions import BadKey, SigningKey, sign, signing_key
from vault.provider import Client, ClientAuth, Provider

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SIGNED: Final = frozenset({ClientAuth.PRIVATE_KEY_JWT, ClientAuth.MINTED_SECRET})


class Shown(NamedTuple):
    """What shows who we are: lines of the head, and parameters under their standard names."""

    headers: tuple[str, ...]
    parameters: dict[str, str]

    def __repr__(self) -> str:
        """Show nothing."""
        return "<Shown>"


class Authentication:
    """Shows who we are, in each provider's way. Thread-safe."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._keys: dict[tuple[str, str], tuple[Client, SigningKey]] = {}

    def shown(self, provider: Provider) -> Shown:
        """Return what a request to the provider's endpoints carries. Raises ``BadKey``."""
        client, method = provider.client, provider.client_auth
        if client is None:
            return Shown((), {})
        secret = client.client_secret
        if secret is None or method is ClientAuth.NONE:
            return Shown((), {"client_id": client.client_id})
        if method is ClientAuth.BASIC:
            pair = f"{quote_plus(client.client_id)}:{quote_plus(secret.reveal())}"
            return Shown((f"Authorization: Basic {b64encode(pair.encode()).decode()}",), {})
        if method is ClientAuth.BODY:
            return Shown((), {"client_id": client.client_id, "client_secret": secret.reveal()})
        statement = self.statement(provider, audience=provider.token_uri, subject=client.client_id)
        if method is ClientAuth.MINTED_SECRET:
            return Shown((), {"client_id": client.client_id, "client_secret": statement})
        return Shown(
            (),
            {"client_id": client.client_id, "client_assertion_type": ASSERTION_TYPE, "client_assertion": statement},
        )

    def statement(
        self, provider: Provider, *, key: str = "", audience: str = "", subject: str = "", scopes: str = ""
    ) -> str:
        """Sign a statement, with a connection's own key or else the registration's. Raises ``BadKey``."""
        client = provider.client
        if client is None:
            raise BadKey
        found = signing_key(key) if key else self._key(provider.name, client)
        return sign(
            provider.assertion, found, client_id=client.client_id, subject=subject, audience=audience, scopes=scopes,
            now=self._clock(), new_id=lambda: secrets.token_urlsafe(16),
        )  # fmt: skip

    def _key(self, name: str, client: Client) -> SigningKey:
        known = self._keys.get((name, client.client_id))
        if known is None or known[0] is not client:
            if client.client_secret is None:
                raise BadKey
            known = self._keys[name, client.client_id] = (client, signing_key(client.client_secret.reveal()))
        return known[1]
