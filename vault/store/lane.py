"""The fast lane: single statements on autocommit connections that keep their cursor and what it has prepared.

Every layer between a caller and the socket was measured: the pool is a list, because checking out of a general one
costs as much as opening an envelope; there is no transaction, because one costs twice the statement.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import psycopg

from vault.forks import in_children


class Lane:
    """A pool of cursors that threads share; forked children start with an empty one."""

    def __init__(
        self, connect: Callable[[], psycopg.Connection[Any]], translated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._connect, self._translated = connect, translated
        self._begin_anew()
        in_children(self._begin_anew)

    def _begin_anew(self) -> None:
        self._idle: list[psycopg.Cursor[Any]] = []

    def run(self, statement: bytes, parameters: tuple[object, ...], fetch: Callable[[psycopg.Cursor[Any]], Any]) -> Any:
        """Run one statement that does no harm when it is run twice.

        What fails on a kept connection is tried once more on a new one: the server may have been restarted since.

        Returns:
            What ``fetch`` makes of the cursor.

        Raises:
            StoreUnavailable: the server is away.
            SchemaOutdated: it has no such table or column.
        """
        try:
            cursor = self._idle.pop()
        except IndexError:
            cursor = None
        if cursor is not None:
            try:
                found = fetch(cursor.execute(statement, parameters))
            except psycopg.Error:
                self._drop(cursor)
            else:
                self._idle.append(cursor)
                return found
        with self._translated():
            cursor = self._connect().cursor(binary=True)
            try:
                found = fetch(cursor.execute(statement, parameters))
            except BaseException:
                self._drop(cursor)
                raise
        self._idle.append(cursor)
        return found

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
