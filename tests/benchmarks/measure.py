"""Timing contenders side by side: in turns, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import gc
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

Call = Callable[[], object]


class Effort(NamedTuple):
    """How much is measured: a share of the full counts."""

    share: float = 1.0
    ten_million: bool = False

    def of(self, full: int, least: int = 1) -> int:
        """Return this effort's part of a full count."""
        return max(least, int(full * self.share))


class Timing(NamedTuple):
    """What one call of a contender took, round by round. Microseconds; CPU is this process's alone."""

    medians: list[float]
    cpus: list[float]
    p99: float

    @property
    def median(self) -> float:
        """The median of the rounds' medians."""
        return statistics.median(self.medians)

    @property
    def cpu(self) -> float:
        """The median round's CPU time a call."""
        return statistics.median(self.cpus)

    def beside(self, other: Timing) -> float:
        """Return the ratio to another contender of the same run: the median of what each round says.

        A machine that is now quick and now slow is nearly the same for all within one round.
        """
        return _ratio(self.medians, other.medians)

    def cpu_beside(self, other: Timing) -> float:
        """As ``beside``, of CPU time."""
        return _ratio(self.cpus, other.cpus)

    def for_each_of(self, many: int) -> Timing:
        """Return what one took of several done together."""
        return Timing([m / many for m in self.medians], [c / many for c in self.cpus], self.p99 / many)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def interleaved(contenders: Mapping[str, Call], *, calls: int, rounds: int, lap: int = 1) -> dict[str, Timing]:
    """Time each contender `calls` times in each of `rounds` rounds, in a new order every round.

    Args:
        contenders: name to what is called.
        calls: timed laps a round.
        rounds: many short ones give steadier ratios than few long ones.
        lap: calls timed together, for what is too quick to be timed by itself.
    """
    for call in contenders.values():
        for _ in range(3):
            call()
    medians: dict[str, list[float]] = {name: [] for name in contenders}
    laps: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    gc.collect()
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            busy = time.process_time_ns()
            took = _laps(contenders[name], calls, lap)
            cpu[name].append((time.process_time_ns() - busy) / (calls * lap * 1e3))
            medians[name].append(statistics.median(took))
            laps[name].extend(took)
    return {name: Timing(medians[name], cpu[name], percentile(laps[name], 0.99)) for name in contenders}


def _laps(call: Call, calls: int, lap: int) -> list[float]:
    clock = time.perf_counter_ns
    took = []
    for _ in range(calls):
        began = clock()
        for _ in repeat(None, lap):
            call()
        took.append((clock() - began) / (lap * 1e3))
    return took


def percentile(values: list[float], share: float) -> float:
    """Return the value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of all its descendants, by /proc; 0 where there is none (macOS)."""
    total, wanted = 0.0, {pid}
    for fields in sorted(_processes(), key=lambda fields: int(fields[0])):
        if int(fields[0]) in wanted or int(fields[3]) in wanted:
            wanted.add(int(fields[0]))
            total += (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return total


def _processes() -> list[list[str]]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = path.read_text().partition(" (")
        except OSError:
            continue
        found.append([number, "", *rest.rpartition(") ")[2].split()])
    return found
