"""What whoever serves a vault to others needs to know: who is asking, how often, and whose a flow is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from vault.api_keys import ApiKey
from vault.ports import Flow, Ticket
from vault.services.health import Health
from vault.wiring import Wiring

RATES: Final = {
    "tokens": "http_rate_tokens",
    "connects": "http_rate_connects",
    "introspections": "http_rate_introspections",
    "others": "http_rate_others",
    "strangers": "http_rate_strangers",
}
"""What is limited for each key, or for each address that brings none, and the setting that says how far."""


class Serving:
    """The part of the HTTP face that knows of no HTTP. From ``Vault.serving``; thread-safe.

    What ends in ``_at_hand`` asks nobody, and so may be called where waiting is not allowed.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring, self._serving = wiring, wiring.serving

    # ----------------------------------------------------------------------------------------------------------- keys

    def caller(self, key: str) -> ApiKey:
        """Return what a key is, and note that it was used. Raises ``ApiKeyRefused``, ``StoreUnavailable``."""
        found = self._serving.callers.caller(key)
        self._serving.reads.used(found.id)
        return found

    def caller_at_hand(self, key: str) -> ApiKey | None:
        """Return what a key is, if that is known here; None: ``caller`` must look. Raises ``ApiKeyRefused``."""
        found = self._serving.callers.caller_at_hand(key)
        if found is not None:
            self._serving.reads.used(found.id)
        return found

    def is_known(self, key: str) -> bool:
        """Whether a key was found in this process before, be it expired or revoked since."""
        return self._serving.callers.is_known(key)

    def take(self, caller: ApiKey | str, what: str) -> timedelta | None:
        """Count one use of a key against its rate; None: it may go on. Otherwise how long until it may.

        Args:
            caller: Whose: a key, or the address of whoever brings none.
            what: ``tokens``, ``connects``, ``introspections`` or ``others``; of addresses ``strangers``.
        """
        rate = self._rate(what)
        return None if not rate else self._serving.quota.take(_bucket(caller, what), rate)

    def take_at_hand(self, caller: ApiKey | str, what: str) -> bool:
        """Count one use, if that can be done here; False: ``take`` must be asked."""
        rate = self._rate(what)
        return not rate or self._serving.quota.take_at_hand(_bucket(caller, what), rate)

    def _rate(self, what: str) -> float:
        rate: float = getattr(self._serving.settings, RATES[what])
        return rate

    def token_read(self, caller: ApiKey, connection_id: UUID) -> None:
        """Have the audit told that a token was served to a key: within a second, or counted, within a minute.

        Raises ``StoreUnavailable``: the audit has not been told of a hundred thousand reads.
        """
        self._serving.reads.read(caller.tenant, caller.id, connection_id)

    # ---------------------------------------------------------------------------------------------------------- flows

    def flow(self, state: str) -> Flow:
        """Say whose a flow is, and leave it where it is. Raises ``ConnectRefused``, ``StoreUnavailable``."""
        return self._serving.callers.flow(state)

    def ticket(self, tenant: str, provider: str, request: Mapping[str, Any]) -> str:
        """Make a ticket with which one browser may begin a flow, once and within a minute.

        Args:
            tenant: Whose.
            provider: Where.
            request: Further arguments of ``Vault.begin``, fit for JSON, and none of them secret.
        """
        return self._serving.callers.ticket(tenant, provider, request)

    def take_ticket(self, ticket: str) -> Ticket:
        """Take a ticket, which is then used. Raises ``ConnectRefused``, ``StoreUnavailable``."""
        return self._serving.callers.take_ticket(ticket)

    def can_connect(self, provider: str) -> bool:
        """Whether we have a registration at a provider to begin flows with. Raises ``UnknownProvider``."""
        return self._wiring.provider(provider).client is not None

    @property
    def access_log(self) -> bool:
        """Whether each request is to be logged, not only those that went wrong."""
        return self._serving.settings.http_access_log

    def health(self) -> Health:
        """Look at every part of the system."""
        return self._wiring.health.check()


def _bucket(caller: ApiKey | str, what: str) -> str:
    return f"{what}:{caller if isinstance(caller, str) else caller.id}"
