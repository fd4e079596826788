"""A full open audit: every sealed value opened once, as proof that no key is missing."""

from __future__ import annotations

from functools import partial

import structlog

from vault.engine.sweep import BATCH, Pace, Report, Run, flat_out, to_nobody
from vault.envelope import context, open_envelope
from vault.keyring import Keyring
from vault.ports import KeyAuditStore, OpenAudit, SealedValue

log = structlog.get_logger(__name__)

NAMED = 20
"""So many values that do not open are named in the log, by their rows."""


class KeyAudit:
    """The use case behind ``evergrant keys verify``."""

    def __init__(self, keyring: Keyring, store: KeyAuditStore, *, pace: Pace = flat_out) -> None:
        self._keyring, self._store, self._pace = keyring, store, pace

    def run(self, progress: Report = to_nobody) -> OpenAudit:
        """Open every value there is, and keep in the database what came of it.

        Args:
            progress: Told after each batch; its ``rows`` are values opened.

        Raises:
            KeyUnavailable: The KMS is away: nothing was kept.
            StoreUnavailable: The database cannot be reached.
        """
        run, started_at = Run(progress), self._store.now()
        last: SealedValue | None = None
        while values := self._store.sealed_values(BATCH, last):
            for value in values:
                self._open(run, value)
            run.report()
            self._pace(len(values))
            last = values[-1]
        found = OpenAudit(started_at, run.done.rows, run.done.cannot_open, run.done.refused)
        run.end("open_audit")
        self._store.record_audit(found)
        return found

    def _open(self, run: Run, value: SealedValue) -> None:
        if run.attempt(value.tenant, value[:3], partial(self._opens, value)):
            run.add(rows=1)
        elif run.done.cannot_open + run.done.refused <= NAMED:
            log.error("open_audit.cannot_open", table=value.table, subject=str(value.subject),
                      field=value.field, data_key_id=str(value.key.id))  # fmt: skip

    def _opens(self, value: SealedValue) -> bool:
        bound_to = context(value.tenant, value.subject, value.field)
        open_envelope(self._keyring.key(value.key), value.envelope, bound_to, value.version)
        return True
