"""The fast lane: single statements on autocommit connections that keep their cursor and what it has prepared.

Every layer between a caller and the socket was measured: the pool is a list, because checking out of a general one
costs as much as opening an envelope; there is no transaction, because one costs twice the statement; and for which
tenant a connection acts is sent only when that changes, together with the statement, because a process mostly serves
the tenant it served before.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, Self

import psycopg
from psycopg.pq import Format

from vault.forks import in_children

SETTING: Final = "evergrant.tenant"
"""For which tenant a session, or a transaction, acts: policies show its rows, and nothing when it is not set."""
ACT_FOR: Final = f"SELECT set_config('{SETTING}', %b, %b)".encode()
"""Takes the tenant, and whether only until the transaction ends."""
NOBODY: Final = ""


class _Kept(psycopg.Cursor[Any]):
    """A cursor, and for whom its connection acts."""

    tenant = NOBODY


class _Pool:
    """Idle cursors that threads share; forked children start with none."""

    def __init__(
        self, connect: Callable[[], psycopg.Connection[Any]], translated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._connect, self.translated = connect, translated
        self._begin_anew()
        in_children(self._begin_anew)

    def _begin_anew(self) -> None:
        self.idle: list[_Kept] = []

    def open(self) -> _Kept:
        """Return a cursor on a connection of its own, which acts for nobody."""
        cursor = _Kept(self._connect())
        cursor.format = Format.BINARY
        return cursor

    def drop(self, cursor: _Kept) -> None:
        """Close a connection; the others opened before it are likely as dead, so they go too."""
        cursor.connection.close()
        stale, self.idle = self.idle, []
        for other in stale:
            other.connection.close()


class Lane:
    """Runs statements for one tenant, or for nobody; all of a database share one pool."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        translated: Callable[[], AbstractContextManager[None]],
        *,
        lasting: bool = True,
    ) -> None:
        """Open nothing yet.

        Args:
            connect: Opens an autocommit connection.
            translated: Turns the driver's errors into ours.
            lasting: Connections are sessions of ours alone, so that what is set in one stays; not behind PgBouncer in
                transaction mode, which lends them to others: there each statement brings its tenant with it.
        """
        self._pool, self._lasting, self._tenant = _Pool(connect, translated), lasting, NOBODY

    def of(self, tenant: str) -> Self:
        """Return the lane of one tenant, on the same connections."""
        other = object.__new__(type(self))
        other._pool, other._lasting, other._tenant = self._pool, self._lasting, tenant
        return other

    def run(self, statement: bytes, parameters: tuple[object, ...], fetch: Callable[[psycopg.Cursor[Any]], Any]) -> Any:
        """Run one statement that does no harm when it is run twice.

        What fails on a kept connection is tried once more on a new one: the server may have been restarted since.

        Returns:
            What ``fetch`` makes of the cursor.

        Raises:
            StoreUnavailable: the server is away.
            SchemaOutdated: it has no such table or column.
            ConfigurationError: the role has no right to do this.
        """
        pool = self._pool
        try:
            cursor = pool.idle.pop()
        except IndexError:
            cursor = None
        if cursor is not None:
            try:
                if cursor.tenant == self._tenant:
                    found = fetch(cursor.execute(statement, parameters))
                else:
                    found = fetch(self._turned(cursor, statement, parameters))
            except psycopg.Error:
                pool.drop(cursor)
            else:
                pool.idle.append(cursor)
                return found
        with pool.translated():
            cursor = pool.open()
            try:
                found = fetch(self._turned(cursor, statement, parameters))
            except BaseException:
                pool.drop(cursor)
                raise
        pool.idle.append(cursor)
        return found

    def _turned(self, cursor: _Kept, statement: bytes, parameters: tuple[object, ...]) -> _Kept:
        """Run a statement for our tenant on a connection that acted for another: both leave in one message.

        What is sent until the pipeline's end is one transaction, in which a setting that does not last holds.
        """
        if cursor.tenant == self._tenant:
            return cursor.execute(statement, parameters)
        with cursor.connection.pipeline():
            cursor.connection.execute(ACT_FOR, (self._tenant, not self._lasting))
            cursor.execute(statement, parameters)
        if self._lasting:
            cursor.tenant = self._tenant
        return cursor

    def close(self) -> None:
        """Close every idle connection."""
        idle = self._pool.idle
        while idle:
            idle.pop().connection.close()
