"""Columns of a batch as arrays in PostgreSQL's binary form, made in one go.

psycopg asks every list anew what it holds and packs it element by element: for a batch of ten answers that costs as
much as the statement they go with.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any, ClassVar, Self
from uuid import UUID

import psycopg
from psycopg.adapt import Dumper
from psycopg.postgres import types
from psycopg.pq import Format

_head = Struct(">iiIii").pack
_length = Struct(">i").pack
_bigint = Struct(">iq").pack
_integer = Struct(">ii").pack
_NULL = _length(-1)
_OF_UUID = _length(16)
_YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Column(bytes):
    """An array, ready to be sent."""

    element: ClassVar[str]
    """PostgreSQL's name of what it holds."""

    @classmethod
    def _of(cls, items: list[bytes]) -> Self:
        return cls(b"".join([_head(1, _NULL in items, types[cls.element].oid, len(items), 1), *items]))


class Uuids(Column):
    """A ``uuid[]``."""

    element = "uuid"

    @classmethod
    def of(cls, values: Sequence[UUID]) -> Self:
        """Make one."""
        return cls._of([_OF_UUID + value.bytes for value in values])


class Integers(Column):
    """An ``integer[]``."""

    element = "int4"

    @classmethod
    def of(cls, values: Sequence[int]) -> Self:
        """Make one."""
        return cls._of([_integer(4, value) for value in values])


class Bigints(Column):
    """A ``bigint[]``."""

    element = "int8"

    @classmethod
    def of(cls, values: Sequence[int]) -> Self:
        """Make one."""
        return cls._of([_bigint(8, value) for value in values])


class Byteas(Column):
    """A ``bytea[]``; None becomes NULL."""

    element = "bytea"

    @classmethod
    def of(cls, values: Sequence[bytes | None]) -> Self:
        """Make one."""
        return cls._of([_NULL if value is None else _length(len(value)) + value for value in values])


class Texts(Column):
    """A ``text[]``; None becomes NULL."""

    element = "text"

    @classmethod
    def of(cls, values: Sequence[str | None]) -> Self:
        """Make one."""
        encoded = [None if value is None else value.encode() for value in values]
        return cls._of([_NULL if value is None else _length(len(value)) + value for value in encoded])


class Instants(Column):
    """A ``timestamptz[]`` of aware instants; None becomes NULL."""

    element = "timestamptz"

    @classmethod
    def of(cls, values: Sequence[datetime | None]) -> Self:
        """Make one."""
        micros = [None if value is None else (value - _YEAR_2000) // _MICROSECOND for value in values]
        return cls._of([_NULL if value is None else _bigint(8, value) for value in micros])


class _Ready(Dumper):
    """Passes a column on as it is."""

    format = Format.BINARY

    def dump(self, obj: Column) -> bytes:
        return obj


_DUMPERS = {
    column: type(f"_{column.__name__}Dumper", (_Ready,), {"oid": types[column.element].array_oid})
    for column in (Uuids, Integers, Bigints, Byteas, Texts, Instants)
}


def understand(connection: psycopg.Connection[Any]) -> None:
    """Have a connection take columns as parameters."""
    for column, dumper in _DUMPERS.items():
        connection.adapters.register_dumper(column, dumper)
