"""One look at everything Evergrant stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from vault.claims import Overdue
from vault.errors import VaultError
from vault.metrics import audit_lag_seconds, overdue_seconds, rotations_stuck, workers_alive
from vault.ports import SignStore

OK = "ok"
UNSEEN: Final = "not seen with the rights of this process: ask a worker's"
"""Said of what is about all tenants, where only one's rows are shown; it makes nothing degraded."""
OF_ALL: Final = frozenset({"workers", "refreshes", "rotations", "audit", "events"})
"""Parts that are about all tenants."""
TOLERATED = timedelta(seconds=60)
"""A refresh may be due for this long before the system counts as unwell."""
AUDIT_TOLERATED: Final = timedelta(minutes=10)
"""So old may an act be that is not linked, if linking is not meant to be rarer; a long transaction delays it."""
ROTATION_TOLERATED: Final = timedelta(minutes=10)
ROTATION_TRIES: Final = 5
"""Of one step, before somebody should look at it; it goes on being tried."""


class Health(NamedTuple):
    """One look at the whole system."""

    healthy: bool
    parts: Mapping[str, str]
    """Of each ``ok``, ``UNSEEN``, or what is wrong with it in words."""
    checked_at: datetime
    lag: float = 0.0
    """Seconds for which the oldest refresh has been due and in nobody's hands."""
    audit_lag: float = 0.0
    """Seconds since the oldest act was told that is not linked to its chain."""
    workers: tuple[str, ...] = ()
    """Those that are alive, by name."""

    @property
    def status(self) -> str:
        """``healthy`` or ``degraded``."""
        return "healthy" if self.healthy else "degraded"

    @property
    def told(self) -> Mapping[str, str]:
        """Of each part ``ok``, ``unseen`` or ``trouble``: for anybody, as it gives nothing away."""
        words = {OK: "ok", UNSEEN: "unseen"}
        return {name: words.get(found, "trouble") for name, found in self.parts.items()}


class HealthChecking:
    """The use case behind ``vault.health_check`` and ``evergrant health``."""

    def __init__(
        self,
        probes: Mapping[str, Callable[[], str | None]],
        *,
        overdue: Callable[[], Overdue],
        audit_lag: Callable[[], timedelta],
        audit_interval: timedelta,
        signs: SignStore,
        sees_all: Callable[[], bool],
        clock: Callable[[], datetime],
    ) -> None:
        self._probes, self._overdue, self._signs, self._clock = probes, overdue, signs, clock
        self._sees_all = sees_all
        self._audit_lag, self._audit_patience = audit_lag, max(AUDIT_TOLERATED, 3 * audit_interval)

    def check(self) -> Health:
        """Try every part; a part in trouble is told in words, never with a secret."""
        look = _Look(self._signs, self._overdue, self._audit_lag, self._audit_patience)
        looks = {name: getattr(look, name) for name in ("workers", "refreshes", "rotations", "audit")}
        unseen = self._unseen()
        parts = {n: UNSEEN if n in unseen else self._try(probe) for n, probe in {**self._probes, **looks}.items()}
        healthy = all(found in (OK, UNSEEN) for found in parts.values())
        return Health(healthy, parts, self._clock(), look.lag, look.behind, tuple(look.alive))

    def _unseen(self) -> frozenset[str]:
        try:
            return frozenset() if self._sees_all() else OF_ALL
        except VaultError:
            return frozenset()  # each part says so itself

    def _try(self, probe: Callable[[], str | None]) -> str:
        try:
            return probe() or OK
        except VaultError as error:
            return f"{type(error).__name__}: {error}"
        except OSError as error:
            return f"{type(error).__name__}: {error.strerror}"


class _Look:
    """What takes a number with it, beside the words."""

    def __init__(
        self, signs: SignStore, overdue: Callable[[], Overdue], lag: Callable[[], timedelta], patience: timedelta
    ) -> None:
        self._signs, self._overdue, self._lag, self._patience = signs, overdue, lag, patience
        self.lag = self.behind = 0.0
        self.alive: Sequence[str] = ()

    def workers(self) -> str | None:
        """Say that nobody is there."""
        self.alive = self._signs.alive()
        workers_alive.set(len(self.alive))
        return None if self.alive else "no worker has given a sign of life: start one with celery -A worker worker"

    def refreshes(self) -> str | None:
        """Say that they are late."""
        overdue = self._overdue()
        self.lag = overdue.late.total_seconds()
        overdue_seconds.set(self.lag)
        if overdue.late <= TOLERATED:
            return None
        return f"{overdue.rows} refreshes are due, the oldest for {self.lag:.0f} s: are workers running?"

    def rotations(self) -> str | None:
        """Say that some do not move."""
        number, longest = self._signs.stuck_rotations(ROTATION_TOLERATED, ROTATION_TRIES)
        rotations_stuck.set(number)
        if not number:
            return None
        due = f", one is due for {longest.total_seconds():.0f} s" if longest > ROTATION_TOLERATED else ""
        return f"{number} rotations of credentials do not come on{due}: evergrant audit tail says what was tried"

    def audit(self) -> str | None:
        """Say that chains lag behind."""
        lag = self._lag()
        self.behind = lag.total_seconds()
        audit_lag_seconds.set(self.behind)
        if lag <= self._patience:
            return None
        return f"the oldest act that is not linked was told {self.behind:.0f} s ago: is a transaction open for long?"
