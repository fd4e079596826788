"""Writing chains out for those who have no database, and reading the audit as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

from vault.audit.lines import START, anchor_line, row_line
from vault.audit.rows import AuditAnchor, AuditRow
from vault.ports import AuditStore

BATCH = 2000


class AuditExport(NamedTuple):
    """What was written."""

    rows: int
    tenants: int


class AuditExporting:
    """The use case behind ``evergrant audit export`` and ``tail``."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    def run(
        self,
        write: Callable[[str], object],
        tenant: str | None,
        since: datetime | None,
        until: datetime | None,
        progress: Callable[[AuditExport], object],
    ) -> AuditExport:
        """Write each chain, or the piece of it that holds the rows of some time, and an anchor for its end."""
        done, ends = AuditExport(0, 0), list[AuditAnchor]()
        with self._store.undisturbed():
            for whose, first, last in self._store.spans(tenant, since, until):
                before = self._store.before(whose, first)
                write(anchor_line(before, START))
                place = before
                while links := self._store.span(whose, place.seq, last, BATCH):
                    for link in links:
                        write(row_line(link))
                    row = links[-1].row
                    place = AuditAnchor(whose, links[-1].seq, links[-1].digest, None if row is None else row.at)
                    done = done._replace(rows=done.rows + len(links))
                    progress(done)
                ends.append(place)
                done = done._replace(tenants=done.tenants + 1)
        for end in ends:
            write(anchor_line(end))
        return done

    def tail(self, number: int, tenant: str | None, wait: Callable[[], object] | None) -> Iterator[AuditRow]:
        """Yield the newest rows, oldest first; and with ``wait`` whatever comes, waiting when there is nothing."""
        rows, place = self._store.newest(number, tenant)
        yield from rows
        shown = {row.id for row in rows}
        while wait is not None:
            before = place
            rows, place = self._store.following(place, BATCH, tenant)
            yield from (row for row in rows if row.id not in shown)
            if place == before:
                wait()
