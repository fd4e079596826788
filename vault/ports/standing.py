"""How things stand, as the database knows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from vault.standing.condition import ConditionRow, ConnectionHealth, HealthSummary
from vault.standing.figures import Counted, Tallied


class Miscounted(NamedTuple):
    """A counter that was not what the rows say, and is now."""

    tenant: str
    """``*``: the sum of all tenants."""
    counter: Tallied
    """``amount`` is what the rows say."""
    was: int


class StatisticsStore(Protocol):
    """Counters, kept by whoever changes a row."""

    def counted(self, tenant: str | None) -> Counted:
        """Read them, and count the work there is; what it costs follows from what is found."""

    def fold(self, batch: int) -> tuple[int, bool]:
        """Add differences up, ``batch`` at most, in one transaction; returns how many, and whether there are more."""

    def recount(self) -> Sequence[Miscounted]:
        """Count the rows anew and mend the counters, beside whoever is writing; returns what was wrong."""


class Sweep(NamedTuple):
    """A look at all connections that goes on. Who goes on with it says what he has seen of it."""

    began_at: datetime
    place: UUID | None
    """The last connection that was looked at."""
    found: HealthSummary


class ConditionStore(Protocol):
    """How connections are."""

    def condition(self, tenant: str, connection_id: UUID, patience: timedelta) -> ConnectionHealth | None:
        """Look at one; None: this tenant has no such connection."""

    def conditions(
        self, tenant: str | None, after: UUID | None, limit: int, patience: timedelta
    ) -> tuple[Sequence[tuple[ConditionRow, int]], UUID | None]:
        """Look at ``limit`` of them by id; returns how many are alike, and the last id: None, there are no more."""

    def sweep(self, tenant: str | None) -> tuple[Sweep | None, HealthSummary | None, datetime]:
        """Read the look that goes on, the last whole one, and the database's clock."""

    def begin_sweep(self, tenant: str | None, seen: Sweep | None) -> Sweep | None:
        """Begin anew, in the place of what was seen; None: somebody else was quicker."""

    def go_on(self, tenant: str | None, seen: Sweep, following: Sweep) -> bool:
        """Note how far it has come; False: somebody else has gone on with it."""

    def end_sweep(self, tenant: str | None, seen: Sweep, found: HealthSummary) -> HealthSummary | None:
        """Keep it as the last whole one, and return it with its end; None: as before."""


class SignStore(Protocol):
    """Who is at work, and what waits for whom."""

    def sign(self, node: str, silence: timedelta) -> None:
        """A worker lives; without another sign within ``silence`` it does not any more."""

    def sign_off(self, node: str) -> None:
        """A worker ends."""

    def alive(self) -> Sequence[str]:
        """Workers whose last sign still counts, by name."""

    def stuck_rotations(self, patience: timedelta, tries: int) -> tuple[int, timedelta]:
        """Count rotations whose step was tried so often for nothing, or is due for so long; and the longest of these.

        The longest is of those that are due and in nobody's hands.
        """
