"""The hot read behind ``get()``: one prepared, binary, autocommit SELECT on a connection that keeps its cursor.

Every layer between here and the socket was measured (LIMITS, "Reading a token"): a pool of our own that is a list,
because checking out of a general one costs as much as opening the envelope; no transaction, because one costs twice
the read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
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
    oauth_grant.c.connection_id,
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
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has no annotation here


def _compiled(statement: sa.Select[Any], where: str) -> bytes:
    """Return the text of a statement; the columns come from the tables, so a renamed one cannot be missed here."""
    return f"{statement.compile(dialect=_DIALECT)} WHERE {oauth_grant.fullname}.connection_id {where}".encode()


_WITH_KEY = sa.select(*_TOKEN, *_KEY).select_from(
    oauth_grant.join(data_key, data_key.c.id == oauth_grant.c.data_key_id)
)
READ = _compiled(sa.select(*_TOKEN), "= %b")
READ_WITH_KEY = _compiled(_WITH_KEY, "= %b")
READ_MANY = _compiled(_WITH_KEY, "= ANY(%b)")


class TokenLane:
    """A pool of cursors for the hot read; threads share it, forked children start with an empty one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._idle: list[psycopg.Cursor[Any]] = []
        self._pid = os.getpid()

    def read(self, connection_id: UUID, *, with_key: bool) -> tuple[SealedToken, DataKeyRecord | None] | None:
        """See ``TokenReader.read``."""
        row = self._run(READ_WITH_KEY if with_key else READ, (connection_id,), psycopg.Cursor.fetchone)
        if row is None:
            return None
        if with_key:
            return SealedToken(*row[:_WIDTH]), DataKeyRecord(*row[_WIDTH:])
        return SealedToken(*row), None

    def read_many(self, connection_ids: Sequence[UUID]) -> list[tuple[SealedToken, DataKeyRecord]]:
        """See ``TokenReader.read_many``."""
        rows = self._run(READ_MANY, (list(connection_ids),), psycopg.Cursor.fetchall)
        return [(SealedToken(*row[:_WIDTH]), DataKeyRecord(*row[_WIDTH:])) for row in rows]

    def _run(self, query: bytes, parameters: tuple[object, ...], fetch: Callable[[psycopg.Cursor[Any]], Any]) -> Any:
        """Run a read; what fails on a kept connection is tried once more on a new one: reading twice is harmless."""
        if self._pid != os.getpid():
            self._idle, self._pid = [], os.getpid()
        try:
            cursor = self._idle.pop()
        except IndexError:
            cursor = None
        if cursor is not None:
            try:
                row = fetch(cursor.execute(query, parameters))
            except psycopg.Error:
                self._drop(cursor)
            else:
                self._idle.append(cursor)
                return row
        with self._database.translated():
            cursor = self._database.connect().cursor(binary=True)
            try:
                row = fetch(cursor.execute(query, parameters))
            except BaseException:
                self._drop(cursor)
                raise
        self._idle.append(cursor)
        return row

    def _drop(self, cursor: psycopg.Cursor[Any]) -> None:
        """Close a connection; the others opened before it are likely as dead, so they go too."""
        cursor.connection.close()
        stale, self._idle = self._idle, []
        for other in stale:
            other.connection.close()

    def close(self) -> None:
        """Close every idle connection."""
        while self._idle:
            self._idle.pop().connection.close()
