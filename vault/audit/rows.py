"""Rows of the audit, links of its chains, and the digest that ties each link to its row and to the link before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import Struct
from typing import NamedTuple
from uuid import UUID

LABEL = b"evergrant audit 1"
"""Names the form of what is digested; another form gets another name."""
NOTHING = bytes(32)
"""Stands for the digest before the first link of a chain."""
LEAST_DAYS = 31
"""Rows are kept so long at least: longer than a candidate lives, whose lineage only the audit remembers."""
_YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_numbers = Struct(">qqQq").pack
_length = Struct(">I").pack


class AuditRow(NamedTuple):
    """One act, as the database has it."""

    id: int
    xid: int
    """The transaction that wrote it."""
    at: int
    """Microseconds since 2000-01-01 UTC, which is what PostgreSQL keeps; ``instant`` is the same for people."""
    tenant: str
    event: str
    connection_id: UUID | None
    detail: str
    """JSON, letter by letter as PostgreSQL writes it."""

    @property
    def instant(self) -> datetime | None:
        """When it was; None: beyond what Python can say."""
        return instant(self.at)


class AuditAnchor(NamedTuple):
    """A place in a tenant's chain. Kept elsewhere, it shows later whether anything up to there was changed."""

    tenant: str
    seq: int
    digest: bytes
    at: int | None = None
    """When the act at this place was, as in ``AuditRow``; None: unknown."""


class Link(NamedTuple):
    """One link of a chain, with the row it was made of."""

    tenant: str
    seq: int
    digest: bytes
    audit_id: int
    row: AuditRow | None
    """None: the row is gone."""


def digest(previous: bytes, seq: int, row: AuditRow) -> bytes:
    """Return the digest of a link: SHA-256 over the digest before it, its place in the chain, and all of its row.

    ``evergrant.audit_digest`` in the database says the same in SQL.
    """
    return sha256(encoded(previous, seq, row)).digest()


def encoded(previous: bytes, seq: int, row: AuditRow) -> bytes:
    """Return what is digested, which no two rows or places have in common.

    Numbers are big-endian in eight bytes, texts are UTF-8 behind their length in four, a connection is its sixteen
    bytes or none; ``previous`` is 32 bytes.
    """
    tenant, event, detail = row.tenant.encode(), row.event.encode(), row.detail.encode()
    return b"".join(
        (
            *(LABEL, previous, _numbers(seq, row.id, row.xid, row.at)),
            *(_length(len(tenant)), tenant, _length(len(event)), event, _length(len(detail)), detail),
            b"" if row.connection_id is None else row.connection_id.bytes,
        )
    )


def instant(at: int) -> datetime | None:
    """Read PostgreSQL's microseconds; None: beyond what Python can say."""
    try:
        return _YEAR_2000 + timedelta(microseconds=at)
    except OverflowError:
        return None


def microseconds(at: datetime) -> int:
    """Write an aware instant as PostgreSQL keeps it."""
    return (at - _YEAR_2000) // _MICROSECOND
