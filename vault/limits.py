"""Per client of a provider: a token bucket for its rate, and a circuit breaker for its bad days."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from vault.provider import Provider

TRIP_AFTER = 5
"""Failures in a row that open the breaker."""
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
OPERATOR_PAUSE_S = 1800.0
"""When our own registration is refused: nothing gets better by asking."""
PROBE_LIFE_S = 60.0
"""A probe of which nothing is heard for so long is not waited for."""


@dataclass(slots=True)
class _State:
    failures: int = 0
    pauses: int = 0
    """In a row; 0: closed."""
    open_until: float = 0.0
    probe_until: float = 0.0
    tokens: float = 0.0
    filled_at: float = 0.0


class LocalGate:
    """Buckets and breakers of one process.

    Closed: as much as the rate allows. Open: nothing until the pause is over. Half-open: one probe; its success
    closes the breaker, its failure doubles the pause.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._states: dict[str, _State] = {}

    def room(self, provider: Provider) -> int:
        """See ``Gate.room``."""
        state = self._state(provider)
        if state.pauses:
            return 0 if self._monotonic() < max(state.open_until, state.probe_until) else 1
        return self._tokens(provider, state)

    def _tokens(self, provider: Provider, state: _State) -> int:
        rate = provider.rate_per_second
        if rate is None:
            return provider.max_in_flight
        now = self._monotonic()
        state.tokens = min(max(rate, 1.0), state.tokens + (now - state.filled_at) * rate)
        state.filled_at = now
        return int(state.tokens)

    def take(self, provider: Provider, sends: int) -> None:
        """See ``Gate.take``."""
        state = self._state(provider)
        state.tokens -= sends
        if state.pauses:
            state.probe_until = self._monotonic() + PROBE_LIFE_S

    def succeeded(self, provider: Provider) -> None:
        """See ``Gate.succeeded``."""
        state = self._state(provider)
        if state.failures:
            state.failures, state.pauses, state.open_until, state.probe_until = 0, 0, 0.0, 0.0

    def failed(self, provider: Provider, *, operator: bool, retry_after: timedelta | None) -> None:
        """See ``Gate.failed``. What was in flight when the breaker opened makes no pause longer by failing too."""
        state, now = self._state(provider), self._monotonic()
        state.failures += 1
        probed, state.probe_until = now < state.probe_until, 0.0
        pause = 0.0
        if operator:
            state.pauses, pause = max(1, state.pauses), OPERATOR_PAUSE_S
        elif probed or (not state.pauses and state.failures >= TRIP_AFTER):
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * (1 << min(state.pauses, 16)))
            state.pauses += 1
        if state.pauses:
            asked = retry_after.total_seconds() if retry_after else 0.0
            state.open_until = max(state.open_until, now + max(pause, asked))

    def _state(self, provider: Provider) -> _State:
        state = self._states.get(provider.name)
        if state is None:
            state = self._states[provider.name] = _State(
                tokens=max(provider.rate_per_second or 0.0, 1.0), filled_at=self._monotonic()
            )
        return state
