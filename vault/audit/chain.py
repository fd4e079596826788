"""Following chains link by link, and saying what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from vault.audit.rows import NOTHING, AuditAnchor, Link, digest

FORGOTTEN = "audit.forgotten"
"""The event that tells where a chain begins since its retention."""


class Finding(Enum):
    """What can be wrong with a chain."""

    ROW_CHANGED = "row_changed"
    """The row and the link before it do not give the link's digest: one of the three was edited, or exchanged."""
    ROW_MISSING = "row_missing"
    """There is a link, and its row is gone."""
    ROW_UNLINKED = "row_unlinked"
    """A row older than the last chaining has no link: it was put in later, or its link was removed."""
    ROW_FROM_THE_FUTURE = "row_from_the_future"
    """A row names a transaction there has not been."""
    LINK_MISSING = "link_missing"
    """A number in the chain is missing."""
    END_MISSING = "end_missing"
    """The chain ends before its head, or a file before its anchors."""
    HEAD_CHANGED = "head_changed"
    """The head is not the digest of the last link."""
    BEGINNING_CHANGED = "beginning_changed"
    """A chain does not begin where the audit says that retention left it."""
    ANCHOR_MISSING = "anchor_missing"
    """The chain does not reach as far as an anchor, or what was anchored was forgotten before its time."""
    ANCHOR_CHANGED = "anchor_changed"
    """The chain is another one than at the time of the anchor."""
    LINE_UNREADABLE = "line_unreadable"
    """A line of a file is none of ours."""


class AuditProblem(NamedTuple):
    """One thing that does not fit."""

    tenant: str
    seq: int | None
    """Its place in the tenant's chain."""
    audit_id: int | None
    what: Finding


class AuditCheck(NamedTuple):
    """What came of verifying chains."""

    rows: int
    tenants: int
    waiting: int
    """Rows too young to be linked yet; not problems."""
    anchors: int
    """Anchors found in their chains."""
    anchors_forgotten: int
    """Anchors older than what retention has left, about which nothing can be said."""
    problems: int
    named: Sequence[AuditProblem]
    """The first of them."""

    @property
    def passed(self) -> bool:
        """Whether everything fits."""
        return self.problems == 0


class AuditProgress(NamedTuple):
    """How far a verification has come."""

    rows: int
    tenants: int
    problems: int


class Walk:
    """Follows chains, one after the other, and keeps count; its memory does not grow with what it has seen."""

    def __init__(self, named: int) -> None:
        self._most_named = named
        self.rows = self.tenants = self.problems = 0
        self.named: list[AuditProblem] = []
        self._last = NOTHING
        self._tenant, self._seq, self._told = "", 0, b""

    def begin(self, tenant: str, start: AuditAnchor | None) -> None:
        """Begin with a tenant's chain, after the link at ``start``; None: from its first link."""
        self.tenants += 1
        self._tenant, self._seq, self._last = tenant, 0, NOTHING
        self._told = b"" if start is None else start.digest
        if start is not None:
            self._seq, self._last = start.seq, start.digest

    def step(self, link: Link) -> None:
        """Go on by one link."""
        missing = link.seq - self._seq - 1
        if missing > 0:
            self.blame(self._tenant, self._seq + 1, None, Finding.LINK_MISSING, missing)
        elif missing < 0:
            self.blame(self._tenant, link.seq, link.audit_id, Finding.BEGINNING_CHANGED)
        if link.row is None:
            self.blame(link.tenant, link.seq, link.audit_id, Finding.ROW_MISSING)
        else:
            self.rows += 1
            if not missing and not self._fits(link):
                self.blame(link.tenant, link.seq, link.audit_id, Finding.ROW_CHANGED)
            if link.row.event == FORGOTTEN and self._told and self._told.hex() in link.row.detail:
                self._told = b""
        self._seq, self._last = link.seq, link.digest

    def _fits(self, link: Link) -> bool:
        previous, row = self._last, link.row
        if row is None or len(previous) != len(NOTHING) or row.tenant != link.tenant:
            return False
        return digest(previous, link.seq, row) == link.digest

    def end(self, head: AuditAnchor | None) -> bytes:
        """End a chain at its head; returns the beginning that the audit has not told of so far, or nothing."""
        self.hold(self.place, head)
        return self._told

    def hold(self, place: AuditAnchor, head: AuditAnchor | None) -> None:
        """Hold where a chain ended against where it should."""
        if head is not None and head.seq > place.seq:
            self.blame(place.tenant, place.seq + 1, None, Finding.END_MISSING, head.seq - place.seq)
        elif head is None or (head.seq, head.digest) != (place.seq, place.digest):
            self.blame(place.tenant, place.seq, None, Finding.HEAD_CHANGED)

    @property
    def progress(self) -> AuditProgress:
        """How far it has come."""
        return AuditProgress(self.rows, self.tenants, self.problems)

    @property
    def place(self) -> AuditAnchor:
        """Where it stands."""
        return AuditAnchor(self._tenant, self._seq, self._last)

    def blame(self, tenant: str, seq: int | None, audit_id: int | None, what: Finding, number: int = 1) -> None:
        """Count a problem, or several of a kind in a row, and name it when it is one of the first."""
        self.problems += number
        for place in range(number):
            if len(self.named) >= self._most_named:
                break
            self.named.append(AuditProblem(tenant, None if seq is None else seq + place, audit_id, what))
