"""The state of the whole world of one connection, small enough to be hashed millions of times.

Every instant is relative to now, in microseconds, and is forgotten once it is too long ago to matter; so two histories
that differ only in what nobody can see any more are one state. For the same reason epochs and versions, which are only
ever compared with the row's, are kept as "is the row's" and "is not".
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from vault.claims import Verdict
from vault.model import Status

FREE = -5_000_000
"""Lease end of a row that has been in nobody's hands for as long as anybody asks: one scan."""


class Token(NamedTuple):
    """A refresh token at the provider; its id is its place in the order of issue."""

    consent: int
    parent: int | None
    used_at: int | None = None
    """First use."""
    superseded: bool = False
    child: int | None = None
    """What its last use was answered with."""


class Family(IntEnum):
    """What has become of all tokens of one consent."""

    ALIVE = 0
    REUSED = 1
    """Revoked, because a spent token was presented."""
    KILLED = 2
    """Ended by the owner at the provider, or by the provider: nothing we could help."""
    REVOKED = 3
    """Ended by us, because the owner disconnected."""


class Held(NamedTuple):
    """An answer of ours: a spool record or a candidate."""

    token: int
    parent: int
    consent: int
    epoch: bool
    """Its claim is the row's last one."""
    version: bool
    """The row is still at the version it was when the request was sent."""
    expires: int


class Row(NamedTuple):
    """The connection in the database."""

    status: Status
    consent: int
    token: int | None
    expires: int
    due: int | None
    lease: int
    attempt: int = 0
    intent: int | None = None
    intent_at: int = 0
    candidates: tuple[Held, ...] = ()
    """Newest first."""


class Taken(NamedTuple):
    """A claim as its worker remembers it."""

    parent: int
    consent: int
    status: Status
    expires: int
    doubt: int | None
    attempt: int
    candidate: bool
    claimed: int
    lease: int
    epoch: bool = True
    version: bool = True


class End(NamedTuple):
    """A verdict, without the claim it is about."""

    status: Status
    wait: int | None
    unspent: bool
    conclusive: bool


class Phase(IntEnum):
    """What a worker does next."""

    IDLE = 0
    CLAIMED = 1
    """Decide, and send."""
    SENT = 2
    """The request is on its way."""
    ANSWERED = 3
    """The provider has answered; the answer is on the wire, in a socket buffer, or in memory."""
    SPOOLED = 4
    """Settle it."""
    LATE = 5
    """It did not fit: find its place."""
    PLACED = 6
    """Mark the spool record done."""
    ENDING = 7
    """Settle the verdict."""
    CONDEMNING = 8
    """Declare the grant dead, if that is conclusive."""
    ADOPTING = 9
    """Put a candidate into the row."""
    DOWN = 10


class Worker(NamedTuple):
    """One process, and the part of the disk that is its own."""

    phase: Phase = Phase.IDLE
    paused: bool = False
    taken: Taken | None = None
    until: int = 0
    """End of the request's deadline."""
    answer: int | None = None
    """The refresh token in the answer; None: ``invalid_grant``."""
    blind: bool = False
    """When it claimed or sent, a live answer lay with a sleeper, which no rule can tell from a dead process."""
    held: Held | None = None
    end: End | None = None
    orphans: tuple[Held, ...] = ()
    """What its predecessors left in their spools."""


class Faults(NamedTuple):
    """How much may still go wrong."""

    total: int
    crash: int = 0
    pause: int = 0
    lost: int = 0
    """Answers and requests the network loses."""
    refused: int = 0
    """Requests that are not sent, or turned away for now."""
    disk: int = 0
    """Crashes that take the spool along."""
    unsure: int = 0
    """Commits whose outcome the worker does not learn."""
    owner: int = 0
    """Reconnects and disconnects."""
    killed: int = 0
    """Grants ended at the provider."""
    asked: int = 0
    """Claims before their time, because ``get()`` wants a token now."""


class State(NamedTuple):
    """Everything."""

    row: Row
    workers: tuple[Worker, ...]
    tokens: tuple[Token, ...]
    families: tuple[Family, ...]
    """By consent, from 1."""
    rounds: int
    """Refreshes of a healthy row still to come."""
    faults: Faults
    lingering: tuple[tuple[int, int], ...] = ()
    """(token, until): requests nobody waits for any more, which the provider may still process."""
    stored: int = 0
    """Bit set of tokens that have been in the row."""
    lost: int = 0
    """Bit set of tokens whose only copy is gone."""


class Violation(AssertionError):
    """An invariant does not hold."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


def brief(verdict: Verdict, micros: int) -> End:
    """Keep of a verdict what settles it."""
    return End(verdict.status, None if verdict.wait is None else micros, verdict.unspent, verdict.conclusive)
