"""Verifying the audit's chains in the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import islice

from vault.audit.chain import FORGOTTEN, AuditCheck, AuditProgress, Finding, Walk
from vault.audit.rows import LEAST_DAYS, AuditAnchor, AuditRow, instant
from vault.ports import AnchoredPlace, AuditStore, Ends

BATCH = 5000
"""Rows read at once."""
FIRST = -(2**63)
"""No link has a lower number, and no row a lower id, whoever put it there."""


Report = Callable[[AuditProgress], object]


class AuditVerifying:
    """The use case behind ``evergrant audit verify``: one at a time."""

    def __init__(self, store: AuditStore, *, named: int, progress: Report) -> None:
        self._store, self._report = store, progress
        self._walk = Walk(named)
        self._waiting = self._found = self._forgotten = 0
        self._untold: dict[str, tuple[bytes, int]] = {}
        """Beginnings that no row has told of yet, with the number of the last link looked at."""

    def run(self, tenant: str | None, anchors: Iterable[AuditAnchor]) -> AuditCheck:
        """Work out every chain anew, and hold it against links, ends and anchors.

        Whoever writes meanwhile is not disturbed; retention waits.
        """
        with self._store.undisturbed():
            self._follow(tenant)
            for whose, ends in self._store.chains_without_links(tenant):
                self._begin(whose, ends)
                self._end(whose, ends)
            self._look_for_unlinked(tenant)
            self._look_for_the_untold()
        self._hold_against(anchor for anchor in anchors if tenant in (None, anchor.tenant))
        walk = self._walk
        return AuditCheck(
            walk.rows, walk.tenants, self._waiting, self._found, self._forgotten, walk.problems, tuple(walk.named)
        )

    def _follow(self, tenant: str | None) -> None:
        after, at_end = (tenant or "", FIRST), Ends(None, None)
        whose: str | None = None
        while True:
            links, ends = self._store.links(after, BATCH, tenant)
            for link in links:
                if link.tenant != whose:
                    if whose is not None:
                        self._end(whose, ends.get(whose, at_end))
                    whose, at_end = link.tenant, ends.get(link.tenant, Ends(None, None))
                    self._begin(whose, at_end)
                self._walk.step(link)
            self._tell()
            if not links:
                break
            after = links[-1].tenant, links[-1].seq
            at_end = ends.get(links[-1].tenant, Ends(None, None))  # as it was when its last link was read
        if whose is not None:
            self._end(whose, at_end)

    def _begin(self, tenant: str, ends: Ends) -> None:
        self._walk.begin(tenant, ends.start)

    def _end(self, tenant: str, ends: Ends) -> None:
        if untold := self._walk.end(ends.head):
            self._untold[tenant] = untold, self._walk.place.seq

    def _look_for_unlinked(self, tenant: str | None) -> None:
        after: int | None = FIRST
        while after is not None:
            rows, after = self._store.unlinked(after, BATCH, tenant)
            for row, overdue, impossible in rows:
                if overdue or impossible:
                    what = Finding.ROW_UNLINKED if overdue else Finding.ROW_FROM_THE_FUTURE
                    self._walk.blame(row.tenant, None, row.id, what)
                else:
                    self._waiting += 1
                self._hear(row)
            self._tell()

    def _look_for_the_untold(self) -> None:
        """What told of a beginning may have been linked behind our back."""
        for tenant, (_, seq) in list(self._untold.items()):
            for link in self._store.span(tenant, seq, 2**63 - 1, BATCH):
                if link.row is not None:
                    self._hear(link.row)
            if tenant in self._untold:
                self._walk.blame(tenant, None, None, Finding.BEGINNING_CHANGED)

    def _hear(self, row: AuditRow) -> None:
        if row.event == FORGOTTEN and row.tenant in self._untold and self._untold[row.tenant][0].hex() in row.detail:
            del self._untold[row.tenant]

    def _hold_against(self, anchors: Iterable[AuditAnchor]) -> None:
        unread, now = iter(anchors), self._store.now()
        while some := list(islice(unread, BATCH)):
            for anchor, place in zip(some, self._store.at_anchors(some), strict=True):
                what = _held(anchor, place, now)
                if isinstance(what, Finding):
                    self._walk.blame(anchor.tenant, anchor.seq, None, what)
                self._found += what is True
                self._forgotten += what is None

    def _tell(self) -> None:
        self._report(self._walk.progress)


def _held(anchor: AuditAnchor, place: AnchoredPlace, now: datetime) -> Finding | bool | None:
    """Hold an anchor against what stands there; True: the same, None: forgotten since, as it may be."""
    start, here = place.start, place.digest
    if start is not None and start.seq == anchor.seq:
        here = start.digest
    if here is not None:
        return here == anchor.digest or Finding.ANCHOR_CHANGED
    if start is None or anchor.seq > start.seq:
        return Finding.ANCHOR_MISSING
    at = None if anchor.at is None else instant(anchor.at)
    too_soon = at is not None and now - at < timedelta(days=LEAST_DAYS)
    return Finding.ANCHOR_MISSING if too_soon else None
