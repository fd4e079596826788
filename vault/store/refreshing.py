"""The refresh protocol's store: claims, batches and late comers, each on a connection of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from vault.claims import Claim, Kept, Overdue, Quota, Settled, Verdict
from vault.lineage import Place
from vault.store.claims import PostgresClaims
from vault.store.engine import Database
from vault.store.lateness import PostgresLateness
from vault.store.settle import PostgresSettling


class PostgresRefreshStore:
    """``RefreshStore`` on PostgreSQL. One thread may claim while others settle and look for candidates."""

    def __init__(self, database: Database, *, quarantine_wait: timedelta) -> None:
        self._claims = PostgresClaims(database, quarantine_wait=quarantine_wait)
        self._settling = PostgresSettling(database)
        self._lateness = PostgresLateness(database)

    def claim(self, quotas: Sequence[Quota]) -> list[Claim]:
        """See ``RefreshStore.claim``."""
        return self._claims.claim(quotas)

    def claim_one(self, connection_id: UUID, quotas: Sequence[Quota]) -> Claim | None:
        """See ``RefreshStore.claim_one``."""
        return self._claims.claim_one(connection_id, quotas)

    def claim_suspects(self, quotas: Sequence[Quota], few: int) -> list[Claim]:
        """See ``RefreshStore.claim_suspects``."""
        return self._claims.claim_suspects(quotas, few)

    def overdue(self, clients: Sequence[str]) -> Overdue:
        """See ``RefreshStore.overdue``."""
        return self._claims.overdue(clients)

    def settle(self, kept: Sequence[Kept], verdicts: Sequence[Verdict]) -> Settled:
        """See ``RefreshStore.settle``."""
        return self._settling.settle(kept, verdicts)

    def settle_late(self, kept: Kept, *, holding: int | None = None) -> Place:
        """See ``RefreshStore.settle_late``."""
        return self._lateness.settle_late(kept, holding)

    def condemn(self, verdict: Verdict, *, client_id: str, spooled: bool) -> bool:
        """See ``RefreshStore.condemn``."""
        return self._lateness.condemn(verdict, client_id=client_id, spooled=spooled)

    def candidates(self, connection_id: UUID, consent: int) -> list[Kept]:
        """See ``RefreshStore.candidates``."""
        return self._lateness.candidates(connection_id, consent)

    def adopt(self, claim: Claim, resealed: Kept) -> bool:
        """See ``RefreshStore.adopt``."""
        return self._lateness.adopt(claim, resealed)

    def close(self) -> None:
        """Close every connection."""
        for part in (self._claims, self._settling, self._lateness):
            part.close()
