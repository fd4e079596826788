"""Refreshing grants: everything due, or one that somebody waits for; and what was left over by processes that died."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import structlog

from vault.claims import Kept, Overdue
from vault.engine.drain import Drain, Tally
from vault.engine.tools import Tools
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
        self._tools.providers.look()
        self.recover()
        drain = Drain(self._tools, self._max_in_flight)
        try:
            return drain.run(budget)
        finally:
            self._let_go(drain)

    def one(self, connection_id: UUID) -> Tally:
        """Refresh one connection ahead of everything else; a claim of somebody else's is left alone."""
        self._tools.providers.look()
        drain = Drain(self._tools, 1)
        try:
            return drain.run_one(connection_id)
        finally:
            self._let_go(drain)

    def recover(self) -> int:
        """Settle the answers of dead processes on this machine (S8); returns how many were."""
        settled = 0
        for orphan in self._tools.spool.orphans():
            remaining = list(orphan.records)
            try:
                for kept in orphan.records:
                    if self._bring_home(kept):
                        remaining.remove(kept)
                        settled += 1
            except StoreUnavailable:
                log.warning("spool.waiting", records=len(remaining))
            finally:
                orphan.finish(remaining)
        return settled

    def _bring_home(self, kept: Kept) -> bool:
        try:
            settle_late(self._tools.store, kept)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  # a record that can never be stored must not keep all others waiting
            log.error("spool.unsettled", connection_id=str(kept.connection_id), error=type(error).__name__)
            return False
        return True

    def overdue(self) -> Overdue:
        """What is due now and in nobody's hands."""
        self._tools.providers.look()
        return self._tools.store.overdue([provider.name for provider in self._tools.providers.all()])

    def _let_go(self, drain: Drain) -> None:
        """Leave what a run gave up holding to the next scan, whosever; while the file is ours nobody looks at it."""
        if not drain.settled:
            self._tools.spool.release()
