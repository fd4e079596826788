"""How connections are: one, or all of them page by page; signs of life of those who look after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from vault.model import SYSTEM, Status
from vault.ports import Sweep
from vault.standing.condition import ConditionRow, ConnectionHealth, HealthSummary, need, reachable, well
from vault.store.engine import Database
from vault.store.pinned import PinnedConnection

PLANS = (
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c enable_bitmapscan=off -c jit=off"
    " -c plan_cache_mode=force_generic_plan"
)
"""A page is little beside all connections: it is walked in the order of ids and joined row by row."""

_LATE = "s.next_at <= now() - %(patience)s::interval AND s.lease_until <= now()"
_ROW = f"""
       g.status, g.reason, s.failures > 0, g.expires_at <= now(), coalesce({_LATE}, false),
       coalesce(g.grant_ends_at <= now(), false)"""
_ONE = f"""
SELECT {_ROW}, c.provider, g.stale_at <= now() AND s.next_at IS NOT NULL,
       CASE WHEN s.lease_until <= now() THEN greatest(now() - s.next_at, interval '0') END,
       s.lease_until > now(), s.failures, g.refreshed_at, g.expires_at, s.next_at, g.grant_ends_at
  FROM evergrant.oauth_grant g
  JOIN evergrant.connection c ON c.id = g.connection_id JOIN evergrant.schedule s USING (connection_id)
 WHERE g.connection_id = %(id)s AND g.tenant = %(tenant)s
"""


def page(*, of_one: bool) -> str:
    """Return the statement for the next connections by id: how many are alike, and the last id beside each."""
    whose = "k.tenant = %(tenant)s AND " if of_one else "evergrant.all_tenants() AND "
    source = f"SELECT k.id FROM evergrant.connection k WHERE {whose}k.id > %(after)s ORDER BY k.id"
    return f"""
WITH page AS MATERIALIZED ({source} LIMIT %(limit)s)
SELECT {_ROW}, count(*), (SELECT k.id FROM page k ORDER BY k.id DESC LIMIT 1), (SELECT count(*) FROM page)
  FROM page k JOIN evergrant.oauth_grant g ON g.connection_id = k.id
  JOIN evergrant.schedule s ON s.connection_id = k.id
 GROUP BY 1, 2, 3, 4, 5, 6
"""


_BEFORE_ALL = UUID(int=0)
_SEEN = "h.began_at IS NOT DISTINCT FROM %(seen)s::timestamptz AND h.place IS NOT DISTINCT FROM %(seen_place)s::uuid"
_SWEEP = """
SELECT began_at, place, counts, last_began_at, last_ended_at, last_counts, now()
  FROM (SELECT) one LEFT JOIN evergrant.health_sweep ON tenant = %(tenant)s
"""
_BEGIN = f"""
INSERT INTO evergrant.health_sweep AS h (tenant, began_at) VALUES (%(tenant)s, clock_timestamp())
    ON CONFLICT (tenant) DO UPDATE SET began_at = clock_timestamp(), place = NULL, counts = '{{}}'
 WHERE {_SEEN}
RETURNING began_at
"""
_GO_ON = f"""
UPDATE evergrant.health_sweep h SET place = %(place)s, counts = %(counts)s WHERE h.tenant = %(tenant)s AND {_SEEN}
"""
_END = f"""
UPDATE evergrant.health_sweep h
   SET last_counts = %(counts)s, last_began_at = began_at, last_ended_at = clock_timestamp(), began_at = NULL,
       place = NULL, counts = '{{}}'
 WHERE h.tenant = %(tenant)s AND {_SEEN} RETURNING last_ended_at
"""


class PostgresConditions:
    """``ConditionStore`` on PostgreSQL; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._pinned = PinnedConnection(database, PLANS)

    def condition(self, tenant: str, connection_id: UUID, patience: timedelta) -> ConnectionHealth | None:
        """See ``ConditionStore.condition``."""
        rows = self._run(tenant, _ONE, {"tenant": tenant, "id": connection_id, "patience": patience})
        if not rows:
            return None
        found = _condition(rows[0])
        provider, stale, late, refreshing, failures, refreshed_at, expires_at, next_at, ends_at = rows[0][6:]
        return ConnectionHealth(
            connection_id, provider, found.status, need(found), found.reason, well(found), found.expired, stale,
            late or timedelta(0), refreshing, reachable(found), failures, refreshed_at, expires_at, next_at, ends_at,
        )  # fmt: skip

    def conditions(
        self, tenant: str | None, after: UUID | None, limit: int, patience: timedelta
    ) -> tuple[Sequence[tuple[ConditionRow, int]], UUID | None]:
        """See ``ConditionStore.conditions``."""
        given = {"tenant": tenant, "after": after or _BEFORE_ALL, "limit": limit, "patience": patience}
        rows = self._run(tenant, page(of_one=tenant is not None), given)
        full = bool(rows) and rows[0][8] == limit
        return [(_condition(row), row[6]) for row in rows], rows[0][7] if full else None

    def sweep(self, tenant: str | None) -> tuple[Sweep | None, HealthSummary | None, datetime]:
        """See ``ConditionStore.sweep``."""
        [(began, place, counts, last_began, last_ended, last_counts, now)] = self._run(tenant, _SWEEP, _key(tenant))
        going = None if began is None else Sweep(began, place, HealthSummary(**counts, began_at=began))
        last = None
        if last_counts is not None:
            last = HealthSummary(**last_counts, began_at=last_began, ended_at=last_ended)
        return going, last, now

    def begin_sweep(self, tenant: str | None, seen: Sweep | None) -> Sweep | None:
        """See ``ConditionStore.begin_sweep``."""
        rows = self._run(tenant, _BEGIN, {**_key(tenant), **_seen(seen)})
        return Sweep(rows[0][0], None, HealthSummary(began_at=rows[0][0])) if rows else None

    def go_on(self, tenant: str | None, seen: Sweep, following: Sweep) -> bool:
        """See ``ConditionStore.go_on``."""
        noted = {"place": following.place, "counts": Jsonb(following.found.counts())}
        return bool(self._run(tenant, f"{_GO_ON} RETURNING 1", {**_key(tenant), **_seen(seen), **noted}))

    def end_sweep(self, tenant: str | None, seen: Sweep, found: HealthSummary) -> HealthSummary | None:
        """See ``ConditionStore.end_sweep``."""
        rows = self._run(tenant, _END, {**_key(tenant), **_seen(seen), "counts": Jsonb(found.counts())})
        return found._replace(ended_at=rows[0][0]) if rows else None

    def _run(self, tenant: str | None, statement: str, given: Mapping[str, Any]) -> list[Any]:
        with self._pinned.session(tenant) as connection:
            return connection.cursor(binary=True).execute(statement.encode(), given).fetchall()

    def close(self) -> None:
        """Close the connection."""
        self._pinned.close()


def _key(tenant: str | None) -> dict[str, str]:
    return {"tenant": SYSTEM if tenant is None else tenant}


def _seen(sweep: Sweep | None) -> dict[str, Any]:
    return {"seen": sweep and sweep.began_at, "seen_place": sweep and sweep.place}


def _condition(row: Any) -> ConditionRow:
    return ConditionRow(Status(row[0]), *row[1:6])
