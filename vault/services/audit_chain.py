"""Linking what was told to the audit since the last time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from vault import metrics
from vault.ports import AuditStore

BATCH = 5000
"""Rows a transaction."""


class AuditChaining:
    """The use case behind ``vault.audit_chain``."""

    def __init__(self, store: AuditStore, *, monotonic: Callable[[], float]) -> None:
        self._store, self._monotonic = store, monotonic

    def run(self, budget: timedelta | None, progress: Callable[[int], object]) -> tuple[int, bool]:
        """Link rows; may be killed anywhere, and run twice at once.

        Args:
            budget: After so long no further batch is begun; None: all there is.
            progress: Told after each batch how many were linked so far.

        Returns:
            How many were linked, and whether there are more.
        """
        ends = None if budget is None else self._monotonic() + budget.total_seconds()
        linked, more = 0, True
        while more and (ends is None or self._monotonic() < ends):
            number, more = self._store.chain(BATCH)
            linked += number
            metrics.audit_linked.inc(number)
            progress(linked)
        return linked, more
