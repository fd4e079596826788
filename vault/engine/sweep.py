"""One run over many rows: what was done, what could not be, how fast to go, and when to give up."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Final, NamedTuple, TypeVar

import structlog

from vault.errors import CannotOpen, KeyUnavailable

log = structlog.get_logger(__name__)

BATCH: Final = 200
"""Rows a transaction."""
OUTAGE: Final = 3
"""So many tenants in a row whose KEK does not answer are an outage: the run ends, to be tried again later."""
REMEMBERED: Final = 10_000
"""Rows that could not be done and are known when they are met again; beyond that one may be counted twice."""

R = TypeVar("R")
C = TypeVar("C")


class Progress(NamedTuple):
    """How far one run has come."""

    keys: int = 0
    """Tenant keys rewrapped, or keys replaced."""
    rows: int = 0
    """Rows re-sealed under a new data key, or data keys rewrapped under a new tenant key."""
    cannot_open: int = 0
    """Keys and rows that are damaged or not what their row says: an integrity alarm. They were left as they are."""
    refused: int = 0
    """Keys and rows whose KEK could not be had. They were left as they are, for a later run."""


Report = Callable[[Progress], object]
Pace = Callable[[int], None]
"""Told how many rows were done; returns when the next may begin."""


def to_nobody(_: Progress) -> None:
    """Report to nobody."""


def flat_out(_: int) -> None:
    """Never wait."""


def paced(rate: float, monotonic: Callable[[], float], sleep: Callable[[float], None]) -> Pace:
    """Return a pace of ``rate`` rows a second, counted from its first use after a rest."""
    ready_at = 0.0

    def wait(rows: int) -> None:
        nonlocal ready_at
        now = monotonic()
        ready_at = max(ready_at, now) + rows / rate
        if ready_at - rows / rate > now:
            sleep(ready_at - rows / rate - now)

    return wait


def pages(read: Callable[[int, C | None], list[R]], cursor: Callable[[R], C]) -> Iterator[list[R]]:
    """Go once through what is left, in batches; what could not be done is not read again."""
    after: C | None = None
    while rows := read(BATCH, after):
        yield rows
        after = cursor(rows[-1])


class Run:
    """The tally of one run, and whether to go on."""

    def __init__(self, progress: Report) -> None:
        self.done = Progress()
        self._told: Progress | None = None
        self._progress = progress
        self._unanswered: KeyUnavailable | None = None
        self._silent_tenants: set[str] = set()
        self._undone: set[Hashable] = set()

    def attempt(self, tenant: str, row: Hashable, work: Callable[[], R]) -> R | None:
        """Do one row's work; None: it cannot be done now. Raises ``KeyUnavailable`` in an outage of the KMS."""
        try:
            result = work()
        except CannotOpen:
            self._count_once(row, cannot_open=1)
            return None
        except KeyUnavailable as error:
            self._count_once(row, refused=1)
            if error.transient:
                self._unanswered = error
                self._silent_tenants.add(tenant)
            if len(self._silent_tenants) >= OUTAGE:
                raise
            return None
        self._silent_tenants.clear()
        return result

    def _count_once(self, row: Hashable, *, cannot_open: int = 0, refused: int = 0) -> None:
        if row not in self._undone:
            self.add(cannot_open=cannot_open, refused=refused)
            if len(self._undone) < REMEMBERED:
                self._undone.add(row)

    def add(self, *, keys: int = 0, rows: int = 0, cannot_open: int = 0, refused: int = 0) -> None:
        """Count."""
        more = (keys, rows, cannot_open, refused)
        self.done = Progress(*(had + got for had, got in zip(self.done, more, strict=True)))

    def report(self) -> None:
        """Tell whoever watches, unless nothing is new."""
        if self.done != self._told:
            self._told = self.done
            self._progress(self.done)

    def end(self, event: str) -> None:
        """Report and log how it ended, and raise if trying again will help."""
        self.report()
        undone = self.done.cannot_open or self.done.refused
        (log.error if undone else log.info)(event, **self.done._asdict())
        if self._unanswered is not None:
            raise self._unanswered
