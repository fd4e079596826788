"""One look at everything Evergrant stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from vault.claims import Overdue
from vault.errors import VaultError
from vault.metrics import overdue_seconds

OK = "ok"
TOLERATED = timedelta(seconds=60)
"""A refresh may be due for this long before the system counts as unwell."""


class Health(NamedTuple):
    """One look at the whole system."""

    healthy: bool
    parts: Mapping[str, str]
    checked_at: datetime


class HealthChecking:
    """The use case behind ``vault.health_check`` and ``evergrant health``."""

    def __init__(
        self,
        probes: Mapping[str, Callable[[], str | None]],
        overdue: Callable[[], Overdue],
        clock: Callable[[], datetime],
    ) -> None:
        self._probes = probes
        self._overdue = overdue
        self._clock = clock

    def check(self) -> Health:
        """Try every part; a part in trouble is told in words, never with a secret."""
        parts = {name: self._try(probe) for name, probe in self._probes.items()}
        parts["refreshes"] = self._try(self._punctual)
        return Health(all(found == OK for found in parts.values()), parts, self._clock())

    def _try(self, probe: Callable[[], str | None]) -> str:
        try:
            return probe() or OK
        except VaultError as error:
            return f"{type(error).__name__}: {error}"
        except OSError as error:
            return f"{type(error).__name__}: {error.strerror}"

    def _punctual(self) -> str | None:
        overdue = self._overdue()
        late = overdue.late.total_seconds()
        overdue_seconds.set(late)
        if overdue.late <= TOLERATED:
            return None
        return f"{overdue.rows} refreshes are due, the oldest for {late:.0f} s: are workers running?"
