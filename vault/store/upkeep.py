"""Revocations waiting for a provider, and rows that have had their day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from vault.claims import Revocation
from vault.store.audit import audit_row
from vault.store.credentials import destroy
from vault.store.engine import Database
from vault.store.tables import (
    audit,
    candidate,
    connect_attempt,
    credential,
    credential_rotation,
    oauth_grant,
    revocation,
)

CANDIDATE_LIFE = timedelta(days=30)
"""A candidate is kept this long: it is only tried when the row's own refresh token has been rejected."""
PURGED_AT_ONCE = 10_000
ROTATION_LIFE = timedelta(days=90)
"""What came of a rotation is known for this long; the audit knows it longer."""
MOST_DOUBLINGS = 8
"""Of the pause between two tries to revoke: from five minutes it grows to most of a day."""
_now = sa.func.now()


class PostgresUpkeep:
    """``RevocationStore`` and ``CleanupStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take_revocations(self, limit: int, lease: timedelta) -> list[Revocation]:
        """See ``RevocationStore.take_revocations``."""
        due = (
            sa.select(revocation.c.id)
            .where(revocation.c.next_at <= _now)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        doublings = sa.func.power(2, sa.func.least(revocation.c.attempt, MOST_DOUBLINGS))
        take = (
            revocation.update()
            .where(revocation.c.id.in_(due.scalar_subquery()))
            .values(attempt=revocation.c.attempt + 1, next_at=_now + sa.literal(lease).op("*")(doublings))
            .returning(*[revocation.c[name] for name in Revocation._fields])
        )
        with self._database.begin() as transaction:
            return [Revocation(*row) for row in transaction.execute(take)]

    def end_revocation(self, ended: Revocation, outcome: str) -> None:
        """See ``RevocationStore.end_revocation``."""
        with self._database.begin() as transaction:
            if transaction.execute(revocation.delete().where(revocation.c.id == ended.id)).rowcount:
                detail = {"outcome": outcome, "attempt": ended.attempt}
                row = audit_row(ended.tenant, "connection.revoked", ended.connection_id, detail)
                transaction.execute(audit.insert().values(row))

    def sweep(self, *, dry_run: bool) -> Mapping[str, int]:
        """See ``CleanupStore.sweep``."""
        over = sa.exists().where(
            oauth_grant.c.connection_id == candidate.c.connection_id, oauth_grant.c.consent > candidate.c.consent
        )
        outdated: dict[str, tuple[sa.Table, Any]] = {
            "connect_attempts": (connect_attempt, connect_attempt.c.expires_at <= _now),
            "rotations": (credential_rotation, credential_rotation.c.ended_at < _now - ROTATION_LIFE),
            "candidates": (candidate, sa.or_(candidate.c.kept_at < _now - CANDIDATE_LIFE, over)),
        }
        removed = {}
        with self._database.begin() as transaction:
            for name, (table, condition) in outdated.items():
                if dry_run:
                    counted = sa.select(sa.func.count()).select_from(table).where(condition)
                    removed[name] = transaction.scalar(counted) or 0
                else:
                    removed[name] = transaction.execute(table.delete().where(condition)).rowcount
            removed["credentials"] = _purge(transaction, dry_run=dry_run)
        return removed


def _purge(transaction: sa.Connection, *, dry_run: bool) -> int:
    """Take away the values of credentials that were deleted and cannot be brought back any more."""
    over = (credential.c.state == "deleted", credential.c.purge_at <= _now)
    if dry_run:
        return transaction.scalar(sa.select(sa.func.count()).select_from(credential).where(*over)) or 0
    some = sa.select(credential.c.id).where(*over).order_by(credential.c.purge_at).limit(PURGED_AT_ONCE)
    return len(destroy(transaction, credential.c.id.in_(some)))
