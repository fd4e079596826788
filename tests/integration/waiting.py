"""Waiting for what can be seen, and for nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 20.0


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds; a test that waits in vain fails."""
    ends = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < ends, "this never came to be"
        time.sleep(0.01)
