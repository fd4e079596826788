"""Starts rotations and kills them: whenever, and at named points."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.rotation import deaths
from tests.rotation.plan import ADD_KEK, WORK, Plan
from tests.rotation.processes import KILLED, Doom, Running, command, start

START_S = 60.0
"""A process that has not come to its work after this hangs."""


class Killing:
    """Several slots, in each of which one process after another works and dies."""

    def __init__(self, plan: Plan, environment: Mapping[str, str], home: Path) -> None:
        self._plan, self._environment = plan, environment
        self.log = home / "commands.log"
        self._switch, self._deaths = home / "failpoints.on", home / "deaths"
        self._odds, self._places = deaths.odds(plan.busy_point, plan.rare_point), home / "places"
        self._places.mkdir()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.kills: Counter[str] = Counter()
        """By command."""
        self.places: Counter[str] = Counter()
        """Where they were: the last point that each had come to."""
        self.finished: Counter[str] = Counter()
        """Those that came to their end before it was their turn to die."""
        self.failed: Counter[str] = Counter()
        """Those that ended with an error, which they are not to do."""

    def run(self) -> bool:
        """Go on until enough have died; False: it took too long."""
        self._switch.touch()
        until = time.monotonic() + self._plan.longest
        slots = [threading.Thread(target=self._slot, args=(n, until)) for n in range(self._plan.side_by_side)]
        for slot in slots:
            slot.start()
        for slot in slots:
            slot.join()
        self._switch.unlink()
        return self.kills.total() >= self._plan.kills

    def undisturbed(self, *words: str) -> None:
        """Run a command to its end."""
        running, _ = self._start(self._named(words))
        running.process.join()
        (self.failed if running.process.exitcode else self.finished)[" ".join(words)] += 1

    def at_points(self) -> Counter[str]:
        """How often a process died at each named point."""
        if not self._deaths.exists():
            return Counter()
        return Counter(line.split()[0] for line in self._deaths.read_text().splitlines())

    def _slot(self, number: int, until: float) -> None:
        choose = random.Random(number)
        while self.kills.total() < self._plan.kills and time.monotonic() < until:
            words = choose.choices(list(WORK), list(WORK.values()))[0]
            outcome = self._one(self._named(words), choose.expovariate(1 / self._plan.life))
            with self._lock:
                outcome[" ".join(words)] += 1

    def _one(self, words: Sequence[str], life: float) -> Counter[str]:
        """Let one process live for so long; returns the tally that counts its end."""
        running, place = self._start(words)
        if not running.line.poll(START_S):
            running.kill()
            return self.failed
        running.process.join(life)
        running.kill()
        running.line.close()
        if running.process.exitcode == KILLED:
            with self._lock:
                self.places[place.read_text().strip()] += 1
            return self.kills
        return self.failed if running.process.exitcode else self.finished

    def _start(self, words: Sequence[str]) -> tuple[Running, Path]:
        place = self._places / str(next(self._numbers))
        doom = Doom(self._switch, self._deaths, self._odds, place)
        return start(command, self._environment, words, self.log, doom), place

    def _named(self, words: Sequence[str]) -> Sequence[str]:
        return (*words, f"kek-{next(self._numbers)}") if tuple(words) == ADD_KEK else words
