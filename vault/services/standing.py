"""How things stand, in numbers and connection by connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from vault.errors import UnknownConnection
from vault.ports import ConditionStore, Miscounted, StatisticsStore, Sweep
from vault.standing.condition import ConnectionHealth, HealthSummary
from vault.standing.figures import CacheUse, Statistics, statistics

FOLDED_AT_ONCE: Final = 50_000
MOST_FOLDS: Final = 200
PAGE: Final = 5_000
"""Connections looked at by one statement."""
EARLY: Final = 0.9
"""Who asks once in a time may ask a little early, and means it."""


class Counting:
    """The use cases behind ``statistics()`` and ``vault.statistics``."""

    def __init__(self, store: StatisticsStore, conditions: ConditionStore, cache: Callable[[], CacheUse]) -> None:
        self._store, self._conditions, self._cache = store, conditions, cache

    def read(self, tenant: str | None) -> Statistics:
        """Read all figures. Raises ``StoreUnavailable``."""
        _, last, _ = self._conditions.sweep(tenant)
        return statistics(tenant, self._store.counted(tenant), self._cache(), last)

    def fold(self) -> int:
        """Add up differences until there are none, or somebody else is at it; returns how many were added."""
        folded = 0
        for _ in range(MOST_FOLDS):
            number, more = self._store.fold(FOLDED_AT_ONCE)
            folded += number
            if not more:
                break
        return folded

    def recount(self) -> Sequence[Miscounted]:
        """Count anew, mend, and return what was wrong."""
        wrong = self._store.recount()
        self.fold()
        return wrong


class Inspecting:
    """The use cases behind ``connection_health()`` and ``vault.health_check_all``. Any number may run at a time."""

    def __init__(self, store: ConditionStore, *, patience: timedelta, monotonic: Callable[[], float]) -> None:
        """Nothing is read yet.

        Args:
            store: Knows how connections are.
            patience: For so long a refresh may be due without being late.
            monotonic: Seconds of a clock that never goes back.
        """
        self._store, self._patience, self._monotonic = store, patience, monotonic

    def one(self, tenant: str, connection_id: UUID) -> ConnectionHealth:
        """Look at one connection. Raises ``UnknownConnection``."""
        found = self._store.condition(tenant, connection_id, self._patience)
        if found is None:
            raise UnknownConnection(connection_id)
        return found

    def every(
        self, tenant: str | None, budget: timedelta | None, progress: Callable[[HealthSummary], object], *, anew: bool
    ) -> HealthSummary:
        """Go on with looking at all connections, or begin.

        Args:
            tenant: Only this one's.
            budget: After so long no further page is begun; None: until all were looked at.
            progress: Told after each page.
            anew: Begin from the first one, also when somebody is under way.

        Returns:
            What was found so far; with its end, if it has come. Somebody else may be going on with it meanwhile.
        """
        going, _, _ = self._store.sweep(tenant)
        if going is None or anew:
            begun = self._store.begin_sweep(tenant, going)
            going = begun or self._store.sweep(tenant)[0]
        until = None if budget is None else self._monotonic() + budget.total_seconds()
        while going is not None:
            groups, last = self._store.conditions(tenant, going.place, PAGE, self._patience)
            found = going.found.with_rows(groups)
            progress(found)
            if last is None:
                ended = self._store.end_sweep(tenant, going, found)
                return ended or self._of_others(tenant)
            following = Sweep(going.began_at, last, found)
            if not self._store.go_on(tenant, going, following):
                return self._of_others(tenant)
            going = following
            if until is not None and self._monotonic() >= until:
                return going.found
        return self._of_others(tenant)

    def _of_others(self, tenant: str | None) -> HealthSummary:
        """What whoever was quicker has found so far, or in the end."""
        going, last, _ = self._store.sweep(tenant)
        return going.found if going is not None else last or HealthSummary()

    def unfinished(self) -> bool:
        """Whether a look at all of all tenants was begun and has not ended: somebody is at it, or was."""
        return self._store.sweep(None)[0] is not None

    def slice(self, every: timedelta, budget: timedelta) -> bool:
        """Do a part of what is to be done once in a time; returns whether there is more.

        Args:
            every: So long after the last whole look began another one begins; one that is under way is gone on with.
            budget: After so long no further page is begun.
        """
        going, last, now = self._store.sweep(None)
        if going is None and last is not None and last.began_at is not None and now - last.began_at < EARLY * every:
            return False
        found = self.every(None, budget, lambda _: None, anew=False)
        return found.ended_at is None
