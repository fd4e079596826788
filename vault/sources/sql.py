"""Tables of PostgreSQL, SQLite, MySQL and whatever else SQLAlchemy speaks to; read by key, in short transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from vault.errors import ConfigurationError, SourceUnavailable
from vault.migration.columns import ColumnMap
from vault.ports import SourceRow
from vault.secret import Secret
from vault.sources.rows import broken, source_row

DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql",
           "mariadb": "mariadb+pymysql"}  # fmt: skip
"""What is meant by a URL that names no driver, or the name libpq has for PostgreSQL."""
TIMEOUTS: Mapping[str, Mapping[str, Any]] = {
    "postgresql": {"connect_timeout": 5, "options": "-c statement_timeout=60000 -c timezone=UTC"},
    "mysql": {"connect_timeout": 5, "read_timeout": 60, "write_timeout": 60},
    "mariadb": {"connect_timeout": 5, "read_timeout": 60, "write_timeout": 60},
    "sqlite": {"timeout": 10},
}

_Codec = tuple[str, Callable[[Any], str], Callable[[str], object]]
_CODECS: Mapping[type, _Codec] = {
    int: ("i", str, int),
    str: ("s", str, str),
    UUID: ("u", str, UUID),
    Decimal: ("d", str, Decimal),
    bytes: ("b", bytes.hex, bytes.fromhex),
    datetime: ("t", datetime.isoformat, datetime.fromisoformat),
    date: ("y", date.isoformat, date.fromisoformat),
}
"""Keys as text and back: a cursor outlives the process that read it."""
_READ = {mark: back for mark, _, back in _CODECS.values()}


class SqlSource:
    """``Source`` from a table or a view."""

    def __init__(
        self,
        url: Secret,
        table: str,
        columns: ColumnMap,
        filters: Mapping[str, str],
        *,
        called: str | None,
        nothing: bool = False,
    ) -> None:
        """Nothing is opened yet.

        Args:
            url: Of the database, as SQLAlchemy takes it.
            table: ``table`` or ``schema.table``.
            columns: Which column is what; without one for the key, the table's primary key is the key.
            filters: The word a row must say, by field.
            called: The name of the source; None: where it lies, and what is read of it.
            nothing: No row can match, by what stands for every row.
        """
        self._url = _parsed(url)
        self._table_name, self._columns = table, columns
        self._filters, self._nothing = filters, nothing
        self.where = _where(self._url)
        self.name = called or f"{self.where}#{table}.{'+'.join(columns.secrets.values())}"

    # ------------------------------------------------------------------------------------------------- what is there

    def check(self) -> None:
        """See ``Source.check``."""
        database = self._url.database
        if self._url.get_backend_name() == "sqlite" and (not database or not Path(database).exists()):
            raise ConfigurationError([f"there is no SQLite file {database!r}"])  # SQLite would make an empty one
        table, key = self._table, self._key
        with self._reading() as connection:
            missing = sa.select(sa.literal(1)).select_from(table).where(key.is_(None)).limit(1)
            if connection.scalar(missing) is not None:
                raise ConfigurationError([f"{self._table_name}.{key.name} is empty in some rows: it cannot be the key"])
            if [*table.primary_key.columns] != [key]:
                twice = sa.select(key).group_by(key).having(sa.func.count() > 1).limit(1)
                if connection.execute(twice).first() is not None:
                    problem = f"{self._table_name}.{key.name} is the same in several rows: it cannot be the key"
                    raise ConfigurationError([problem])

    @cached_property
    def _engine(self) -> sa.Engine:
        try:
            return sa.create_engine(
                self._url,
                hide_parameters=True,
                pool_pre_ping=True,
                connect_args=dict(TIMEOUTS.get(self._url.get_backend_name(), {})),
            )
        except (sa.exc.ArgumentError, ImportError) as error:
            cause = f"the driver is missing: {error.name}" if isinstance(error, ImportError) else "no such database"
            hint = "; for MySQL install evergrant[mysql]" if "mysql" in self._url.drivername else ""
            raise ConfigurationError([f"the source's URL cannot be used ({cause}){hint}"]) from None

    @cached_property
    def _table(self) -> sa.Table:
        schema, _, name = self._table_name.rpartition(".")
        with self._translated():
            try:
                table = sa.Table(
                    name, sa.MetaData(), schema=schema or None, autoload_with=self._engine, resolve_fks=False
                )
            except sa.exc.NoSuchTableError:
                raise ConfigurationError([f"there is no table {self._table_name!r} at {self.where}"]) from None
        known = ", ".join(table.c.keys())
        problems = [
            f"{self._table_name} has no column {column[:64]!r} for {field}; it has {known}"
            for field, column in self._columns.columns.items()
            if column not in table.c
        ]
        if problems:
            raise ConfigurationError(problems)
        return table

    @cached_property
    def _key(self) -> sa.Column[Any]:
        if self._columns.key is not None:
            return self._table.c[self._columns.key]
        columns = [*self._table.primary_key.columns]
        if len(columns) != 1:
            raise ConfigurationError(
                [f"{self._table_name} has no primary key of one column: map key to a unique column"]
            )
        found: sa.Column[Any] = columns[0]
        return found

    # ------------------------------------------------------------------------------------------------------- reading

    def count(self) -> int:
        """See ``Source.count``."""
        with self._reading() as connection:
            counted = connection.scalar(self._wanted(sa.select(sa.func.count()).select_from(self._table)))
        return 0 if self._nothing else counted or 0

    def batch(self, after: str | None, limit: int) -> list[SourceRow]:
        """See ``Source.batch``."""
        if self._nothing:
            return []
        names = dict.fromkeys(self._columns.columns.values())
        wanted = self._wanted(sa.select(self._key.label("evergrant_key"), *[self._table.c[name] for name in names]))
        if after is not None:
            wanted = wanted.where(self._key > _key_of(after))
        with self._reading() as connection:
            rows = connection.execute(wanted.order_by(self._key).limit(limit)).all()
        return [self._row(row[0], dict(zip(names, row[1:], strict=True))) for row in rows]

    def _wanted(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        for field, word in self._filters.items():
            column: sa.ColumnElement[Any] = self._table.c[self._columns.columns[field]]
            if not isinstance(column.type, sa.String):
                column = sa.cast(column, sa.String(255))
            statement = statement.where(column == word)
        return statement

    def _row(self, key: object, said: Mapping[str, object]) -> SourceRow:
        cursor = _cursor_of(key)
        read = {column: said[column] for column in self._columns.secrets.values()}
        text = _CODECS[type(key)][1](key)
        if "\0" in text:
            return broken(text, cursor, "no_key")
        return source_row(self._columns, text, cursor, said, (key, read))

    # ------------------------------------------------------------------------------------------------------ clearing

    def clear(self, rows: Sequence[SourceRow]) -> frozenset[str]:
        """See ``Source.clear``."""
        cleared = set()
        with self._translated(), self._engine.begin() as connection:
            for row in rows:
                assert isinstance(row.read, tuple)  # it is a row of ours
                key, read = row.read
                held = [self._holds(column, value) for column, value in read.items()]
                emptied = self._table.update().where(self._key == key, *held).values(
                    {column: self._nothing_for(column, value) for column, value in read.items()}
                )  # fmt: skip
                if connection.execute(emptied).rowcount == 1:
                    cleared.add(row.key)
        return frozenset(cleared)

    def _holds(self, column: str, value: object) -> sa.ColumnElement[bool]:
        """The column still is what was read, letter by letter: a collation may think a and A the same."""
        found: sa.ColumnElement[Any] = self._table.c[column]
        if value is None:
            return found.is_(None)
        dialect = self._engine.dialect.name
        if isinstance(value, str) and dialect in ("mysql", "mariadb"):
            binary = sa.LargeBinary()
            return sa.and_(found == value, sa.cast(found, binary) == sa.cast(sa.literal(value, sa.Text()), binary))
        if isinstance(value, str) and dialect == "sqlite":
            found = sa.collate(found, "BINARY")
        return found == value

    def _nothing_for(self, column: str, value: object) -> object:
        if value is None or self._table.c[column].nullable:
            return None
        return b"" if isinstance(value, (bytes, memoryview)) else ""

    def close(self) -> None:
        """See ``Source.close``."""
        if "_engine" in self.__dict__:
            self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what a driver raises into our errors, without its words: they may repeat a value or a password."""
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise SourceUnavailable(self.where, type(cause).__name__) from None


def _parsed(url: Secret) -> sa.URL:
    scheme, mark, rest = url.reveal().partition("://")
    try:
        parsed = sa.make_url(f"{DRIVERS.get(scheme, scheme)}://{rest}" if mark else "")
        if "@" in f"{parsed.host}{parsed.database}":  # part of a password with an @, which would be shown as a host
            raise ValueError
    except (sa.exc.ArgumentError, ValueError):  # whose words repeat what they could not read
        forms = "postgresql://user:password@host/database, sqlite:////path or mysql://user:password@host/database"
        hint = "special characters of a password as %XX"
        raise ConfigurationError([f"the source's URL cannot be read: write it as {forms}, {hint}"]) from None
    return parsed


def _where(url: sa.URL) -> str:
    """Name a database without user and password."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        return f"sqlite:{Path(url.database or '').absolute()}"
    port = f":{url.port}" if url.port else ""
    return f"{backend}://{url.host or url.query.get('host', 'localhost')}{port}/{url.database or ''}"


def _cursor_of(key: object) -> str:
    codec = _CODECS.get(type(key))
    if codec is None:
        raise ConfigurationError([f"a column of {type(key).__name__} values cannot be the key"])
    return f"{codec[0]}:{codec[1](key)}"


def _key_of(cursor: str) -> object:
    mark, _, text = cursor.partition(":")
    return _READ[mark](text)
