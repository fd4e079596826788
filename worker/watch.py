"""When the pulse rings, and when it helps itself: told from what is overdue, and from nothing else.

Whoever refreshes takes the oldest rows first, so work that goes on shows in this: the oldest row that is due is another
one than before. While it is, nobody needs to be told again.
"""

from __future__ import annotations

from typing import NamedTuple

RING_AGAIN_SCANS = 2
"""After so many scan intervals without any change a ring counts as lost."""
PATIENCE_SCANS = 3
"""And after so many nobody is at work."""
SAME_S = 0.1
"""Two looks at one row agree to so many seconds about when it was due."""
LONGEST_PAUSE_S = 300.0


class Advice(NamedTuple):
    """What to do after one look."""

    ring: bool
    help: bool


class Watch:
    """Remembers what was overdue, and what was done about it. All instants are seconds of one monotonic clock."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._oldest: float | None = None
        self._changed_at = 0.0
        self._rung_at: float | None = None
        self._help_from = 0.0
        self._pause = interval

    def look(self, now: float, rows: int, late: float) -> Advice:
        """Take in what is overdue now.

        Args:
            now: When it was looked at.
            rows: How many rows are due and in nobody's hands.
            late: For how many seconds the oldest of them has been due.
        """
        if not rows:
            self._oldest = self._rung_at = None
            return Advice(ring=False, help=False)
        oldest = now - late
        if self._oldest is None or abs(oldest - self._oldest) > SAME_S:
            self._oldest, self._changed_at = oldest, now
        unchanged = now - self._changed_at
        answered = self._rung_at is None or oldest > self._rung_at
        lost = unchanged >= RING_AGAIN_SCANS * self._interval and not self._rang_within(RING_AGAIN_SCANS, now)
        if answered or lost:
            self._rung_at = now
        stuck = unchanged >= PATIENCE_SCANS * self._interval
        return Advice(ring=answered or lost, help=stuck and now >= self._help_from)

    def helped(self, now: float, *, refreshed: int) -> None:
        """Take in how helping ended: when it brought nothing, the next time comes later, and ever later."""
        self._pause = self._interval if refreshed else min(2 * self._pause, LONGEST_PAUSE_S)
        self._help_from = now + self._pause

    def _rang_within(self, scans: int, now: float) -> bool:
        return self._rung_at is not None and now - self._rung_at < scans * self._interval
