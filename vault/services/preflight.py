"""What does not stop work and should not be so: a look before work begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

OK: Final = "ok"
CLOCK_TOLERANCE: Final = timedelta(seconds=5)


class Preflight:
    """The use case behind ``evergrant check``, beyond what stops work anyhow."""

    def __init__(
        self,
        *,
        queue_policy: Callable[[], str | None],
        spool: Callable[[], None],
        database_clock: Callable[[], datetime],
        clock: Callable[[], datetime],
    ) -> None:
        self._queue_policy, self._spool = queue_policy, spool
        self._database_clock, self._clock = database_clock, clock

    def run(self) -> Mapping[str, str]:
        """Say ``ok`` of each part, or what is wrong with it. Raises ``QueueUnavailable``, ``StoreUnavailable``."""
        return {"redis": self._queue_policy() or OK, "clock": self._clocks(), "spool": self._disk()}

    def _disk(self) -> str:
        try:
            self._spool()
        except OSError as error:
            return f"nothing can be written to {error.filename}: {error.strerror}"
        return OK

    def _clocks(self) -> str:
        ahead = self._clock() - self._database_clock()
        if abs(ahead) <= CLOCK_TOLERANCE:
            return OK
        direction = "ahead of" if ahead > timedelta(0) else "behind"
        seconds = abs(ahead).total_seconds()
        return f"this machine's clock is {seconds:.0f} s {direction} the database's, by which grants are due"
