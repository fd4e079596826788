"""Per client of a provider: a token bucket for its rate, and a circuit breaker for its bad days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from vault.provider import Client, Provider, same_secrets

TRIP_AFTER = 5
"""Failures in a row that open the breaker."""
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
OPERATOR_PAUSE_S = 1800.0
"""When our own registration is refused: nothing gets better by asking."""
PROBE_LIFE_S = 60.0
"""A probe of which nothing is heard for so long is not waited for."""


class _Bucket:
    def __init__(self, tokens: float, filled_at: float) -> None:
        self.tokens, self.filled_at = tokens, filled_at


class _Breaker:
    def __init__(self) -> None:
        self.close()

    def close(self) -> None:
        self.failures = 0
        self.pauses = 0
        """In a row; 0: closed."""
        self.open_until = self.probe_until = 0.0
        self.refused: Client | None = None
        """What the provider would not have: nothing is held against a registration once it has a new secret."""


class LocalGate:
    """Buckets of providers and breakers of registrations at them, in one process.

    Closed: as much as the rate allows. Open: nothing until the pause is over. Half-open: one probe; its success
    closes the breaker, its failure doubles the pause.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._buckets: dict[str, _Bucket] = {}
        self._breakers: dict[tuple[str, str], _Breaker] = {}

    def room(self, provider: Provider) -> int:
        """See ``Gate.room``."""
        breaker = self._breaker(provider)
        if breaker.pauses:
            return 0 if self._monotonic() < max(breaker.open_until, breaker.probe_until) else 1
        return self._tokens(provider)

    def pause(self, provider: Provider) -> timedelta:
        """See ``Gate.pause``."""
        breaker = self._breaker(provider)
        until = max(breaker.open_until, breaker.probe_until) if breaker.pauses else 0.0
        return timedelta(seconds=min(LONGEST_PAUSE_S, max(0.0, until - self._monotonic())))

    def _tokens(self, provider: Provider) -> int:
        rate = provider.rate_per_second
        if rate is None:
            return provider.max_in_flight
        bucket, now = self._bucket(provider, rate), self._monotonic()
        bucket.tokens = min(max(rate, 1.0), bucket.tokens + (now - bucket.filled_at) * rate)
        bucket.filled_at = now
        return int(bucket.tokens)

    def take(self, provider: Provider, sends: int) -> None:
        """See ``Gate.take``."""
        if provider.rate_per_second is not None:
            self._bucket(provider, provider.rate_per_second).tokens -= sends
        breaker = self._breaker(provider)
        if breaker.pauses:
            breaker.probe_until = self._monotonic() + PROBE_LIFE_S

    def succeeded(self, provider: Provider) -> None:
        """See ``Gate.succeeded``."""
        breaker = self._breaker(provider)
        if breaker.failures:
            breaker.close()

    def failed(self, provider: Provider, *, operator: bool, retry_after: timedelta | None) -> None:
        """See ``Gate.failed``. What was in flight when the breaker opened makes no pause longer by failing too."""
        breaker, now = self._breaker(provider), self._monotonic()
        breaker.failures += 1
        probed, breaker.probe_until = now < breaker.probe_until, 0.0
        pause = 0.0
        if operator:
            breaker.pauses, pause, breaker.refused = max(1, breaker.pauses), OPERATOR_PAUSE_S, provider.client
        elif probed or (not breaker.pauses and breaker.failures >= TRIP_AFTER):
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * (1 << min(breaker.pauses, 16)))
            breaker.pauses += 1
        if breaker.pauses:
            asked = retry_after.total_seconds() if retry_after else 0.0
            breaker.open_until = max(breaker.open_until, now + max(pause, asked))

    def spared(self, provider: Provider) -> None:
        """See ``Gate.spared``."""
        self._breaker(provider).probe_until = 0.0

    def _breaker(self, provider: Provider) -> _Breaker:
        client = provider.client
        registration = (provider.name, client.client_id if client is not None else "")
        breaker = self._breakers.get(registration)
        if breaker is None:
            breaker = self._breakers[registration] = _Breaker()
        elif breaker.refused is not None and not same_secrets(breaker.refused, client):
            breaker.close()
        return breaker

    def _bucket(self, provider: Provider, rate: float) -> _Bucket:
        bucket = self._buckets.get(provider.name)
        if bucket is None:
            bucket = self._buckets[provider.name] = _Bucket(max(rate, 1.0), self._monotonic())
        return bucket
