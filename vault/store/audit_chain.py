"""Chaining, forgetting and reading the audit. What changes it does so in functions of the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from struct import Struct
from typing import Any

import psycopg

from vault.audit.rows import LEAST_DAYS, NOTHING, AuditAnchor, AuditRow, Link
from vault.ports import AnchoredPlace, Ends, Unlinked
from vault.store.engine import Database
from vault.store.pinned import PinnedConnection

UNHURRIED = (
    "-c statement_timeout=600000 -c enable_hashjoin=off -c enable_mergejoin=off -c enable_seqscan=off -c jit=off"
    " -c plan_cache_mode=force_custom_plan"
)
"""A batch is small beside the tables: it is read along an index and joined row by row. Ten minutes for a statement."""
READING_LOCK = 1163282259
"""Advisory lock, beside that of upgrades: who reads chains shares it, and retention leaves it for another time."""

_numbers = Struct(">Qq").unpack
_ROW = "a.id, xid8send(a.xid) || timestamptz_send(a.at), a.tenant, a.event, a.connection_id, a.detail::text"
_LINK = f"SELECT l.tenant, l.seq, l.digest, l.audit_id, {_ROW} FROM evergrant.audit_link l LEFT JOIN evergrant.audit a"
_LINKS = f"""
{_LINK} ON a.id = l.audit_id WHERE (l.tenant, l.seq) > (%s, %s) ORDER BY l.tenant, l.seq LIMIT %s
"""
_SPAN = f"""
{_LINK} ON a.id = l.audit_id WHERE l.tenant = %s AND l.seq > %s AND l.seq <= %s ORDER BY l.seq LIMIT %s
"""
_ENDS = """
SELECT tenant, s.seq, s.digest, h.seq, h.digest
  FROM evergrant.audit_start s FULL JOIN evergrant.audit_head h USING (tenant)
"""
_LINKLESS = f"""
SELECT * FROM ({_ENDS}) AS e WHERE (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
   AND NOT EXISTS (SELECT FROM evergrant.audit_link l WHERE l.tenant = e.tenant)
"""
_LAG = """
SELECT clock_timestamp() - a.at
  FROM (SELECT xid, id, place IS NOT DISTINCT FROM evergrant.audit_place() AS here FROM evergrant.audit_cursor) AS c
 CROSS JOIN LATERAL (
       SELECT r.at FROM evergrant.audit r
        WHERE (r.xid, r.id) > (CASE WHEN c.here THEN c.xid ELSE '0' END, CASE WHEN c.here THEN c.id ELSE 0 END)
        ORDER BY r.xid, r.id LIMIT 1) AS a
"""
"""Whoever has just restored the database elsewhere has linked nothing there yet."""
_LAST_OF = "SELECT id FROM evergrant.audit WHERE id > %s ORDER BY id OFFSET %s LIMIT 1"
_UNLINKED = f"""
SELECT {_ROW}, c.here AND (a.xid, a.id) <= (c.xid, c.id), c.here AND a.xid >= pg_snapshot_xmax(pg_current_snapshot())
  FROM evergrant.audit a CROSS JOIN (
       SELECT xid, id, place = evergrant.audit_place() AND resume_xid IS NULL AS here FROM evergrant.audit_cursor) AS c
 WHERE a.id > %(after)s AND a.id <= %(last)s AND (%(tenant)s::text IS NULL OR a.tenant = %(tenant)s)
   AND NOT EXISTS (SELECT FROM evergrant.audit_link l WHERE l.audit_id = a.id)
 ORDER BY a.id
"""
_AT_ANCHORS = """
SELECT l.digest, s.seq, s.digest
  FROM unnest(%s::text[], %s::bigint[]) WITH ORDINALITY AS n(tenant, seq, place)
  LEFT JOIN evergrant.audit_link l ON l.tenant = n.tenant AND l.seq = n.seq
  LEFT JOIN evergrant.audit_start s ON s.tenant = n.tenant
 ORDER BY n.place
"""
_ANCHORS = """
SELECT h.tenant, h.seq, h.digest, timestamptz_send(a.at) FROM evergrant.audit_head h
  LEFT JOIN evergrant.audit_link l ON l.tenant = h.tenant AND l.seq = h.seq
  LEFT JOIN evergrant.audit a ON a.id = l.audit_id
 WHERE %(tenant)s::text IS NULL OR h.tenant = %(tenant)s ORDER BY h.tenant
"""
_SPANS = """
SELECT l.tenant, min(l.seq), max(l.seq) FROM evergrant.audit a JOIN evergrant.audit_link l ON l.audit_id = a.id
 WHERE (%(tenant)s::text IS NULL OR a.tenant = %(tenant)s)
   AND a.at >= coalesce(%(since)s::timestamptz, '-infinity') AND a.at < coalesce(%(until)s::timestamptz, 'infinity')
 GROUP BY l.tenant ORDER BY l.tenant
"""
_BEFORE = """
SELECT seq, digest FROM evergrant.audit_link WHERE tenant = %(tenant)s AND seq = %(seq)s
 UNION ALL SELECT seq, digest FROM evergrant.audit_start WHERE tenant = %(tenant)s AND seq = %(seq)s
"""
_HORIZON = "pg_snapshot_xmin(pg_current_snapshot())"
_NEWEST = f"""
SELECT {_ROW}, {_HORIZON}::text FROM evergrant.audit a
 WHERE %(tenant)s::text IS NULL OR a.tenant = %(tenant)s ORDER BY a.id DESC LIMIT %(limit)s
"""
_FOLLOWING = f"""
SELECT {_ROW} FROM evergrant.audit a
 WHERE (a.xid, a.id) > (%(xid)s::text::xid8, %(id)s) AND a.xid < {_HORIZON} ORDER BY a.xid, a.id LIMIT %(limit)s
"""


class PostgresAudit:
    """``AuditStore`` on PostgreSQL; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._pinned = PinnedConnection(database, UNHURRIED)

    def chain(self, batch: int) -> tuple[int, bool]:
        """See ``AuditStore.chain``."""
        [(linked, more)] = self._read("SELECT linked, more FROM evergrant.audit_chain(%s)", (batch,))
        return linked, more

    def lag(self) -> timedelta:
        """See ``AuditStore.lag``."""
        rows = self._read(_LAG)
        return rows[0][0] if rows else timedelta(0)

    def forget(self, keep: timedelta, batch: int) -> tuple[int, bool]:
        """See ``AuditStore.forget``."""
        [(forgotten, more)] = self._read("SELECT forgotten, more FROM evergrant.audit_forget(%s, %s)", (keep, batch))
        return forgotten, more

    def forgettable(self, keep: timedelta) -> int:
        """See ``AuditStore.forgettable``."""
        young = "SELECT id FROM evergrant.audit WHERE at >= date_trunc('day', now() - %s, 'UTC') ORDER BY id LIMIT 1"
        counted = f"SELECT count(*) FROM evergrant.audit a WHERE a.id < coalesce(({young}), {2**63 - 1})"
        linked = "EXISTS (SELECT FROM evergrant.audit_link l WHERE l.audit_id = a.id)"
        [(number,)] = self._read(f"{counted} AND {linked}", (max(keep, timedelta(days=LEAST_DAYS)),))
        return int(number)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """See ``AuditStore.undisturbed``."""
        self._read("SELECT pg_advisory_lock_shared(%s)", (READING_LOCK,))
        try:
            yield
        finally:
            self._read("SELECT pg_advisory_unlock_shared(%s)", (READING_LOCK,))

    def links(self, after: tuple[str, int], limit: int, tenant: str | None) -> tuple[list[Link], dict[str, Ends]]:
        """See ``AuditStore.links``."""
        with self._pinned.session() as connection, connection.transaction():
            cursor = connection.cursor(binary=True)
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")  # links and ends of one instant
            if tenant is None:
                rows = cursor.execute(_LINKS.encode(), (*after, limit)).fetchall()
            else:
                rows = cursor.execute(_SPAN.encode(), (tenant, after[1], 2**63 - 1, limit)).fetchall()
            found = [_link(row) for row in rows]
            tenants = list({link.tenant for link in found})
            ends = cursor.execute(f"{_ENDS} WHERE tenant = ANY(%s)".encode(), (tenants,)).fetchall()
        return found, {row[0]: _ends(row) for row in ends}

    def chains_without_links(self, tenant: str | None) -> list[tuple[str, Ends]]:
        """See ``AuditStore.chains_without_links``."""
        return [(row[0], _ends(row)) for row in self._read(_LINKLESS, {"tenant": tenant})]

    def unlinked(self, after: int, limit: int, tenant: str | None) -> tuple[list[Unlinked], int | None]:
        """See ``AuditStore.unlinked``."""
        last = self._read(_LAST_OF, (after, limit - 1))
        upto = last[0][0] if last else 2**63 - 1
        rows = self._read(_UNLINKED, {"after": after, "last": upto, "tenant": tenant})
        return [Unlinked(_row(row), row[6], row[7]) for row in rows], upto if last else None

    def at_anchors(self, anchors: Sequence[AuditAnchor]) -> list[AnchoredPlace]:
        """See ``AuditStore.at_anchors``."""
        rows = self._read(_AT_ANCHORS, ([each.tenant for each in anchors], [each.seq for each in anchors]))
        asked = zip(rows, anchors, strict=True)
        return [
            AnchoredPlace(digest, None if seq is None else AuditAnchor(each.tenant, seq, start))
            for (digest, seq, start), each in asked
        ]

    def anchors(self, tenant: str | None) -> list[AuditAnchor]:
        """See ``AuditStore.anchors``."""
        rows = self._read(_ANCHORS, {"tenant": tenant})
        return [AuditAnchor(whose, seq, digest, None if at is None else _at(at)) for whose, seq, digest, at in rows]

    def spans(self, tenant: str | None, since: datetime | None, until: datetime | None) -> list[tuple[str, int, int]]:
        """See ``AuditStore.spans``."""
        return self._read(_SPANS, {"tenant": tenant, "since": since, "until": until})

    def before(self, tenant: str, seq: int) -> AuditAnchor:
        """See ``AuditStore.before``."""
        found = self._read(_BEFORE, {"tenant": tenant, "seq": seq - 1})
        return AuditAnchor(tenant, *found[0]) if found else AuditAnchor(tenant, seq - 1, NOTHING)

    def span(self, tenant: str, after: int, last: int, limit: int) -> list[Link]:
        """See ``AuditStore.span``."""
        return [_link(row) for row in self._read(_SPAN, (tenant, after, last, limit))]

    def newest(self, number: int, tenant: str | None) -> tuple[list[AuditRow], tuple[int, int]]:
        """See ``AuditStore.newest``."""
        [(horizon,)] = self._read(f"SELECT {_HORIZON}::text")
        rows = self._read(_NEWEST, {"tenant": tenant, "limit": number})
        return [_row(row) for row in reversed(rows)], (int(rows[0][6] if rows else horizon), 0)

    def following(
        self, place: tuple[int, int], limit: int, tenant: str | None
    ) -> tuple[list[AuditRow], tuple[int, int]]:
        """See ``AuditStore.following``."""
        rows = [_row(row) for row in self._read(_FOLLOWING, {"xid": str(place[0]), "id": place[1], "limit": limit})]
        following = (rows[-1].xid, rows[-1].id) if rows else place
        return [row for row in rows if tenant in (None, row.tenant)], following

    def now(self) -> datetime:
        """See ``AuditStore.now``."""
        [(at,)] = self._read("SELECT clock_timestamp()")
        found: datetime = at
        return found

    def _read(self, statement: str, parameters: Any = ()) -> list[Any]:
        with self._pinned.session() as connection:
            return connection.cursor(binary=True).execute(statement.encode(), parameters).fetchall()

    def close(self) -> None:
        """Close the connection."""
        self._pinned.close()


def _link(row: psycopg.rows.TupleRow) -> Link:
    tenant, seq, digest, audit_id = row[:4]
    return Link(tenant, seq, digest, audit_id, None if row[4] is None else _row(row[4:]))


def _row(row: psycopg.rows.TupleRow) -> AuditRow:
    return AuditRow(row[0], *_numbers(row[1]), *row[2:6])


def _at(sent: bytes) -> int:
    return int.from_bytes(sent, "big", signed=True)


def _ends(row: psycopg.rows.TupleRow) -> Ends:
    tenant, start, start_digest, head, head_digest = row
    return Ends(
        None if start is None else AuditAnchor(tenant, start, start_digest),
        None if head is None else AuditAnchor(tenant, head, head_digest),
    )
