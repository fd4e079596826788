"""Verifying an exported file by itself, without the database it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vault.audit.chain import AuditCheck, AuditProgress, Finding, Walk
from vault.audit.lines import ANCHOR, START, read_line
from vault.audit.rows import NOTHING, AuditAnchor, Link

STEP = 5000
"""Progress is told after so many lines."""


class FileVerifying:
    """The use case behind ``evergrant audit verify --file``: one file.

    It begins where it says, every link follows from the one before, none is missing, and it ends at its anchors. Who
    wrote it is another question: only anchors that are known from elsewhere answer that.
    """

    def __init__(
        self, anchors: Iterable[AuditAnchor], *, named: int, progress: Callable[[AuditProgress], object]
    ) -> None:
        self._unmet = {(anchor.tenant, anchor.seq): anchor for anchor in anchors}
        self._walk, self._report = Walk(named), progress
        self._begun, self._open = dict[str, AuditAnchor](), dict[str, AuditAnchor]()
        self._met = 0

    def run(self, lines: Iterable[str]) -> AuditCheck:
        """Read the lines once."""
        walk = self._walk
        for number, text in enumerate(lines, 1):
            try:
                kind, found = read_line(text)
            except ValueError:
                walk.blame("", None, None, Finding.LINE_UNREADABLE)
                continue
            self._take(kind, found)
            if number % STEP == 0:
                self._report(walk.progress)
        for place in self._open.values():
            walk.blame(place.tenant, place.seq, None, Finding.END_MISSING)
        forgotten = self._judge_the_unmet()
        return AuditCheck(walk.rows, walk.tenants, 0, self._met, forgotten, walk.problems, tuple(walk.named))

    def _take(self, kind: str, found: AuditAnchor | Link) -> None:
        if kind == ANCHOR:
            self._walk.hold(self._open.pop(found.tenant, AuditAnchor(found.tenant, 0, NOTHING)), _place(found))
            return
        if kind == START:
            self._begin(_place(found))
        elif isinstance(found, Link):
            if self._walk.place.tenant != found.tenant or found.tenant not in self._begun:
                self._walk.blame(found.tenant, found.seq, found.audit_id, Finding.BEGINNING_CHANGED)
                self._walk.begin(found.tenant, self._open.get(found.tenant))
                self._begun.setdefault(found.tenant, self._walk.place)
            self._walk.step(found)
            self._open[found.tenant] = self._walk.place
        self._meet(_place(found))

    def _begin(self, place: AuditAnchor) -> None:
        if place.tenant in self._begun:
            self._walk.blame(place.tenant, place.seq, None, Finding.BEGINNING_CHANGED)
        self._walk.begin(place.tenant, place)
        self._begun[place.tenant] = self._open[place.tenant] = place

    def _meet(self, place: AuditAnchor) -> None:
        anchor = self._unmet.pop((place.tenant, place.seq), None)
        if anchor is not None and anchor.digest == place.digest:
            self._met += 1
        elif anchor is not None:
            self._walk.blame(place.tenant, place.seq, None, Finding.ANCHOR_CHANGED)

    def _judge_the_unmet(self) -> int:
        """Blame anchors that the file does not reach; returns how many are of before its beginning."""
        before = 0
        for anchor in self._unmet.values():
            begun = self._begun.get(anchor.tenant)
            if begun is not None and anchor.seq < begun.seq:
                before += 1
            else:
                self._walk.blame(anchor.tenant, anchor.seq, None, Finding.ANCHOR_MISSING)
        return before


def _place(found: AuditAnchor | Link) -> AuditAnchor:
    return AuditAnchor(found.tenant, found.seq, found.digest)
