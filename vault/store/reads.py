"""The hot read behind ``get()``: one prepared, binary SELECT of one indexed row, on the fast lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from vault.claims import DataKeyRecord
from vault.model import SealedToken
from vault.store.engine import Database
from vault.store.tables import data_key, oauth_grant

_TOKEN = (
    oauth_grant.c.tenant,
    oauth_grant.c.status,
    oauth_grant.c.reason,
    oauth_grant.c.version,
    oauth_grant.c.access_envelope,
    oauth_grant.c.token_type,
    oauth_grant.c.expires_at,
    oauth_grant.c.refreshed_at,
    oauth_grant.c.stale_at,
    sa.func.now(),
)
_KEY = (
    data_key.c.id,
    data_key.c.tenant,
    data_key.c.owner,
    data_key.c.provider,
    data_key.c.purpose,
    data_key.c.state,
    data_key.c.tenant_key_id,
    data_key.c.wrapped,
)
_WIDTH = len(_TOKEN)
_ID = oauth_grant.c.connection_id
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has no annotation here


def _compiled(statement: sa.Select[Any], where: str) -> bytes:
    """Return the text of a statement; the columns come from the tables, so a renamed one cannot be missed here."""
    return f"{statement.compile(dialect=_DIALECT)} WHERE {oauth_grant.fullname}.connection_id {where}".encode()


_WITH_KEY = oauth_grant.join(data_key, data_key.c.id == oauth_grant.c.data_key_id)
READ = _compiled(sa.select(*_TOKEN), "= %b")
READ_WITH_KEY = _compiled(sa.select(*_TOKEN, *_KEY).select_from(_WITH_KEY), "= %b")
READ_MANY = _compiled(sa.select(_ID, *_TOKEN), "= ANY(%b)")
READ_MANY_WITH_KEYS = _compiled(sa.select(_ID, *_TOKEN, *_KEY).select_from(_WITH_KEY), "= ANY(%b)")
"""What a caller knows is not read back: a UUID costs more to make than any other column."""


class PostgresTokens:
    """``TokenReader`` on PostgreSQL. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._run = database.lane.run

    def read(self, connection_id: UUID, *, with_key: bool) -> tuple[SealedToken, DataKeyRecord | None] | None:
        """See ``TokenReader.read``."""
        row = self._run(READ_WITH_KEY if with_key else READ, (connection_id,), psycopg.Cursor.fetchone)
        if row is None:
            return None
        if with_key:
            return SealedToken(connection_id, *row[:_WIDTH]), DataKeyRecord(*row[_WIDTH:])
        return SealedToken(connection_id, *row), None

    def read_many(
        self, connection_ids: Sequence[UUID], *, with_keys: bool
    ) -> list[tuple[SealedToken, DataKeyRecord | None]]:
        """See ``TokenReader.read_many``."""
        query = READ_MANY_WITH_KEYS if with_keys else READ_MANY
        rows = self._run(query, (list(connection_ids),), psycopg.Cursor.fetchall)
        if with_keys:
            return [(SealedToken(*row[: _WIDTH + 1]), DataKeyRecord(*row[_WIDTH + 1 :])) for row in rows]
        return [(SealedToken(*row), None) for row in rows]
