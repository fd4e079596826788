"""How PostgreSQL is reached: one place for time-outs, sessions' settings, and the translation of its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, Self

import psycopg
import sqlalchemy as sa
from psycopg.pq import Escaping, ExecStatus, TransactionStatus

from vault.errors import ConfigurationError, SchemaOutdated, StoreUnavailable
from vault.secret import Secret
from vault.store import arrays
from vault.store.lane import NOBODY, SETTING, Lane

SESSION: dict[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "evergrant",
}
"""Seconds, and milliseconds for ``tcp_user_timeout``: a dead server is noticed in about ten seconds."""

STATEMENT_TIMEOUT_MS = 30_000
ACT_UNTIL_ITS_END = f"SELECT set_config('{SETTING}', %b, true)".encode()
OF_A_FUNCTION = "exec_stmt_raise"
"""Where in PostgreSQL an error is from that a function of ours has raised, in words of its own."""
NO_RIGHT = (
    "web apps and workers connect as roles of their own, which the owner gives their rights after each upgrade with"
    " 'evergrant db grant'; refreshing, and whatever is about all tenants, is for a worker's"
)


class Database:
    """A PostgreSQL server and database: hands out SQLAlchemy transactions and bare psycopg connections."""

    def __init__(self, url: Secret, *, prepared: bool = True) -> None:
        self._dsn = _libpq(url.reveal())
        self._prepare_threshold = 0 if prepared else None
        self.where = _where(self._dsn)
        self._engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=self._connect_for_sqlalchemy,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=2,
            max_overflow=8,
            pool_timeout=10,
        )
        self.lane = Lane(self.connect, self.translated, lasting=prepared)
        """For statements that are hot."""
        self._tenant = NOBODY

    def of(self, tenant: str) -> Self:
        """Return this database as one tenant may see it: all that is done with it acts for that tenant.

        Policies hold roles of web apps to it, whatever a statement asks for (docs/decisions/0014). Connections are
        shared. Who was given the database of one tenant cannot make another's of it.
        """
        if self._tenant != NOBODY:
            return self
        bound = copy(self)
        bound.lane, bound._tenant = self.lane.of(tenant), tenant
        return bound

    def _connect_for_sqlalchemy(self) -> psycopg.Connection[Any]:
        return self.connect(autocommit=False)

    def connect(self, *, autocommit: bool = True, options: str = "") -> psycopg.Connection[Any]:
        """Open a connection of its own. Raises ``psycopg.OperationalError``.

        Args:
            autocommit: whether each statement commits by itself.
            options: further session settings, as ``-c name=value``.
        """
        connection = psycopg.connect(
            self._dsn,
            autocommit=autocommit,
            prepare_threshold=self._prepare_threshold,
            options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC {options}",
            **SESSION,
        )
        connection.prepared_max = 500
        arrays.understand(connection)
        return connection

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """One transaction, committed on leaving.

        Raises ``StoreUnavailable``, ``SchemaOutdated``, and ``ConfigurationError`` where the role has no right.
        """
        with self.translated(), self._engine.begin() as connection:
            if self._tenant != NOBODY:
                session = connection.connection.driver_connection
                assert isinstance(session, psycopg.Connection)
                act_for(self._tenant, session)
            yield connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what psycopg and SQLAlchemy raise when the server is away, or too old, into our errors."""
        try:
            yield
        except sa.exc.TimeoutError as error:
            raise StoreUnavailable(self.where, "every pooled connection is in use") from error
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError, sa.exc.ProgrammingError) as error:
            raise self.translate(error.orig or error) from None
        except (
            psycopg.OperationalError,
            psycopg.InterfaceError,
            psycopg.InternalError,
            psycopg.ProgrammingError,
        ) as error:
            raise self.translate(error) from None

    def translate(self, error: BaseException) -> BaseException:
        """Return our error for one of the driver's, or the driver's own where it is a defect of ours."""
        if isinstance(
            error,
            (
                psycopg.errors.UndefinedTable,
                psycopg.errors.UndefinedColumn,
                psycopg.errors.UndefinedFunction,
                psycopg.errors.InvalidSchemaName,
            ),
        ):
            return SchemaOutdated(None, "a newer schema")
        if isinstance(error, psycopg.errors.InsufficientPrivilege) and error.diag.source_function != OF_A_FUNCTION:
            return ConfigurationError([f"the database role may not do this ({_first_line(error)}): {NO_RIGHT}"])
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)):
            return StoreUnavailable(self.where, _first_line(error))  # read-only: a standby, or a full disk's guard
        return error

    def dispose(self) -> None:
        """Close pooled connections; what is checked out is closed when it comes back."""
        self._engine.dispose()
        self.lane.close()


def act_for(tenant: str, connection: psycopg.Connection[Any]) -> None:
    """Have a transaction act for a tenant until its end; one that is not begun yet is begun in the same message.

    By the simple protocol: a pipeline of the driver's costs a third of a short transaction.
    """
    if "\0" in tenant:
        raise ConfigurationError(["no tenant's name has a NUL in it"])
    server = connection.pgconn
    begin = b"BEGIN; " if server.transaction_status == TransactionStatus.IDLE else b""
    name = bytes(Escaping(server).escape_literal(tenant.encode()))
    result = server.exec_(begin + ACT_UNTIL_ITS_END % name)
    if result.status != ExecStatus.TUPLES_OK:
        raise psycopg.errors.error_from_result(result)


def _libpq(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in ("postgresql", "postgres"):
        raise ConfigurationError(["VAULT_DATABASE_URL must begin with postgresql://"])
    dsn = f"postgresql://{rest}"
    try:
        psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:  # whose message repeats what it could not read: mostly the password
        hint = "in a password, % @ : / ? and # are written as %25 %40 %3A %2F %3F %23"
        raise ConfigurationError(
            [f"VAULT_DATABASE_URL is no address that PostgreSQL's client can read: {hint}"]
        ) from None
    return dsn


def _where(dsn: str) -> str:
    """Name a server without its password."""
    info = psycopg.conninfo.conninfo_to_dict(dsn)
    return f"{info.get('host', 'localhost')}:{info.get('port', 5432)}/{info.get('dbname', '')}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
