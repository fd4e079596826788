"""When consents end, and whose end is to be looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from vault.events import Fact
from vault.model import Credential


class GrantEnd(NamedTuple):
    """The end of a consent, as it was seen last and as it is now."""

    connection_id: UUID
    tenant: str
    provider: str
    seen_at: datetime
    """The end, as whoever looked last saw it, or as it was noted first."""
    ends_at: datetime | None
    """The end now; later than ``seen_at`` when refreshes put it off. None: it has none any more, or has ended."""
    new: bool
    """Nobody has looked yet."""


class Look(NamedTuple):
    """What follows from a look at an end."""

    next_at: datetime
    """When to look again."""
    days: int | None = None
    """The warning to give now: that at most so many days are left. None: there is none to give."""


class CredentialDates(Protocol):
    """Dates of credentials of all tenants, changed many at a time. All raise ``StoreUnavailable``."""

    def look(
        self, limit: int, decide: Callable[[Credential, datetime], tuple[Credential, Sequence[Fact]]]
    ) -> tuple[int, int]:
        """Look at credentials whose warning is due and that nobody else looks at, in one transaction.

        Args:
            limit: How many at most.
            decide: Gets one, and the database's clock; says it with its next dates, and what to tell of it.

        Returns:
            How many were looked at, and how many facts were told for the first time.
        """

    def date_anew(
        self, after: UUID, limit: int, decide: Callable[[Credential, datetime], Credential]
    ) -> tuple[int, UUID | None]:
        """Give active credentials after an id other dates where ``decide`` says so, in one transaction.

        Returns:
            How many got other ones, and where to go on; None: these were the last.
        """


class PolicyStore(Protocol):
    """By which policies credentials are dated. All raise ``StoreUnavailable``."""

    def place(self, digest: bytes, patience: timedelta) -> UUID | None:
        """Where to go on dating credentials by the policies of a digest.

        Args:
            digest: Of the policies in force here.
            patience: When others began with other policies less than so long ago, theirs are let alone: while a change
                is rolled out, processes differ.

        Returns:
            The last credential that is dated by them; None: all are.
        """

    def reached(self, digest: bytes, place: UUID | None) -> None:
        """Note how far it has come; None: to the end."""


class GrantEndStore(Protocol):
    """Ends of consents. All raise ``StoreUnavailable``."""

    def look(self, limit: int, decide: Callable[[GrantEnd, datetime], Look]) -> tuple[int, int]:
        """Look at ends whose time has come, tell and note what ``decide`` says of each, in one transaction.

        Args:
            limit: How many at most.
            decide: Gets an end that is known and the database's clock. Ends that are not known are forgotten.

        Returns:
            How many were looked at, and how many warnings were told of for the first time.
        """
