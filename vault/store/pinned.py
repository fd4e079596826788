"""One connection with settings of its own, opened when first needed and again after it broke."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import psycopg

from vault.forks import in_children
from vault.store.engine import Database, act_for


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
    def session(self, tenant: str | None = None) -> Iterator[psycopg.Connection[Any]]:
        """Lend the connection, to one tenant in a transaction that acts for it.

        Raises ``StoreUnavailable``; after any error the next session gets a new connection.
        """
        with self._turn, self._database.translated():
            if self._connection is None:
                self._connection = self._database.connect(options=self._options)
            try:
                if tenant is None:
                    yield self._connection
                else:
                    with self._connection.transaction():
                        act_for(tenant, self._connection)
                        yield self._connection
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the connection if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
