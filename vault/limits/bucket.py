"""Token buckets for the rates of providers: in this process, or one for all processes, in Redis."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final, Protocol

from vault.limits.board import Board

SLICE_S: Final = 0.05
"""So much of a rate is taken out of the shared bucket at a time: as much as may be sent in one burst."""
SHARE: Final = 1 - SLICE_S
"""Of a rate that the bucket fills with: with a burst before it, no second has more in it than the rate."""
KEPT_S: Final = 0.25
"""What was taken out and not used for so long is not used any more."""
ASK_EVERY_S: Final = 0.02
"""How often an empty bucket is asked."""


class Bucket(Protocol):
    """How much of a rate may be used now."""

    def tokens(self, name: str, rate: float) -> int:
        """How many sends a provider's rate allows now."""

    def take(self, name: str, rate: float, sends: int) -> None:
        """Count sends."""


class _Level:
    def __init__(self, tokens: float, filled_at: float) -> None:
        self.tokens, self.filled_at = tokens, filled_at


class LocalBucket:
    """One process's bucket: it saves up for one second."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._levels: dict[str, _Level] = {}

    def tokens(self, name: str, rate: float) -> int:
        """See ``Bucket.tokens``."""
        level, now = self._level(name, rate), self._monotonic()
        level.tokens = min(max(rate, 1.0), level.tokens + (now - level.filled_at) * rate)
        level.filled_at = now
        return int(level.tokens)

    def take(self, name: str, rate: float, sends: int) -> None:
        """See ``Bucket.take``."""
        self._level(name, rate).tokens -= sends

    def _level(self, name: str, rate: float) -> _Level:
        level = self._levels.get(name)
        if level is None:
            level = self._levels[name] = _Level(max(rate, 1.0), self._monotonic())
        return level


class SharedBucket:
    """A bucket that all processes take slices out of; while Redis is away each has one of its own."""

    def __init__(self, board: Board, monotonic: Callable[[], float]) -> None:
        self._board, self._monotonic = board, monotonic
        self._alone = LocalBucket(monotonic)
        self._held: dict[str, _Level] = {}
        self._ask_at: dict[str, float] = {}

    def tokens(self, name: str, rate: float) -> int:
        """See ``Bucket.tokens``."""
        now = self._monotonic()
        held = self._held.get(name)
        if held is not None and held.tokens >= 1 and now - held.filled_at < KEPT_S:
            return int(held.tokens)
        if now < self._ask_at.get(name, 0.0):
            return 0
        slice_ = max(1, ceil(rate * SLICE_S))
        granted = self._board.withdraw(name, rate * SHARE, slice_)
        if granted is None:
            self._held.pop(name, None)
            return min(slice_, self._alone.tokens(name, rate))
        if not granted:
            self._ask_at[name] = now + ASK_EVERY_S
        self._held[name] = _Level(granted, now)
        return granted

    def take(self, name: str, rate: float, sends: int) -> None:
        """See ``Bucket.take``."""
        held = self._held.get(name)
        if held is not None:
            held.tokens -= sends
        else:
            self._alone.take(name, rate, sends)
