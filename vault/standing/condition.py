"""How a connection is: judged from what its last refreshes left behind. Nobody asks a provider in order to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

from vault.model import Status
from vault.outcome import CLIENT_CODES


class Need(StrEnum):
    """What a connection needs, and from whom."""

    NOTHING = "nothing"
    """It is well; or its owner has taken it back, and nothing is to be done about that."""
    RETRY = "retry"
    """Patience: it is tried again by itself, at ``next_at`` at the latest."""
    OPERATOR = "operator"
    """Somebody here, for our registration, the master key, a crash: ``reason`` says which."""
    RECONNECT = "reconnect"
    """Its owner, who must give a new consent."""


OURS: Final = frozenset({"KeyUnavailable", "CannotOpen", "client_secret_unavailable", "client_changed"})
"""Reasons for which nothing was sent, or not as it should have been: they tell nothing of the provider."""
OPERATOR_REASONS: Final = CLIENT_CODES | OURS | {
    "unsupported_grant_type", "invalid_request", "invalid_scope", "certificate", "refused_uri",
}  # fmt: skip
UNREACHABLE: Final = frozenset(
    {"connect", "resolve", "timeout", "reset", "closed", "truncated", "tls", "certificate", "protocol"}
)
"""Ends of a request without an answer; a 5xx counts as none."""
REASONS_KEPT: Final = 50


class ConditionRow(NamedTuple):
    """What is known of a connection, with everything that is compared with the clock compared by the database's."""

    status: Status
    reason: str | None
    failing: bool
    expired: bool
    late: bool
    """Its refresh has been due for longer than one takes, and is in nobody's hands."""
    over: bool
    """The consent itself has ended."""


class ConnectionHealth(NamedTuple):
    """How one connection is. Instants are aware UTC; the database's clock decides."""

    connection_id: UUID
    provider: str
    status: Status
    need: Need
    reason: str | None
    """A word for programs: of the trouble it is in."""
    well: bool
    """A token is served, and nobody has to do anything."""
    expired: bool
    """The stored access token is over."""
    stale: bool
    """It should have been refreshed by now."""
    late: timedelta
    """For so long a refresh has been due and in nobody's hands."""
    refreshing: bool
    """A worker has it in hand."""
    reachable: bool | None
    """Whether the provider answered when it was last asked; None: that is not known."""
    failures: int
    """Tries in a row that brought no token."""
    refreshed_at: datetime
    expires_at: datetime
    next_at: datetime | None
    """When it is tried next; None: not any more."""
    grant_ends_at: datetime | None
    """When the consent ends, whatever is done; None: it is not said."""


def need(row: ConditionRow) -> Need:
    """Judge what a connection needs."""
    if row.status is Status.DISCONNECTED:
        return Need.NOTHING
    if row.status is Status.NEEDS_RECONNECT or row.over:
        return Need.RECONNECT
    if row.status is Status.QUARANTINED:
        return Need.OPERATOR
    if row.failing or row.status is Status.IN_DOUBT:
        return Need.OPERATOR if row.reason in OPERATOR_REASONS else Need.RETRY
    return Need.RETRY if row.late else Need.NOTHING


def well(row: ConditionRow) -> bool:
    """Judge whether a connection serves, and goes on without anybody."""
    served = row.status is not Status.DISCONNECTED and not row.expired
    return served and need(row) in (Need.NOTHING, Need.RETRY)


def reachable(row: ConditionRow) -> bool | None:
    """Judge whether its provider answered the last time."""
    if row.status is Status.QUARANTINED or row.reason in OURS:
        return None
    if row.failing or row.status is Status.IN_DOUBT:
        reason = row.reason or ""
        return not (reason in UNREACHABLE or reason.startswith("http_5"))
    return None if row.status is Status.DISCONNECTED else True


class HealthSummary(NamedTuple):
    """How all connections are, one after another between two instants."""

    connections: int = 0
    """That were looked at; those of owners who have left are not among them."""
    well: int = 0
    needs: Mapping[str, int] = {}
    expired: int = 0
    late: int = 0
    reasons: Mapping[str, int] = {}
    """Of those that need somebody or something, the most frequent."""
    began_at: datetime | None = None
    ended_at: datetime | None = None
    """None: it goes on."""

    def with_rows(self, rows: Iterable[tuple[ConditionRow, int]]) -> Self:
        """Add connections: so many of each sort."""
        needs, reasons = Counter(self.needs), Counter(self.reasons)
        connections = fine = expired = late = 0
        for row, number in rows:
            if row.status is Status.DISCONNECTED:
                continue
            judged = need(row)
            needs[judged.value] += number
            if judged is not Need.NOTHING:
                reasons[row.reason or ("grant_ended" if row.over else "late")] += number
            connections += number
            fine += number * well(row)
            expired += number * row.expired
            late += number * row.late
        return self._replace(
            connections=self.connections + connections, well=self.well + fine, needs=dict(needs),
            expired=self.expired + expired, late=self.late + late, reasons=dict(reasons.most_common(REASONS_KEPT)),
        )  # fmt: skip

    def counts(self) -> dict[str, Any]:
        """Return the numbers alone, fit for JSON."""
        return {name: value for name, value in self._asdict().items() if not name.endswith("_at")}
