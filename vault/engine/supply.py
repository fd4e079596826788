"""Claims ahead of the drain, on a thread of its own, sharing the room out between clients."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from time import sleep
from typing import NamedTuple

from vault import policy
from vault.claims import Claim, Quota
from vault.engine.tools import Tools
from vault.metrics import claims as claims_metric
from vault.provider import Provider

TASTE = 16
"""Rows asked for a client that had none a moment ago."""


def room_at(tools: Tools, provider: Provider) -> int:
    """How many sends may start now, as whichever of our registrations there."""
    if not provider.former:
        return tools.gate.room(provider)
    return max(tools.gate.room(each) for each in (provider, *provider.former))


def _waits_for_its_rate(tools: Tools, provider: Provider) -> bool:
    """Whether some registration has no room though nothing is held against it."""
    if provider.rate_per_second is None:
        return False
    return any(not tools.gate.room(each) and not tools.gate.pause(each) for each in (provider, *provider.former))


class Batch(NamedTuple):
    """Rows that were claimed, and when they were asked for, by our monotonic clock."""

    claims: list[Claim]
    asked_at: float


class Supply:
    """Claims ahead on a thread of its own, so that the network never waits for the database."""

    def __init__(self, tools: Tools, max_in_flight: int) -> None:
        self._tools = tools
        self._max_in_flight = max_in_flight
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evergrant-claims")
        self._pending: Future[Batch] | None = None
        self.dry = False
        """The last look found nothing due."""
        self._hungry: set[str] = set()
        self._held: frozenset[str] = frozenset()
        """Hungry clients whose rate allows nothing just now: their rows are waited for, not left to the next scan."""
        self._since: dict[str, datetime] = {}
        self._swept_at = tools.monotonic()

    def ask(self, load: Counter[str], ready: int, open_ended: bool) -> None:
        """Ask for more rows, if there is room for them and none were asked for yet."""
        free = self._max_in_flight - ready - self._tools.transport.in_flight
        if self._pending is not None or self.dry or not open_ended or free < min(64, self._max_in_flight // 2):
            return
        quotas = self._quotas(load, free)
        if quotas or not self._held:
            self._pending = self._thread.submit(self._claim, quotas)

    def take(self) -> Batch | None:
        """Return a batch that has come; raises what the claim raised."""
        if self._pending is None or not self._pending.done():
            return None
        batch, self._pending = self._pending.result(), None
        self.dry = not batch.claims and not self._since and not self._held
        if not batch.claims:
            self._since.clear()  # before calling it dry, look once at everything
        self._remember(batch.claims)
        return batch

    def idle(self, open_ended: bool) -> bool:
        """Whether nothing is on its way and nothing more will be asked for."""
        return self._pending is None and (self.dry or not open_ended)

    def wait(self, timeout: timedelta) -> None:
        """Sleep until a claim comes back, or for ``timeout``."""
        if self._pending is None:
            sleep(timeout.total_seconds())
            return
        try:
            self._pending.exception(timeout.total_seconds())
        except TimeoutError:
            return

    def close(self) -> list[Claim]:
        """End the thread; returns what it claimed and nobody took."""
        self._thread.shutdown(wait=True)
        if self._pending is None or self._pending.exception() is not None:
            return []
        return self._pending.result().claims

    def _claim(self, quotas: list[Quota]) -> Batch:
        asked_at = self._tools.monotonic()
        claims = self._tools.store.claim(quotas)
        claims_metric.inc(len(claims))
        return Batch(claims, asked_at)

    def _quotas(self, load: Counter[str], free: int) -> list[Quota]:
        """Share the room out: clients that had rows a moment ago split it, the others are tasted."""
        now = self._tools.monotonic()
        if now - self._swept_at > self._tools.policy.scan.total_seconds():
            self._since.clear()
            self._swept_at = now
        share = max(TASTE, free // max(1, len(self._hungry))) if self._hungry else free
        quotas, held = [], set()
        for provider in self._tools.providers.all():
            room = min(room_at(self._tools, provider), provider.max_in_flight - load[provider.name])
            wanted = share if provider.name in self._hungry or not self._hungry else TASTE
            if room <= 0 and provider.name in self._hungry and _waits_for_its_rate(self._tools, provider):
                held.add(provider.name)
            if room > 0:
                lease = policy.timing(self._tools.policy, provider).lease
                quotas.append(Quota(provider.name, min(room, wanted, free), lease, self._since.get(provider.name)))
        self._held = frozenset(held)
        return quotas

    def _remember(self, claims: list[Claim]) -> None:
        self._hungry = {claim.client for claim in claims} | self._held
        for claim in claims:
            known = self._since.get(claim.client)
            if not claim.urgent and (known is None or claim.due_at > known):
                self._since[claim.client] = claim.due_at
