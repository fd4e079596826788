"""Telling the audit of tokens that were read over HTTP, without letting the reader wait for it.

The first read of a connection with a key is told within a second; those that follow within a minute are counted, and
told as one number at its end. A process that is killed takes what it had counted with it.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from datetime import datetime
from threading import Event, Lock, Thread
from typing import Final
from uuid import UUID

import structlog

from vault.forks import in_children
from vault.metrics import http_reads_untold
from vault.ports import ApiKeyStore, ReadCount, ReadStore

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
WINDOW_S: Final = 60.0
MOST: Final = 100_000
"""Pairs of key and connection that are remembered; at that all are told before their minute is over, then forgotten.
A reader waits for it, and is refused when the audit takes none."""


class _Count:
    __slots__ = ("reads", "since", "tenant", "until")

    def __init__(self, tenant: str, since: datetime) -> None:
        self.tenant, self.since, self.reads = tenant, since, 0
        self.until: float | None = None
        """When what was counted is told; None: at the next look."""


class ReadLog:
    """Counts reads and tells of them, from a thread of its own that begins with the first. Thread-safe."""

    def __init__(
        self, reads: ReadStore, keys: ApiKeyStore, *, clock: Callable[[], datetime], monotonic: Callable[[], float]
    ) -> None:
        self._reads, self._keys, self._clock, self._monotonic = reads, keys, clock, monotonic
        self._begin_anew()
        in_children(self._begin_anew)

    def _begin_anew(self) -> None:
        self._lock, self._telling, self._end = Lock(), Lock(), Event()
        self._counts: dict[tuple[int, int], _Count] = {}
        self._used: dict[UUID, float] = {}
        self._thread: Thread | None = None

    def read(self, tenant: str, key_id: UUID, connection_id: UUID) -> None:
        """Count a read. Raises ``StoreUnavailable``: the audit has not taken any for too long."""
        if len(self._counts) >= MOST:
            self.tell()
        pair = (key_id.int, connection_id.int)
        with self._lock:
            count = self._counts.get(pair)
            if count is None:
                count = self._counts[pair] = _Count(tenant, self._clock())
            elif not count.reads:
                count.since = self._clock()
            count.reads += 1
        self._begin()

    def used(self, key_id: UUID) -> None:
        """Note that a key was used, to be written down once a minute."""
        last = self._used.get(key_id)
        if last is None or self._monotonic() - last > WINDOW_S:
            with self._lock:
                self._used[key_id] = -1.0
            self._begin()

    def _begin(self) -> None:
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                self._end.clear()
                self._thread = Thread(target=self._tell_on, args=(self._end,), name="evergrant-reads", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def _tell_on(self, end: Event) -> None:
        while not end.wait(LOOK_S):
            self._try(everything=False)

    def _try(self, *, everything: bool) -> None:
        try:
            self.tell(everything=everything)
        except Exception as error:  # noqa: BLE001  # whatever it is: it is tried again, or nobody would tell any more
            log.warning("reads.untold", error=type(error).__name__, pairs=len(self._counts))

    def tell(self, *, everything: bool = False) -> None:
        """Tell of what is to be told by now, or of everything. Raises ``StoreUnavailable``: it is kept."""
        with self._telling:
            self._tell_uses()
            due = self._take(everything=everything)
            try:
                if due:
                    self._reads.tell_reads(list(due.values()))
            except BaseException:
                self._give_back(due)
                raise
            finally:
                http_reads_untold.set(sum(count.reads for count in list(self._counts.values())))

    def _take(self, *, everything: bool) -> dict[tuple[int, int], ReadCount]:
        now, due = self._monotonic(), dict[tuple[int, int], ReadCount]()
        with self._lock:
            everything = everything or len(self._counts) >= MOST
            for pair, count in list(self._counts.items()):
                if not everything and count.until is not None and now < count.until:
                    continue
                if count.reads:
                    key_id, connection_id = (UUID(int=number) for number in pair)
                    due[pair] = ReadCount(count.tenant, key_id, connection_id, count.reads, count.since)
                    count.reads, count.until = 0, now + WINDOW_S
                else:
                    del self._counts[pair]
        return due

    def _give_back(self, due: dict[tuple[int, int], ReadCount]) -> None:
        with self._lock:
            for pair, told in due.items():
                count = self._counts.setdefault(pair, _Count(told.tenant, told.since))
                count.reads, count.since, count.until = count.reads + told.reads, told.since, None

    def _tell_uses(self) -> None:
        now = self._monotonic()
        with self._lock:
            fresh = [key_id for key_id, at in self._used.items() if at < 0]
            for key_id in [key_id for key_id, at in self._used.items() if 0 <= at < now - WINDOW_S]:
                del self._used[key_id]
        if fresh:
            self._keys.keys_used(fresh)
            with self._lock:
                self._used.update(dict.fromkeys(fresh, now))

    def close(self) -> None:
        """Tell of everything, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._end.set()
        thread.join(LOOK_S * 5)
        self._try(everything=True)
        atexit.unregister(self.close)
