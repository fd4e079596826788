"""S2: taking due rows, on a connection of its own whose plans are pinned.

Order and fairness come from the statement: for each client of a provider a bounded walk along ``schedule_due``,
urgent rows first, so that a backlog of one provider costs the others nothing. The default planner may prefer a bitmap
and a sort over *all* due rows, which makes a claim cost the backlog; on this connection it may not.

Rows are locked by the first statement and read by the second, which sees everything committed until then. One
statement could pair a schedule row with a grant from before a concurrent commit, and send a refresh token whose
successor is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from vault.claims import Claim, DataKeyRecord, Overdue, Quota
from vault.model import Status
from vault.store.engine import Database
from vault.store.pinned import PinnedConnection

PINNED_PLANS = (
    "-c enable_seqscan=off -c enable_bitmapscan=off -c enable_sort=off -c jit=off -c plan_cache_mode=force_generic_plan"
)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

_LOCK_DUE = """
SELECT d.connection_id, q.lease, q.client
  FROM unnest(%b::text[], %b::boolean[], %b::timestamptz[], %b::integer[], %b::interval[])
       AS q(client, urgent, since, rows, lease)
 CROSS JOIN LATERAL (
       SELECT s.connection_id FROM evergrant.schedule s
        WHERE s.client = q.client AND s.urgent = q.urgent AND s.next_at >= q.since AND s.next_at <= now()
          AND s.lease_until <= now() AND s.attempt < 1 AND evergrant.all_tenants()
        ORDER BY s.client, s.urgent, s.next_at
        LIMIT q.rows FOR UPDATE SKIP LOCKED) d
"""
_LOCK_ONE = """
SELECT s.connection_id, q.lease FROM unnest(%b::text[], %b::interval[]) AS q(client, lease)
  JOIN evergrant.schedule s USING (client)
 WHERE s.connection_id = %b AND s.lease_until <= now()
   AND (s.next_at <= now() OR (s.next_at IS NOT NULL AND s.failures = 0 AND s.attempt < 1))
   AND evergrant.all_tenants()
   FOR UPDATE OF s SKIP LOCKED
"""
_LOCK_SUSPECTS = """
SELECT s.connection_id, q.lease FROM unnest(%%b::text[], %%b::interval[]) AS q(client, lease)
  JOIN evergrant.schedule s USING (client)
 WHERE s.attempt %s AND s.next_at <= now() AND s.lease_until <= now()
 ORDER BY s.next_at LIMIT %%b
   FOR UPDATE OF s SKIP LOCKED
"""
_LOCK_A_FEW, _LOCK_ANY = _LOCK_SUSPECTS % "= 1", _LOCK_SUSPECTS % ">= 2"
_TAKE = """
UPDATE evergrant.schedule s
   SET epoch = s.epoch + 1, attempt = s.attempt + 1, lease_until = now() + t.lease,
       intent_fp = g.refresh_fp, intent_at = CASE WHEN s.intent_fp = g.refresh_fp THEN s.intent_at ELSE now() END,
       next_at = CASE WHEN s.attempt >= 3 THEN now() + %b ELSE LEAST(s.next_at, now()) END
  FROM unnest(%b::uuid[], %b::interval[]) AS t(connection_id, lease)
  JOIN evergrant.oauth_grant g USING (connection_id)
  JOIN evergrant.data_key k ON k.id = g.data_key_id
 WHERE s.connection_id = t.connection_id AND g.status NOT IN ('needs_reconnect', 'disconnected')
RETURNING s.connection_id, g.tenant, k.owner, k.provider, s.client, g.client_id, g.consent, g.status, g.reason,
       g.version,
       g.refresh_fp, g.refresh_envelope, g.expires_at, g.refreshed_at, g.grant_ends_at,
       s.epoch, s.attempt, s.failures, NULLIF(s.intent_at, now()),
       EXISTS (SELECT 1 FROM evergrant.candidate c WHERE c.connection_id = g.connection_id
                  AND c.consent = g.consent AND c.parent_fp = g.refresh_fp),
       now(), s.lease_until, s.next_at, s.urgent,
       k.id, k.purpose, k.state, k.tenant_key_id, k.wrapped
"""
_OVERDUE = """
SELECT count(*) FILTER (WHERE evergrant.all_tenants()), COALESCE(max(now() - d.next_at), interval '0')
  FROM unnest(%b::text[]) AS q(client) CROSS JOIN unnest(ARRAY[true, false]) AS u(urgent)
 CROSS JOIN LATERAL (
       SELECT s.next_at FROM evergrant.schedule s
        WHERE s.client = q.client AND s.urgent = u.urgent AND s.next_at <= now() AND s.lease_until <= now()
        ORDER BY s.client, s.urgent, s.next_at LIMIT 1000) d
"""


class PostgresClaims:
    """Claims rows; one instance serves one thread at a time."""

    def __init__(self, database: Database, *, quarantine_wait: timedelta) -> None:
        self._pinned = PinnedConnection(database, PINNED_PLANS)
        self._quarantine_wait = quarantine_wait

    def claim(self, quotas: Sequence[Quota]) -> list[Claim]:
        """See ``RefreshStore.claim``; the rows come soonest to expire first."""
        wanted = [(q, urgent) for q in quotas for urgent in (True, False) if q.rows > 0]
        if not wanted:
            return []
        columns = (
            [q.client for q, _ in wanted],
            [urgent for _, urgent in wanted],
            [LONG_AGO if urgent or q.since is None else q.since for q, urgent in wanted],
            [q.rows for q, _ in wanted],
            [q.lease for q, _ in wanted],
        )
        claims = self._take(_LOCK_DUE, columns, {q.client: q.rows for q in quotas})
        claims.sort(key=_expires_at)
        return claims

    def claim_one(self, connection_id: UUID, quotas: Sequence[Quota]) -> Claim | None:
        """See ``RefreshStore.claim_one``."""
        claims = self._take(_LOCK_ONE, ([q.client for q in quotas], [q.lease for q in quotas], connection_id))
        return claims[0] if claims else None

    def claim_suspects(self, quotas: Sequence[Quota], few: int) -> list[Claim]:
        """See ``RefreshStore.claim_suspects``."""
        clients, leases = [q.client for q in quotas], [q.lease for q in quotas]
        return self._take(_LOCK_A_FEW, (clients, leases, few)) or self._take(_LOCK_ANY, (clients, leases, 1))

    def overdue(self, clients: Sequence[str]) -> Overdue:
        """See ``RefreshStore.overdue``."""
        with self._pinned.session() as connection:
            row = connection.cursor(binary=True).execute(_OVERDUE, (list(clients),)).fetchone()
        return Overdue(*row) if row else Overdue(0, timedelta(0))

    def close(self) -> None:
        """Close the connection."""
        self._pinned.close()

    def _take(self, lock: str, parameters: tuple[object, ...], room: dict[str, int] | None = None) -> list[Claim]:
        with self._pinned.session() as connection, connection.transaction():
            cursor = connection.cursor(binary=True)
            locked = cursor.execute(lock.encode(), parameters).fetchall()
            if room is not None:
                locked = _within(room, locked)
            if not locked:
                return []
            ids = [row[0] for row in locked]
            leases = [row[1] for row in locked]
            rows = cursor.execute(_TAKE, (self._quarantine_wait, ids, leases)).fetchall()
        return [_claim(row) for row in rows]


def _within(room: dict[str, int], locked: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Keep what fits: the walks along urgent and merely due rows each stop at the quota, and urgent ones come first."""
    taken = []
    for row in locked:
        room[row[2]] -= 1
        if room[row[2]] >= 0:
            taken.append(row)
    return taken


def _expires_at(claim: Claim) -> datetime:
    return claim.expires_at


def _claim(row: tuple[Any, ...]) -> Claim:
    (
        connection_id,
        tenant,
        owner,
        provider,
        client,
        client_id,
        consent,
        status,
        reason,
        version,
        refresh_fp,
        refresh_envelope,
        expires_at,
        refreshed_at,
        grant_ends_at,
        epoch,
        attempt,
        failures,
        doubt_since,
        candidate,
        claimed_at,
        lease_until,
        due_at,
        urgent,
        key_id,
        purpose,
        state,
        tenant_key_id,
        wrapped,
    ) = row
    key = DataKeyRecord(key_id, tenant, owner, provider, purpose, state, tenant_key_id, wrapped)
    return Claim(
        connection_id,
        tenant,
        owner,
        provider,
        client,
        client_id,
        consent,
        _STATUS[status],
        reason,
        version,
        refresh_fp,
        refresh_envelope,
        expires_at,
        refreshed_at,
        grant_ends_at,
        key,
        epoch,
        attempt,
        failures,
        doubt_since,
        candidate,
        claimed_at,
        lease_until,
        due_at,
        urgent,
    )


_STATUS = {status.value: status for status in Status}
