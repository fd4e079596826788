"""The clock that intervals are measured with, and the one that says what time it is out there."""

from __future__ import annotations

import time
from datetime import UTC, datetime

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""On Linux a clock that also runs while the machine sleeps, as leases do."""


def monotonic() -> float:
    """Seconds that never go back."""
    return time.clock_gettime(CLOCK)


def utc() -> datetime:
    """Return the time of this host, for what is said to others; what is due the database's clock decides."""
    return datetime.now(UTC)
