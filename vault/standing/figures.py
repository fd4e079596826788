"""Everything in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from vault.standing.condition import HealthSummary

CONNECTION: Final = "connection"
CREDENTIAL: Final = "credential"
SESSION: Final = "session"
VALIDATION: Final = "validation"
UNDECIDED: Final = ("unavailable", "pending", "error")
"""Ends of a validation that say nothing about the token."""
WHATS: Final = (CONNECTION, CREDENTIAL, SESSION, VALIDATION)
OAUTH: Final = "oauth"
"""Stands where a credential has its kind: a grant is its two tokens."""
MOST: Final = 100_000
"""What is due, failing or waiting is counted up to this; a figure that high means this many or more."""


class Tallied(NamedTuple):
    """One counter: so many rows are alike in this."""

    what: str
    provider: str
    kind: str
    state: str
    amount: int


class Ends(NamedTuple):
    """Active credentials by when they end. None is counted twice, but that seven days are among the thirty."""

    expired: int
    within_7_days: int
    within_30_days: int
    past_their_age: int
    """Their policy wants a new value by now."""


class RefreshWork(NamedTuple):
    """Refreshes to be done."""

    due: int
    """By now, in anybody's hands or nobody's."""
    overdue: int
    """Of these, in nobody's hands for more than a minute."""
    in_flight: int
    """A worker has them in hand."""
    failing: int
    """Whose last try brought nothing, and which are tried again."""


class OtherWork(NamedTuple):
    """Rotations under way, and events on theirs."""

    rotations: int
    rotations_failing: int
    """Whose step has come to nothing at least once."""
    deliveries: int
    """To endpoints that are active."""
    events: int
    """Not handed to any endpoint yet."""


class CacheUse(NamedTuple):
    """Data keys held unwrapped by this process, and look-ups of them since it began."""

    hits: int
    misses: int
    size: int


class Validations(NamedTuple):
    """Tokens that were presented, since counting began.

    Those of the last seconds, and of processes that were killed before they handed theirs in, are not among them.
    """

    valid: int
    refused: int
    undecided: int
    """Nobody could say, or something went wrong: the caller was told to ask again."""
    by_kind: Mapping[str, int]
    by_outcome: Mapping[str, int]


class Counted(NamedTuple):
    """What the database says."""

    at: datetime
    tallies: tuple[Tallied, ...]
    ends: Ends
    refreshes: RefreshWork
    work: OtherWork


class Statistics(NamedTuple):
    """Everything in numbers. Counters are exact at one instant; work is counted a moment later."""

    tenant: str | None
    """None: all of them."""
    at: datetime
    connections: int
    """That were not disconnected."""
    credentials: int
    """That are active and no grant's."""
    by_kind: Mapping[str, int]
    """Active credentials; ``oauth`` are the connections."""
    connections_by_provider: Mapping[str, int]
    credentials_by_provider: Mapping[str, int]
    by_status: Mapping[str, int]
    """All connections."""
    by_state: Mapping[str, int]
    """All credentials."""
    ends: Ends
    refreshes: RefreshWork
    work: OtherWork
    cache: CacheUse
    health: HealthSummary | None
    """Of all connections, when they were last looked at; None: they never were."""
    sessions: Mapping[str, int] = {}
    """By subscription, with those that ended by themselves until the next clean-up; ``revoked`` until then too."""
    validations: Validations = Validations(0, 0, 0, {}, {})


def statistics(tenant: str | None, counted: Counted, cache: CacheUse, health: HealthSummary | None) -> Statistics:
    """Put counters together."""
    of = {what: [each for each in counted.tallies if each.what == what] for what in WHATS}
    connected = [each for each in of[CONNECTION] if each.state != "disconnected"]
    active = [each for each in of[CREDENTIAL] if each.state == "active"]
    return Statistics(
        tenant, counted.at,
        connections=sum(each.amount for each in connected), credentials=sum(each.amount for each in active),
        by_kind=_by("kind", [*connected, *active]),
        connections_by_provider=_by("provider", connected), credentials_by_provider=_by("provider", active),
        by_status=_by("state", of[CONNECTION]), by_state=_by("state", of[CREDENTIAL]),
        ends=counted.ends, refreshes=counted.refreshes, work=counted.work, cache=cache, health=health,
        sessions=_by("state", of[SESSION]), validations=_validations(of[VALIDATION]),
    )  # fmt: skip


def _validations(tallies: list[Tallied]) -> Validations:
    ends = _by("state", tallies)
    valid, undecided = ends.get("valid", 0), sum(ends.get(each, 0) for each in UNDECIDED)
    return Validations(valid, sum(ends.values()) - valid - undecided, undecided, _by("kind", tallies), ends)


def _by(name: str, tallies: list[Tallied]) -> dict[str, int]:
    """Add up by one of their properties, the greatest first."""
    sums: dict[str, int] = {}
    for each in tallies:
        key = getattr(each, name)
        sums[key] = sums.get(key, 0) + each.amount
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))
