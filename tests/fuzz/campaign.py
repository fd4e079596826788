"""Trying, judging and counting; in chunks, each of which can be run again by its number."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count

from tests.fuzz.corpus import Target, targets
from tests.fuzz.mutate import Chance, Mutator

CHUNK = 20_000
PROCESSES = 2
SHARES = {"envelopes": 12, "wrapped keys": 3, "v2 texts": 2, "v1 texts": 1, "v2 foreign": 1, "strings": 1}
SHOWN = 20
"""Failures that are kept to be looked at."""


@dataclass
class Report:
    """What was thrown, and what came out: by target and outcome."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: Report) -> None:
        """Take another's counts in."""
        self.outcomes += other.outcomes
        self.failures = (self.failures + other.failures)[:SHOWN]

    def count(self, outcome: str) -> int:
        """How often something came out, of all targets."""
        return sum(number for (_, each), number in self.outcomes.items() if each == outcome)

    @property
    def cases(self) -> int:
        """How many were thrown."""
        return self.outcomes.total()

    @property
    def passed(self) -> bool:
        """Whether nothing came out that must not, and every opener opened what is genuine."""
        opened = all(self.outcomes[name, "genuine opened"] for name in SHARES)
        return opened and not (self.count("wrong") or self.count("other error"))


def run_chunk(seed: str, number: int, cases: int = CHUNK, among: Sequence[Target] | None = None) -> Report:
    """Throw so many; the same for the same seed and number."""
    report, chance = Report(), Chance(f"{seed}/{number}")
    found = among or _targets(seed)
    mutators = {target.name: (target, Mutator(target, chance)) for target in found}
    names = chance.choices([*mutators], [SHARES[name] for name in mutators], k=cases)
    for name in names:
        target, mutator = mutators[name]
        sealed, place = mutator.one()
        outcome = _outcome(target, sealed, place)
        report.outcomes[name, outcome] += 1
        if outcome in ("wrong", "other error") and len(report.failures) < SHOWN:
            report.failures.append(f"{outcome}: {name}, chunk {number} of seed {seed}: {sealed!r}")
    return report


def _outcome(target: Target, sealed: object, place: object) -> str:
    genuine = target.is_genuine(sealed, place)
    try:
        plaintext = target.open(sealed, place)
    except target.errors:
        return "wrong" if genuine else "refused"
    except Exception:  # noqa: BLE001  # whatever it is, it must not be
        return "other error"
    if genuine:
        return "genuine opened" if plaintext == target.genuine[sealed][1] else "wrong"
    return "harmless" if target.may_open(sealed, place, plaintext) else "wrong"


@lru_cache(maxsize=1)
def _targets(seed: str) -> list[Target]:
    return targets(seed)


def run(seed: str, cases: int | None, seconds: float | None, tell: Callable[[Report], None]) -> Report:
    """Throw so many, or for so long, in two processes; ``tell`` is told how far it is."""
    report, began = Report(), time.monotonic()
    numbers = _numbers(cases, None if seconds is None else began + seconds)
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        running: set[Future[Report]] = set()
        for number, size in numbers:
            running.add(pool.submit(run_chunk, seed, number, size))
            if len(running) > PROCESSES:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                _take(report, done, began, tell)
        _take(report, running, began, tell)
    return report


def _take(report: Report, done: set[Future[Report]], began: float, tell: Callable[[Report], None]) -> None:
    for future in done:
        report.add(future.result())
        report.seconds = time.monotonic() - began
        tell(report)


def _numbers(cases: int | None, until: float | None) -> Iterator[tuple[int, int]]:
    """Chunks to run, and their sizes."""
    for number in count():
        left = CHUNK if cases is None else min(CHUNK, cases - number * CHUNK)
        if left <= 0 or (until is not None and time.monotonic() >= until):
            return
        yield number, left
