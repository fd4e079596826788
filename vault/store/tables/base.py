"""What all tables are made of."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.dialects.postgresql.base import ischema_names

SCHEMA = "evergrant"


class Xid8(sa.types.UserDefinedType[int]):
    """The number of a transaction, which never wraps around."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Name the type."""
        return "xid8"


ischema_names["xid8"] = Xid8  # so that a schema that is read back has it too
metadata = sa.MetaData(schema=SCHEMA)

NEVER_LEASED = sa.text("to_timestamp(0)")
"""Lease end of a row in nobody's hands: comparable, and representable in every client."""


def instant(name: str, *, nullable: bool = False, default: bool = False) -> sa.Column[object]:
    """An instant, aware."""
    return sa.Column(
        name, sa.DateTime(timezone=True), nullable=nullable, server_default=sa.text("now()") if default else None
    )


def blob(name: str, *, nullable: bool = False) -> sa.Column[object]:
    """Bytes."""
    return sa.Column(name, sa.LargeBinary, nullable=nullable)


def text(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[object]:
    """Text."""
    return sa.Column(name, sa.Text, nullable=nullable, server_default=default)


def connection_key() -> sa.Column[object]:
    """The connection a row is of, as its key."""
    return sa.Column(
        "connection_id", UUID, sa.ForeignKey(f"{SCHEMA}.connection.id", ondelete="CASCADE"), primary_key=True
    )
