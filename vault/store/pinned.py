"""One connection with settings of its own, opened when first needed and again after it broke."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import psycopg

from vault.forks import in_children
from vault.store.engine import Database


class PinnedConnection:
    """A lazily opened autocommit connection; one thread has it at a time, the others wait. A child opens its own."""

    def __init__(self, database: Database, options: str = "") -> None:
        self._database = database
        self._options = options
        self._begin_anew()
        in_children(self._begin_anew)

    def _begin_anew(self) -> None:
        self._connection: psycopg.Connection[Any] | None = None
        self._turn = Lock()

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend the connection. Raises ``StoreUnavailable``; after any error the next session gets a new one."""
        with self._turn, self._database.translated():
            if self._connection is None:
                self._connection = self._database.connect(options=self._options)
            try:
                yield self._connection
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the connection if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
