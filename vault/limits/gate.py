"""Per client of a provider: a token bucket for its rate, and a circuit breaker for its bad days.

What one process finds out the others are told (``board``): they neither trip over it themselves nor probe all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256

from vault.limits.board import Board, NoBoard
from vault.limits.bucket import Bucket, LocalBucket
from vault.provider import Client, Provider, same_secrets

TRIP_AFTER = 5
"""Failures in a row that open the breaker."""
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
OPERATOR_PAUSE_S = 1800.0
"""When our own registration is refused: nothing gets better by asking."""
LOOK_EVERY_S = 0.5
"""How often a process looks what others say."""
PRINT = 4
"""Hexadecimal digits of a hash that tell secrets of one registration apart; too few to tell what they are."""
PROBE_LIFE_S = 60.0
"""A probe of which nothing is heard for so long is not waited for."""


def _name(provider: str, client: Client | None) -> str:
    """What a registration is called among processes; with other secrets it is another."""
    if client is None:
        return provider
    secrets = sorted(each.reveal() for each in (client.client_secret, client.other_secret) if each)
    said = "\0".join([provider, client.client_id, *secrets])
    return f"{provider}:{client.client_id}:{sha256(said.encode()).hexdigest()[:PRINT]}"


class _Breaker:
    def __init__(self, name: str) -> None:
        self.name = name
        self.client: Client | None = None
        self.close()

    def close(self) -> None:
        self.failures = 0
        self.pauses = 0
        """In a row; 0: closed."""
        self.open_until = self.probe_until = self.ours_until = 0.0
        self.refused: Client | None = None
        """What the provider would not have: nothing is held against a registration once it has a new secret."""


class ProviderGate:
    """Buckets of providers and breakers of registrations at them.

    Closed: as much as the rate allows. Open: nothing until the pause is over. Half-open: one probe; its success
    closes the breaker, its failure doubles the pause.
    """

    def __init__(
        self, monotonic: Callable[[], float], bucket: Bucket | None = None, board: Board | None = None
    ) -> None:
        self._monotonic = monotonic
        self._bucket: Bucket = LocalBucket(monotonic) if bucket is None else bucket
        self._board: Board = NoBoard() if board is None else board
        self._breakers: dict[tuple[str, str], _Breaker] = {}
        self._look_at = 0.0

    def room(self, provider: Provider) -> int:
        """See ``Gate.room``."""
        breaker = self._breaker(provider)
        self._look()
        if breaker.pauses:
            return 1 if self._may_probe(breaker) else 0
        return self._tokens(provider)

    def pause(self, provider: Provider) -> timedelta:
        """See ``Gate.pause``."""
        breaker = self._breaker(provider)
        until = max(breaker.open_until, breaker.probe_until) if breaker.pauses else 0.0
        return timedelta(seconds=min(LONGEST_PAUSE_S, max(0.0, until - self._monotonic())))

    def _tokens(self, provider: Provider) -> int:
        rate = provider.rate_per_second
        return provider.max_in_flight if rate is None else self._bucket.tokens(provider.name, rate)

    def take(self, provider: Provider, sends: int) -> None:
        """See ``Gate.take``."""
        if provider.rate_per_second is not None:
            self._bucket.take(provider.name, provider.rate_per_second, sends)
        breaker = self._breaker(provider)
        if breaker.pauses:
            breaker.probe_until = self._monotonic() + PROBE_LIFE_S

    def succeeded(self, provider: Provider) -> None:
        """See ``Gate.succeeded``."""
        breaker = self._breaker(provider)
        if breaker.pauses:
            self._board.open(breaker.name)
        if breaker.failures or breaker.pauses:
            breaker.close()

    def failed(self, provider: Provider, *, operator: bool, retry_after: timedelta | None) -> None:
        """See ``Gate.failed``. What was in flight when the breaker opened makes no pause longer by failing too."""
        breaker, now = self._breaker(provider), self._monotonic()
        breaker.failures += 1
        probed, breaker.probe_until, breaker.ours_until = now < breaker.probe_until, 0.0, 0.0
        pause = 0.0
        if operator:
            breaker.pauses, pause, breaker.refused = max(1, breaker.pauses), OPERATOR_PAUSE_S, provider.client
        elif probed or (not breaker.pauses and breaker.failures >= TRIP_AFTER):
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * (1 << min(breaker.pauses, 16)))
            breaker.pauses += 1
        if breaker.pauses:
            asked = retry_after.total_seconds() if retry_after else 0.0
            breaker.open_until = max(breaker.open_until, now + max(pause, asked))
            if pause or asked:
                self._board.shut(breaker.name, breaker.open_until - now, breaker.pauses)

    def spared(self, provider: Provider) -> None:
        """See ``Gate.spared``."""
        breaker = self._breaker(provider)
        if breaker.probe_until or breaker.ours_until:
            self._board.spare(breaker.name)
        breaker.probe_until = breaker.ours_until = 0.0

    def _look(self) -> None:
        """Take in, now and then, what others say of the registrations that are asked as here."""
        now = self._monotonic()
        if now < self._look_at or not self._breakers:
            return
        self._look_at = now + LOOK_EVERY_S
        told = self._board.look([breaker.name for breaker in self._breakers.values()])
        if told is None:
            return
        for breaker in self._breakers.values():
            left, pauses = told.get(breaker.name, (0.0, 0))
            if pauses:
                breaker.open_until, breaker.pauses = max(breaker.open_until, now + left), max(pauses, breaker.pauses)
            elif breaker.pauses:  # somebody's probe came through, or nobody remembers: ours may go
                breaker.open_until = min(breaker.open_until, now)

    def _may_probe(self, breaker: _Breaker) -> bool:
        """Whether the pause is over and no probe is on its way, of this process or another."""
        now = self._monotonic()
        if now < max(breaker.open_until, breaker.probe_until):
            return False
        if now >= breaker.ours_until:
            if not self._board.may_probe(breaker.name, PROBE_LIFE_S):
                breaker.probe_until = now + LOOK_EVERY_S
                return False
            breaker.ours_until = now + PROBE_LIFE_S
        return True

    def _breaker(self, provider: Provider) -> _Breaker:
        client = provider.client
        registration = (provider.name, client.client_id if client is not None else "")
        breaker = self._breakers.get(registration)
        if breaker is None:
            breaker = self._breakers[registration] = _Breaker(_name(provider.name, client))
        elif client is not None and not same_secrets(client, breaker.client):
            breaker.name = _name(provider.name, client)
        breaker.client = client
        if breaker.refused is not None and not same_secrets(breaker.refused, client):
            breaker.close()
        return breaker
