"""The refresh protocol's two memories: the database and the disk, and the bell between processes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol
from uuid import UUID

from vault.claims import Claim, Kept, Overdue, Quota, Settled, Verdict
from vault.lineage import Place


class RefreshStore(Protocol):
    """The rows behind the refresh protocol. Each call is one short transaction that is committed when it returns."""

    def claim(self, quotas: Sequence[Quota]) -> list[Claim]:
        """S2: take due rows, urgent ones first, and record the intent to send."""

    def claim_one(self, connection_id: UUID, quotas: Sequence[Quota]) -> Claim | None:
        """S2 for one row, due or not; None when it is leased, backing off, disconnected or unknown."""

    def claim_suspects(self, quotas: Sequence[Quota], few: int) -> list[Claim]:
        """S2 for due rows whose last claims ended without a word: a few that did so once, else one that did so again.

        Their worker died, and one of them may be the reason: of many, the fewer are at stake, the sooner it is found.
        """

    def settle(self, kept: Sequence[Kept], verdicts: Sequence[Verdict]) -> Settled:
        """S5, the common case: commit answers by lineage and ends by epoch, each with its audit row, in one go.

        Here as in all that stores an answer: what has become the row's is no candidate any more.
        """

    def settle_late(self, kept: Kept, *, holding: int | None = None) -> Place:
        """S5 for an answer that did not fit: decide its place (``lineage.place``) under the row's lock, put it there.

        ``holding`` is the epoch of our own claim on the row, under which nothing was sent: its lease hinders nobody.
        """

    def condemn(self, verdict: Verdict, *, client_id: str, spooled: bool) -> bool:
        """S7: declare a grant dead if ``lineage.is_conclusive`` holds under the row's lock; False when it does not."""

    def candidates(self, connection_id: UUID, consent: int) -> list[Kept]:
        """Answers kept beside the row, newest first."""

    def adopt(self, claim: Claim, resealed: Kept) -> bool:
        """Put a candidate, sealed for the row, into it under our lease; False when the lease is not ours."""

    def overdue(self, clients: Sequence[str]) -> Overdue:
        """What is due now for these clients and in nobody's hands."""


class Spool(Protocol):
    """Answers on their way, on a local disk: what a killed process has already received."""

    def check(self) -> None:
        """Raise ``OSError`` when nothing can be written."""

    def append(self, *records: Kept) -> None:
        """Write records, all or none; they survive the death of this process when this returns."""

    def sync(self) -> None:
        """Make everything appended survive a loss of power."""

    def done(self, records: Sequence[Kept]) -> None:
        """These answers have found their place; their records are not needed any more."""

    def release(self) -> None:
        """Let go of what still waits, so that the next scan finds it as an orphan's."""

    def holds(self, connection_id: UUID) -> bool:
        """Whether a record for this connection, ours or a dead process's, is waiting on this disk."""

    def lying(self, connection_ids: Collection[UUID]) -> list[Kept]:
        """Records for these connections that wait in other processes' spools on this disk, dead or alive."""

    def orphans(self) -> Iterable[Orphan]:
        """Records of processes that died; each must be answered by ``Orphan.done``."""


class Orphan(Protocol):
    """The records one dead process left; it is ours alone while we look at it."""

    @property
    def records(self) -> Sequence[Kept]:
        """What waits, in the order it was written."""

    def finish(self, remaining: Sequence[Kept]) -> None:
        """Keep only ``remaining`` and let go."""


class Doorbell(Protocol):
    """A message that says "look at the database"; losing it costs latency only."""

    def ring(self, task: str, lane: str, argument: str | None) -> None:
        """Hand a message over for sending; never blocks, never raises."""

    def flush(self) -> None:
        """Wait until what was handed over has been sent, a fifth of a second at most."""

    def check(self) -> None:
        """Raise ``QueueUnavailable`` when the server cannot be reached."""
