"""The audit's chains, as those who make, verify and export them need the database."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from vault.audit.rows import AuditAnchor, AuditRow, Link


class Ends(NamedTuple):
    """Where a tenant's chain begins and where it ends, as the database says."""

    start: AuditAnchor | None
    head: AuditAnchor | None


class Unlinked(NamedTuple):
    """A row that has no link."""

    row: AuditRow
    overdue: bool
    """It should have one."""
    impossible: bool
    """It names a transaction that has not begun."""


class AnchoredPlace(NamedTuple):
    """What stands at an anchor's place now."""

    digest: bytes | None
    """None: no link has this number."""
    start: AuditAnchor | None


class AuditStore(Protocol):
    """Rows, links and heads at rest."""

    def chain(self, batch: int) -> tuple[int, bool]:
        """Link at most ``batch`` rows, in one transaction; returns how many, and whether there may be more."""

    def lag(self) -> timedelta:
        """Read how long ago the oldest row was told that is not linked; zero: all are."""

    def forget(self, keep: timedelta, batch: int) -> tuple[int, bool]:
        """Remove the beginnings of chains past their time, from the ``batch`` oldest rows; returns as ``chain``."""

    def forgettable(self, keep: timedelta) -> int:
        """Count the rows past their time."""

    def undisturbed(self) -> AbstractContextManager[None]:
        """Keep retention away for as long as the block takes."""

    def links(self, after: tuple[str, int], limit: int, tenant: str | None) -> tuple[list[Link], dict[str, Ends]]:
        """Read links in order of tenant and number, after one of them, with the ends of their chains."""

    def chains_without_links(self, tenant: str | None) -> list[tuple[str, Ends]]:
        """Read the ends of chains of which there are heads or beginnings, and no link."""

    def unlinked(self, after: int, limit: int, tenant: str | None) -> tuple[list[Unlinked], int | None]:
        """Look at ``limit`` rows after a row's id; returns those without a link, and the last id, None: the end."""

    def at_anchors(self, anchors: Sequence[AuditAnchor]) -> list[AnchoredPlace]:
        """Look up what stands at places now, in the same order."""

    def anchors(self, tenant: str | None) -> list[AuditAnchor]:
        """Read the heads of all chains, with the instants of their rows."""

    def spans(self, tenant: str | None, since: datetime | None, until: datetime | None) -> list[tuple[str, int, int]]:
        """Find the first and the last link of each tenant whose rows are of that time."""

    def before(self, tenant: str, seq: int) -> AuditAnchor:
        """Read the place before a link."""

    def span(self, tenant: str, after: int, last: int, limit: int) -> list[Link]:
        """Read a tenant's links after a number and up to another."""

    def newest(self, number: int, tenant: str | None) -> tuple[list[AuditRow], tuple[int, int]]:
        """Read the newest rows, oldest first, and the place from which ``following`` goes on: it may repeat some."""

    def following(
        self, place: tuple[int, int], limit: int, tenant: str | None
    ) -> tuple[list[AuditRow], tuple[int, int]]:
        """Read rows after a place, none of which comes too late to be seen; returns them and the next place."""

    def now(self) -> datetime:
        """Read the database's clock."""
