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
"""When our own registration is refused: nothing gets better by asking (PROVIDERS, class "operator")."""


@dataclass(slots=True)
class _State:
    failures: int = 0
    open_until: float = 0.0
    probing: bool = False
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
        if state.failures >= TRIP_AFTER:
            if self._monotonic() < state.open_until or state.probing:
                return 0
            return 1
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
        state.probing = state.failures >= TRIP_AFTER

    def succeeded(self, provider: Provider) -> None:
        """See ``Gate.succeeded``."""
        state = self._state(provider)
        if state.failures:
            state.failures, state.probing, state.open_until = 0, False, 0.0

    def failed(self, provider: Provider, *, operator: bool, retry_after: timedelta | None) -> None:
        """See ``Gate.failed``."""
        state = self._state(provider)
        state.failures = TRIP_AFTER if operator else state.failures + 1
        state.probing = False
        if state.failures >= TRIP_AFTER:
            doublings = min(state.failures - TRIP_AFTER, 16)
            pause = OPERATOR_PAUSE_S if operator else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * (1 << doublings))
            if retry_after is not None:
                pause = max(pause, retry_after.total_seconds())
            state.open_until = self._monotonic() + pause

    def _state(self, provider: Provider) -> _State:
        state = self._states.get(provider.name)
        if state is None:
            state = self._states[provider.name] = _State(
                tokens=max(provider.rate_per_second or 0.0, 1.0), filled_at=self._monotonic()
            )
        return state
