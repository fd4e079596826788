"""What operators and auditors do with the audit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial

from vault.audit.chain import AuditCheck, AuditProgress
from vault.audit.rows import AuditAnchor, AuditRow
from vault.services.audit_export import AuditExport
from vault.services.audit_file import FileVerifying
from vault.services.audit_verify import AuditVerifying
from vault.wiring import Wiring

NAMED = 100
"""So many problems are named, of all that are counted."""
LOOK_S = 1.0
"""Seconds between looks for new rows."""


def _tell_nobody(_: object) -> None: ...


class Audit:
    """The audit as a chain for each tenant: linking, verifying, exporting, reading it. From ``Maintenance.audit``."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def chain(self, budget: timedelta | None = None, progress: Callable[[int], object] = _tell_nobody) -> int:
        """Link all rows that no running transaction could still come before; returns how many were linked.

        Resumable at any point; several at once do no harm. Needs no key.

        Args:
            budget: After so long no further batch is begun; None: all there is.
            progress: Told after each batch how many there were so far.
        """
        return self._wiring.audit_chaining.run(budget, progress)[0]

    def chain_slice(self, budget: timedelta) -> bool:
        """Link rows for a while; returns whether there are more."""
        return self._wiring.audit_chaining.run(budget, _tell_nobody)[1]

    def verify(
        self,
        tenant: str | None = None,
        anchors: Iterable[AuditAnchor] = (),
        progress: Callable[[AuditProgress], object] = _tell_nobody,
        *,
        named: int = NAMED,
    ) -> AuditCheck:
        """Work out every chain anew; finds rows edited, exchanged, put in or taken out, and ends that were cut off.

        An end of which rows, links and head were all put back shows by an anchor only. Nobody is disturbed, but
        retention waits. Needs no key, and no right but to read.

        Args:
            tenant: Only this one's chain.
            anchors: From ``anchors()``, taken earlier and kept elsewhere.
            progress: Told after each batch.
            named: So many problems are named; all are counted.
        """
        return AuditVerifying(self._wiring.audit, named=named, progress=progress).run(tenant, anchors)

    @staticmethod
    def verify_lines(
        lines: Iterable[str],
        anchors: Iterable[AuditAnchor] = (),
        progress: Callable[[AuditProgress], object] = _tell_nobody,
        *,
        named: int = NAMED,
    ) -> AuditCheck:
        """Verify the lines of an export, without a database or a setting; arguments as of ``verify``."""
        return FileVerifying(anchors, named=named, progress=progress).run(lines)

    def export(
        self,
        write: Callable[[str], object],
        *,
        tenant: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        progress: Callable[[AuditExport], object] = _tell_nobody,
    ) -> AuditExport:
        """Write chains as lines of JSON that can be verified without us; the last ones are anchors.

        Args:
            write: Takes a line, without its end.
            tenant: Only this one's chain.
            since: Only the piece of each chain from the first act at or after this instant.
            until: … to the last act before this one.
            progress: Told after each batch.
        """
        return self._wiring.audit_exporting.run(write, tenant, since, until, progress)

    def anchors(self, tenant: str | None = None) -> list[AuditAnchor]:
        """Return where each chain ends now: to be kept where nobody who can write to the database can write."""
        return self._wiring.audit.anchors(tenant)

    def tail(self, number: int = 20, tenant: str | None = None, *, follow: bool = False) -> Iterator[AuditRow]:
        """Yield the newest rows, oldest first; with ``follow`` also whatever comes, without end."""
        wait = partial(time.sleep, LOOK_S) if follow else None
        return self._wiring.audit_exporting.tail(number, tenant, wait)
