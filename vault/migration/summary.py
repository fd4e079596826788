"""What a run of a migration has done, and the counting of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

EXAMPLES: Final = 5
"""Keys told for each reason; whatever failed fails again in the next run."""
SKIPPED: Final = "no_credential"
"""The one reason that is no failure: an owner who never connected, or whose row was cleared."""
OUTCOMES: Final = ("ok", "already", "skipped", "failed")


class Trouble(NamedTuple):
    """Rows that could not be moved, or not be cleared, for one reason."""

    rows: int
    keys: tuple[str, ...]
    """The first few of them; never a value."""


class MigrationSummary(NamedTuple):
    """What a run has done; ``ok``, ``already``, ``skipped`` and ``failed`` add up to the rows looked at."""

    total: int = 0
    """Rows of the source; while a run is at work, as counted at its beginning."""
    ok: int = 0
    """Moved, and cleared if that was asked for; by a dry run: fit to be moved."""
    already: int = 0
    """Moved by an earlier run."""
    skipped: int = 0
    """Without any token."""
    failed: int = 0
    """``errors`` has the reasons."""
    credentials: int = 0
    """Tokens moved; by a dry run: fit to be moved."""
    cleared: int = 0
    """Rows of the source whose tokens were removed there, after reading back."""
    seconds: float = 0.0
    errors: Mapping[str, Trouble] = MappingProxyType({})
    """By reason; docs/migration.md lists them."""

    @property
    def done(self) -> int:
        """Rows looked at."""
        return self.ok + self.already + self.skipped + self.failed

    def counts(self) -> dict[str, int]:
        """Return what can be added up over several runs."""
        numbers = {name: getattr(self, name) for name in (*OUTCOMES, "credentials", "cleared")}
        return {**numbers, **{reason: trouble.rows for reason, trouble in self.errors.items()}}


class Tally:
    """Counts a run: each row ends in one way, and the last word about it is the one that counts."""

    def __init__(self, total: int = 0) -> None:
        self.summary = MigrationSummary(total=total)
        self._ends: dict[str, tuple[str, str]] = {}

    def end(self, cursor: str, key: str, how: str) -> None:
        """Note that a row of the batch at hand ended in one of ``OUTCOMES``, or failed for a reason."""
        self._ends[cursor] = (key, "skipped" if how == SKIPPED else how)

    def add(self, **more: int) -> None:
        """Add to what is not counted by rows."""
        self.summary = self.summary._replace(**{name: getattr(self.summary, name) + n for name, n in more.items()})

    def close(self, seconds: float) -> MigrationSummary:
        """Count the batch at hand, and return where the run stands after so many seconds."""
        counts = {name: getattr(self.summary, name) for name in OUTCOMES}
        errors = dict(self.summary.errors)
        for key, how in self._ends.values():
            counts[how if how in counts else "failed"] += 1
            if how not in counts:
                known = errors.get(how, Trouble(0, ()))
                errors[how] = Trouble(known.rows + 1, (*known.keys, key[:200])[:EXAMPLES])
        self._ends.clear()
        self.summary = self.summary._replace(errors=errors, seconds=seconds, **counts)
        return self.summary


def added(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Return the sums of two sets of counts."""
    return {name: counts.get(name, 0) + more.get(name, 0) for name in {**counts, **more}}
