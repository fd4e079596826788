"""Who is asking over HTTP: a program, by its key; a browser in the middle of a flow, by what it brings back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import timedelta
from hashlib import sha256
from threading import Lock
from typing import Any, Final, NamedTuple

from vault.api_keys import ApiKey, FoundKey, digest_of, looks_like_a_key
from vault.errors import ApiKeyRefused, ConnectRefused
from vault.forks import in_children
from vault.ports import ApiKeyStore, Flow, FlowStore, Ticket

REMEMBERED: Final = 10_000
"""Keys at hand in one process; and as many texts that are none, so that guessing pushes no key out."""
TICKET_LIFE: Final = timedelta(seconds=60)
"""A browser is sent here at once, or not at all."""


class _Seen(NamedTuple):
    found: FoundKey | None
    at: float


class Callers:
    """Tells whose a request is. Thread-safe."""

    def __init__(
        self,
        keys: ApiKeyStore,
        flows: FlowStore,
        *,
        life: timedelta,
        monotonic: Callable[[], float],
        new_token: Callable[[], str],
    ) -> None:
        self._keys, self._flows = keys, flows
        self._life, self._monotonic, self._new_token = life.total_seconds(), monotonic, new_token
        self._begin_anew()
        in_children(self._begin_anew)

    def _begin_anew(self) -> None:
        self._lock = Lock()
        self._seen = OrderedDict[bytes, _Seen]()
        self._strange = OrderedDict[bytes, _Seen]()

    def caller_at_hand(self, text: str) -> ApiKey | None:
        """Return what a key is, if that is at hand; None: ``caller`` must look. Raises ``ApiKeyRefused``."""
        if not looks_like_a_key(text):
            raise ApiKeyRefused("unknown")
        digest = digest_of(text)
        seen = self._seen.get(digest) or self._strange.get(digest)
        if seen is None or self._monotonic() - seen.at > self._life:
            return None
        return self._judged(seen)

    def is_known(self, text: str) -> bool:
        """Whether a key was found here before, be it too long ago to say what it is by now."""
        return looks_like_a_key(text) and digest_of(text) in self._seen

    def caller(self, text: str) -> ApiKey:
        """Return what a key is. Raises ``ApiKeyRefused``, ``StoreUnavailable``."""
        if (at_hand := self.caller_at_hand(text)) is not None:
            return at_hand
        digest, at = digest_of(text), self._monotonic()
        seen = _Seen(self._keys.find_key(digest), at)
        self._remember(self._seen if seen.found is not None else self._strange, digest, seen)
        return self._judged(seen)

    def _judged(self, seen: _Seen) -> ApiKey:
        if seen.found is None:
            raise ApiKeyRefused("unknown")
        key, left = seen.found
        if key.revoked_at is not None:
            raise ApiKeyRefused("revoked")
        if left is not None and left.total_seconds() <= self._monotonic() - seen.at:
            raise ApiKeyRefused("expired")
        return key

    def _remember(self, among: OrderedDict[bytes, _Seen], digest: bytes, seen: _Seen) -> None:
        with self._lock:
            among[digest] = seen
            among.move_to_end(digest)
            if len(among) > REMEMBERED:
                among.popitem(last=False)

    # ------------------------------------------------------------------------------------------------------- browsers

    def flow(self, state: str) -> Flow:
        """Say whose a flow is, and leave it where it is. Raises ``ConnectRefused``."""
        flow = self._flows.flow(_digest(state))
        if flow is None:
            raise ConnectRefused("unknown_state", "this flow is unknown, over ten minutes old, or was completed before")
        return flow

    def ticket(self, tenant: str, provider: str, request: Mapping[str, Any]) -> str:
        """Make a ticket with which one browser may begin a flow, once, within ``TICKET_LIFE``."""
        text = self._new_token()
        self._flows.add_ticket(_digest(text), Ticket(tenant, provider, request), TICKET_LIFE)
        return text

    def take_ticket(self, text: str) -> Ticket:
        """Take a ticket, which is then used. Raises ``ConnectRefused``."""
        ticket = self._flows.take_ticket(_digest(text))
        if ticket is None:
            raise ConnectRefused("unknown_ticket", "this ticket is unknown, over a minute old, or was used before")
        return ticket


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()
