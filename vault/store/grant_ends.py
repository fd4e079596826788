"""Ends of consents in PostgreSQL: a narrow row beside each grant that has one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import groupby
from uuid import UUID

import sqlalchemy as sa

from vault.model import Status
from vault.ports import GrantEnd, Look
from vault.store.engine import Database
from vault.store.tables import connection, grant_end, oauth_grant
from vault.store.telling import record_ending

_ENDED = (Status.DISCONNECTED, Status.NEEDS_RECONNECT)
_NEVER = sa.func.to_timestamp(0)
_DUE = (
    sa.select(
        grant_end.c.connection_id,
        connection.c.tenant,
        connection.c.provider,
        grant_end.c.ends_at,
        sa.case((oauth_grant.c.status.in_(_ENDED), None), else_=oauth_grant.c.grant_ends_at),
        grant_end.c.look_at == _NEVER,
    )
    .join_from(grant_end, connection)
    .join(oauth_grant, oauth_grant.c.connection_id == grant_end.c.connection_id)
    .where(grant_end.c.look_at <= sa.func.now())
    .order_by(grant_end.c.look_at)
    .with_for_update(of=grant_end, skip_locked=True)
)
_NOTE = sa.text(f"""
    UPDATE {grant_end.fullname} e SET ends_at = n.ends_at, look_at = n.look_at
      FROM unnest(CAST(:ids AS uuid[]), CAST(:ends AS timestamptz[]), CAST(:looks AS timestamptz[]))
           AS n(connection_id, ends_at, look_at)
     WHERE e.connection_id = n.connection_id
""")


class PostgresGrantEnds:
    """``GrantEndStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self, limit: int, decide: Callable[[GrantEnd, datetime], Look]) -> tuple[int, int]:
        """See ``GrantEndStore.look``."""
        with self._database.begin() as transaction:
            now = transaction.scalars(sa.select(sa.func.now())).one()
            due = [GrantEnd(*row) for row in transaction.execute(_DUE.limit(limit))]
            looks = [(end, decide(end, now)) for end in due if end.ends_at is not None]
            ended = [end.connection_id for end in due if end.ends_at is None]
            if ended:
                transaction.execute(grant_end.delete().where(grant_end.c.connection_id.in_(ended)))
            if looks:
                noted = {
                    "ids": [end.connection_id for end, _ in looks],
                    "ends": [end.ends_at for end, _ in looks],
                    "looks": [look.next_at for _, look in looks],
                }
                transaction.execute(_NOTE, noted)
            told = sum(record_ending(transaction, ids, days) for days, ids in _warnings(looks))
        return len(due), told


def _warnings(looks: list[tuple[GrantEnd, Look]]) -> list[tuple[int, list[UUID]]]:
    given = sorted((look.days, end.connection_id) for end, look in looks if look.days is not None)
    return [(days, [each for _, each in group]) for days, group in groupby(given, key=lambda pair: pair[0])]
