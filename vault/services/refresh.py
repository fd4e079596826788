"""Refreshing grants: everything due, or one that somebody waits for; and what was left over by processes that died."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import structlog

from vault.claims import Overdue
from vault.engine.drain import Drain, Tally, Tools
from vault.engine.writer import settle_late
from vault.errors import StoreUnavailable

log = structlog.get_logger(__name__)


class Refreshing:
    """The use case behind ``vault.refresh_scan`` and ``vault.refresh``; one instance serves one thread at a time."""

    def __init__(self, tools: Tools, *, max_in_flight: int) -> None:
        self._tools = tools
        self._max_in_flight = max_in_flight

    def scan(self, budget: timedelta) -> Tally:
        """Bring home what dead processes left in their spools (S8), then refresh everything due.

        Args:
            budget: after this no more rows are claimed; what is in flight then takes a request deadline more.
        """
        self.recover()
        tally = Drain(self._tools, self._max_in_flight).run(budget)
        return self._after(tally)

    def one(self, connection_id: UUID) -> Tally:
        """Refresh one connection ahead of everything else; a claim of somebody else's is left alone."""
        return self._after(Drain(self._tools, 1).run_one(connection_id))

    def recover(self) -> int:
        """Settle the answers of dead processes on this machine (S8); returns how many were."""
        settled = 0
        for orphan in self._tools.spool.orphans():
            remaining = list(orphan.records)
            try:
                for kept in orphan.records:
                    settle_late(self._tools.store, kept)
                    remaining.remove(kept)
                    settled += 1
            except StoreUnavailable:
                log.warning("spool.waiting", records=len(remaining))
            finally:
                orphan.finish(remaining)
        return settled

    def overdue(self) -> Overdue:
        """What is due now and in nobody's hands."""
        return self._tools.store.overdue([provider.name for provider in self._tools.providers.all()])

    def _after(self, tally: Tally) -> Tally:
        if not tally.settled:
            self._tools.spool.release()
        return tally
