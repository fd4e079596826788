"""Counters, and the work there is: what reading costs follows from what is found, never from what is stored.

The counters are read together with the differences nobody has added up yet, in one statement and so at one instant.
Everything else is walked along an index that has nothing but what is looked for, or along the part of one that has.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from vault.ports import Miscounted
from vault.standing.figures import MOST, Counted, Ends, OtherWork, RefreshWork, Tallied
from vault.store.engine import Database
from vault.store.pinned import PinnedConnection

PLANS = (
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off"
    " -c plan_cache_mode=force_generic_plan"
)
"""What is counted is little beside what is stored: it is found by its index, also when statistics say otherwise."""
UNHURRIED = "-c statement_timeout=600000 -c jit=off"
"""Counting every row anew may take its time: ten minutes."""

_OF_ONE = {False: "", True: " AND {}.tenant = %(tenant)s"}
_CLIENTS = """
RECURSIVE clients(client) AS (
  (SELECT s.client FROM evergrant.schedule s ORDER BY s.client LIMIT 1)
  UNION ALL
  SELECT (SELECT s.client FROM evergrant.schedule s WHERE s.client > c.client ORDER BY s.client LIMIT 1)
    FROM clients c WHERE c.client IS NOT NULL)
"""
"""Whoever has grants, in the registry or not: one step along an index for each."""


def tallies(*, of_one: bool) -> str:
    """Return the statement that reads counters; those of all tenants together are kept beside those of each."""
    whose = "%(tenant)s" if of_one else "'*' AND evergrant.all_tenants()"
    fresh = " WHERE f.tenant = %(tenant)s" if of_one else ""
    return f"""
SELECT t.what, t.provider, t.kind, t.state, sum(t.amount)::bigint
  FROM (SELECT a.what, a.provider, a.kind, a.state, a.amount FROM evergrant.tally a WHERE a.tenant = {whose}
         UNION ALL
        SELECT f.what, f.provider, f.kind, f.state, f.amount FROM evergrant.tally_change f{fresh}) t
 GROUP BY 1, 2, 3, 4 HAVING sum(t.amount) <> 0 ORDER BY 1, 2, 3, 4
"""


def ends(*, of_one: bool) -> str:
    """Return the statement that counts credentials by when they end."""
    whose = _OF_ONE[of_one].format("c")
    active = "FROM evergrant.credential c WHERE c.state = 'active'"
    return f"""
SELECT count(*) FILTER (WHERE c.expires_at <= now()),
       count(*) FILTER (WHERE c.expires_at > now() AND c.expires_at <= now() + interval '7 days'),
       count(*) FILTER (WHERE c.expires_at > now()),
       (SELECT count(*) {active} AND c.rotate_at <= now(){whose})
  {active} AND c.expires_at <= now() + interval '30 days'{whose}
"""


def refreshes(*, of_one: bool) -> str:
    """Return the statement that counts refreshes. Its walks are bounded, since a backlog may be everything there is.

    Those of one tenant, the one that is acted for, are counted by a function of the owner's: a walk that were held to
    the tenant's rows would go past everybody else's.
    """
    if of_one:
        return "SELECT due, overdue, running, failing FROM evergrant.refresh_work(%(patience)s)"
    some = "SELECT FROM evergrant.schedule s WHERE"
    return f"""
WITH {_CLIENTS},
due AS (
  SELECT w.next_at <= now() - %(patience)s::interval AND w.lease_until <= now() AS overdue
    FROM (SELECT d.* FROM clients c CROSS JOIN (VALUES (true), (false)) AS u(urgent)
           CROSS JOIN LATERAL (
                 SELECT s.next_at, s.lease_until FROM evergrant.schedule s
                  WHERE s.client = c.client AND s.urgent = u.urgent AND s.next_at <= now()
                  ORDER BY s.client, s.urgent, s.next_at LIMIT {MOST}) d
           LIMIT {MOST}) w)
SELECT count(*), count(*) FILTER (WHERE due.overdue),
       (SELECT count(*) FROM ({some} s.attempt >= 1 AND s.lease_until > now() LIMIT {MOST}) w),
       (SELECT count(*) FROM ({some} s.failures > 0 AND s.next_at IS NOT NULL LIMIT {MOST}) w)
  FROM due
"""


def work(*, of_one: bool) -> str:
    """Return the statement that counts rotations and events on their way, and tells the time."""
    rotations = "FROM evergrant.credential_rotation r WHERE r.ended_at IS NULL" + _OF_ONE[of_one].format("r")
    active = "evergrant.endpoint p WHERE p.state = 'active'" + _OF_ONE[of_one].format("p")
    waiting = "d.endpoint_id = p.id AND d.state = 'pending'"
    news = "evergrant.event e WHERE e.spread_at IS NULL" + _OF_ONE[of_one].format("e")
    return f"""
SELECT (SELECT count(*) {rotations}), (SELECT count(*) {rotations} AND r.attempt > (r.lease_until > now())::integer),
       (SELECT count(*) FROM (SELECT FROM (SELECT p.id FROM {active}) p
                                    CROSS JOIN LATERAL (SELECT FROM evergrant.delivery d WHERE {waiting}) d
                               LIMIT {MOST}) w),
       (SELECT count(*) FROM (SELECT FROM {news} LIMIT {MOST}) w), now()
"""


STATEMENTS: Final = (tallies, ends, refreshes, work)
_FOLD = b"SELECT folded, more FROM evergrant.tally_fold(%b)"
_RECOUNT = b"SELECT tenant, what, provider, kind, state, counted, kept FROM evergrant.tally_recount()"


class PostgresStatistics:
    """``StatisticsStore`` on PostgreSQL; thread-safe."""

    def __init__(self, database: Database, *, patience: timedelta) -> None:
        self._database, self._pinned = database, PinnedConnection(database, PLANS)
        self._patience = patience

    def counted(self, tenant: str | None) -> Counted:
        """See ``StatisticsStore.counted``."""
        given = {"tenant": tenant, "patience": self._patience}
        with self._pinned.session(tenant) as connection:
            cursor = connection.cursor(binary=True)
            counters, dates, due, rest = (
                cursor.execute(statement(of_one=tenant is not None).encode(), given).fetchall()
                for statement in STATEMENTS
            )
        *others, at = rest[0]
        return Counted(
            at, tuple(Tallied(*row) for row in counters), Ends(*dates[0]), RefreshWork(*due[0]), OtherWork(*others)
        )

    def fold(self, batch: int) -> tuple[int, bool]:
        """See ``StatisticsStore.fold``."""
        with self._pinned.session() as connection:
            row = connection.cursor(binary=True).execute(_FOLD, (batch,)).fetchone()
        return (0, False) if row is None else (row[0], row[1])

    def recount(self) -> Sequence[Miscounted]:
        """See ``StatisticsStore.recount``."""
        with self._database.translated(), self._database.connect(options=UNHURRIED) as connection:
            rows = connection.cursor(binary=True).execute(_RECOUNT).fetchall()
        return [Miscounted(row[0], Tallied(*row[1:6]), row[6]) for row in rows]

    def close(self) -> None:
        """Close the connection."""
        self._pinned.close()
