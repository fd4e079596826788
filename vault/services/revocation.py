"""Telling providers to forget tokens: of connections that ended, and of answers that came too late (RFC 7009)."""

from __future__ import annotations

from datetime import timedelta

from vault import policy
from vault.claims import Revocation
from vault.engine.sealing import ACCESS_TOKEN, REFRESH_TOKEN
from vault.engine.tools import Tools
from vault.envelope import DataKey, context, open_envelope
from vault.errors import CannotOpen, KeyUnavailable, UnknownProvider
from vault.keyring import Keyring
from vault.means import Means, text_of
from vault.outcome import Exchange, Misconfigured, TokenRequest
from vault.ports import RevocationStore
from vault.secret import Secret

BATCH = 100
RETRY_AFTER = timedelta(minutes=5)
TRIES = 20
"""Then it is given up, which the audit says: the tokens end by themselves at the provider."""
POLL = timedelta(milliseconds=100)


class Revoking:
    """The use case behind revocation; one instance serves one thread at a time."""

    def __init__(self, tools: Tools, store: RevocationStore, keyring: Keyring) -> None:
        self._tools = tools
        self._store = store
        self._keyring = keyring

    def run(self) -> int:
        """Send what is due; returns how many came to an end. Sending one twice is harmless (RFC 7009, section 2.2)."""
        self._tools.providers.look()
        ended = 0
        for revocation in self._store.take_revocations(BATCH, RETRY_AFTER):
            ended += self._start(revocation)
        while self._tools.transport.in_flight:
            for exchange in self._tools.transport.poll(POLL):
                ended += self._finish(exchange)
        return ended

    def _start(self, revocation: Revocation) -> int:
        try:
            provider = self._tools.providers.get(revocation.provider)
            if revocation.client_id is not None:
                provider = provider.asking_as(revocation.client_id)
            if provider.client is None or revocation.client_id in provider.locked:
                return self._later(revocation)
            key = self._keyring.opening_key(revocation.data_key_id)
            token = _token(key, revocation)
        except UnknownProvider:
            return self._end(revocation, "provider_unknown")
        except CannotOpen:
            return self._end(revocation, "cannot_open")
        except KeyUnavailable:  # of one tenant or owner; the others' are not to wait for it
            return self._later(revocation)
        deadline = policy.timing(self._tools.policy, provider).deadline
        request = self._tools.endpoint.revoke_request(provider, token, (provider, revocation), deadline)
        if request is None:
            return self._end(revocation, "provider_has_no_endpoint")
        if isinstance(request, Misconfigured):
            return self._later(revocation)
        if not isinstance(request, TokenRequest):
            return self._end(revocation, "no_address")
        self._tools.transport.start(request)
        return 0

    def _finish(self, exchange: Exchange) -> int:
        assert isinstance(exchange.tag, tuple)  # the tag is what _start gave
        provider, revocation = exchange.tag
        if exchange.status in (200, 204):
            return self._end(revocation, "revoked")
        outcome = self._tools.endpoint.read(provider, exchange)
        if isinstance(outcome, Misconfigured) and outcome.of_client:  # nobody looked at the token yet
            self._tools.providers.refused(provider)
            return self._later(revocation)
        if exchange.status in (400, 404):
            return self._end(revocation, "unknown_to_provider")
        return self._later(revocation)

    def _later(self, revocation: Revocation) -> int:
        return self._end(revocation, "given_up") if revocation.attempt >= TRIES else 0

    def _end(self, revocation: Revocation, outcome: str) -> int:
        self._store.end_revocation(revocation, outcome)
        return 1


def _token(key: DataKey, revocation: Revocation) -> Secret:
    """Open what is to be revoked. Raises ``CannotOpen``."""
    refresh, access = revocation.refresh_envelope, revocation.access_envelope
    field, envelope = (ACCESS_TOKEN, access) if refresh is None else (REFRESH_TOKEN, refresh)
    bound = context(revocation.tenant, revocation.connection_id, field)
    text = open_envelope(key, envelope or b"", bound, revocation.version).decode()
    return Secret(text if field == REFRESH_TOKEN else text_of(Means(access_token=text)))
