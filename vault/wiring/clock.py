"""The clock that intervals are measured with."""

from __future__ import annotations

import time

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""On Linux a clock that also runs while the machine sleeps, as leases do."""


def monotonic() -> float:
    """Seconds that never go back."""
    return time.clock_gettime(CLOCK)
