"""Two ways to remember for a while: many values, of which the unused make room, and one answer that is dear to get.

And a way to have dear things done once by many who want them at the same time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from sys import maxsize
from threading import Lock
from typing import Generic, TypeVar

from vault.errors import CannotOpen, KeyUnavailable, VaultError

K = TypeVar("K")
V = TypeVar("V")
_State = tuple[V | None, Callable[[], VaultError] | None, float]


class Cache(Generic[K, V]):
    """Values bounded in number, in life and in uses. The oldest makes room, unless it was used since its last turn.

    Reading takes no lock, so that uses are counted nearly exactly. Instants are seconds of ``monotonic``.
    """

    def __init__(self, capacity: int, monotonic: Callable[[], float], *, uses: int = maxsize) -> None:
        self._capacity, self._monotonic, self._uses = capacity, monotonic, uses
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """Return a value whose life has not ended and whose uses are not used up."""
        entry = self._entries.get(key)
        if entry is None or entry.uses >= self._uses or entry.ends <= self._monotonic():
            return None
        entry.uses += 1
        return entry.value

    def put(self, key: K, value: V, ends: float) -> V:
        """Keep a value until ``ends``, and let go of what has ended or must make room."""
        with self._lock:
            self._entries.pop(key, None)
            self._make_room(self._monotonic())
            self._entries[key] = _Entry(value, ends)
        return value

    def drop(self, key: K) -> None:
        """Let go of a value, if it is there."""
        with self._lock:
            self._entries.pop(key, None)

    def drop_every(self, unwanted: Callable[[V], bool]) -> None:
        """Let go of every value of a sort; looks at all of them."""
        with self._lock:
            for key in [key for key, entry in self._entries.items() if unwanted(entry.value)]:
                del self._entries[key]

    def _make_room(self, now: float) -> None:
        while self._entries:
            oldest, entry = next(iter(self._entries.items()))
            if entry.ends > now and len(self._entries) < self._capacity:
                return
            if entry.ends > now and entry.uses > entry.uses_at_turn:
                entry.uses_at_turn = entry.uses
                self._entries.move_to_end(oldest)
            else:
                del self._entries[oldest]


class _Entry(Generic[V]):
    __slots__ = ("ends", "uses", "uses_at_turn", "value")

    def __init__(self, value: V, ends: float) -> None:
        self.value, self.ends, self.uses, self.uses_at_turn = value, ends, 0, 0


class Turns(Generic[K]):
    """One after the other for each key, all at once for different ones; a key nobody asks for takes no room."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._turns: dict[K, tuple[Lock, int]] = {}

    @contextmanager
    def of(self, key: K) -> Iterator[None]:
        """Wait for one's turn, and have it."""
        with self._lock:
            turn, waiting = self._turns.get(key, (Lock(), 0))
            self._turns[key] = (turn, waiting + 1)
        try:
            with turn:
                yield
        finally:
            with self._lock:
                _, waiting = self._turns[key]
                if waiting > 1:
                    self._turns[key] = (turn, waiting - 1)
                else:
                    del self._turns[key]


class Inquiry(Generic[V]):
    """What was said last by someone who is slow to ask: a value, or a refusal, and until when that counts.

    A value may be fallen back to beyond its end, while there is no answer at all; any answer ends that.
    """

    def __init__(self, idle_at: float) -> None:
        self._lock = Lock()
        # One attribute each, so that a reader without the lock sees one answer.
        self._state: _State[V] = (None, None, idle_at)
        self._last: tuple[V | None, float] = (None, 0.0)
        self._unanswered = False

    def held(self, now: float) -> tuple[V, float] | None:
        """Return the value with its end if it still counts; raise the refusal if that does."""
        value, refusal, ends = self._state
        if now >= ends:
            return None
        if refusal is not None:
            raise refusal()
        return None if value is None else (value, ends)

    def hold(self, value: V, ends: float, grace: float = 0.0) -> tuple[V, float]:
        """Keep a value until ``ends``, and for ``grace`` seconds more to be fallen back to."""
        self._last = (value, ends + grace)
        self._state = (value, None, ends)
        self._unanswered = False
        return value, ends

    def unanswered(self, now: float) -> V | None:
        """Return what to fall back to, if there was no answer when somebody last asked."""
        value, until = self._last
        return value if self._unanswered and now < until else None

    @property
    def asking(self) -> bool:
        """Whether somebody asks at this moment."""
        return self._lock.locked()

    def idle(self, now: float) -> bool:
        """Whether nothing here counts any more, and nobody is asking."""
        return now >= max(self._state[2], self._last[1]) and not self.asking

    @contextmanager
    def single_flight(self, monotonic: Callable[[], float], refusal_life: float) -> Iterator[tuple[V, float] | None]:
        """Be the only one who asks; gives what a quicker one was told. A refusal counts ``refusal_life`` seconds."""
        with self._lock:
            held = self.held(monotonic())
            try:
                yield held
            except (KeyUnavailable, CannotOpen) as error:
                self._unanswered = isinstance(error, KeyUnavailable) and error.transient
                if not self._unanswered:
                    self._last = (None, 0.0)
                self._state = (None, _again(error), monotonic() + refusal_life)
                raise


def _again(error: KeyUnavailable | CannotOpen) -> Callable[[], VaultError]:
    """Return a maker of equal errors: one object raised in many threads keeps the frames, and secrets, of all alive."""
    if isinstance(error, CannotOpen):
        return CannotOpen
    return partial(KeyUnavailable, error.key_id, error.reason, transient=error.transient)
