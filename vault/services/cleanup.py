"""Removing what has had its day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from vault.ports import AuditStore, CleanupStore

BATCH = 5000
"""Audit rows a transaction."""
MOST_BATCHES = 100
"""One clean-up forgets so many of them; the next one goes on."""


class Cleaning:
    """The use case behind ``vault.cleanup``."""

    def __init__(self, *stores: CleanupStore, audit: AuditStore, audit_life: timedelta) -> None:
        self._stores, self._audit, self._audit_life = stores, audit, audit_life

    def run(self, *, dry_run: bool) -> Mapping[str, int]:
        """Remove outdated rows, or count them; returns how many of what."""
        swept = {what: number for store in self._stores for what, number in store.sweep(dry_run=dry_run).items()}
        audit_rows = self._audit.forgettable(self._audit_life) if dry_run else self._forget()
        return {**swept, "audit_rows": audit_rows}

    def _forget(self) -> int:
        forgotten = 0
        for _ in range(MOST_BATCHES):
            number, more = self._audit.forget(self._audit_life, BATCH)
            forgotten += number
            if not more:
                break
        return forgotten
