"""Deliveries on their way, and events that have had their day."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from vault.claims import Overdue
from vault.events import Due, Ended, Event, SealedSecret
from vault.model import SYSTEM, Status
from vault.store.arrays import Integers, Texts, Uuids
from vault.store.audit import audit_row
from vault.store.engine import Database
from vault.store.pinned import PinnedConnection
from vault.store.tables import audit, delivery, endpoint, event, oauth_grant

PLANS = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off"
"""What is due is little beside what is kept: it is found by its index, also when statistics say otherwise."""
SWEPT_AT_ONCE: Final = 10_000
_now = sa.func.now()

_EVENT = ", ".join(f"e.{name}" for name in Event._fields)
_NEW = f"""
WITH new AS (
  SELECT id FROM evergrant.event WHERE spread_at IS NULL ORDER BY created_at LIMIT %b FOR UPDATE SKIP LOCKED)
UPDATE evergrant.event e SET spread_at = now() FROM new WHERE e.id = new.id RETURNING {_EVENT}
""".encode()
_SPREAD = b"""
INSERT INTO evergrant.delivery (event_id, endpoint_id, state)
SELECT e.id, p.id, CASE p.state WHEN 'active' THEN 'pending' ELSE 'held' END
  FROM unnest(%b::uuid[]) AS n(id) JOIN evergrant.event e USING (id)
  JOIN evergrant.endpoint p ON ((p.tenant = e.tenant AND p.kind = 'webhook') OR (p.tenant = '*' AND p.kind = 'hook'))
                           AND p.created_at <= e.created_at AND (p.types = '{}' OR e.type = ANY(p.types))
   FOR SHARE OF p
    ON CONFLICT DO NOTHING
"""
"""The lock: an endpoint that is being enabled or disabled is looked at afterwards."""

_WAITING = """
RECURSIVE busy(endpoint_id) AS (
  (SELECT d.endpoint_id FROM evergrant.delivery d WHERE d.state = 'pending' ORDER BY d.endpoint_id LIMIT 1)
  UNION ALL
  SELECT (SELECT d.endpoint_id FROM evergrant.delivery d WHERE d.state = 'pending' AND d.endpoint_id > b.endpoint_id
           ORDER BY d.endpoint_id LIMIT 1)
    FROM busy b WHERE b.endpoint_id IS NOT NULL),
waiting AS (
  SELECT p.id, p.kind, w.next_at
    FROM busy b JOIN evergrant.endpoint p ON p.id = b.endpoint_id
   CROSS JOIN LATERAL (
         SELECT d.next_at FROM evergrant.delivery d WHERE d.endpoint_id = p.id AND d.state = 'pending'
          ORDER BY d.next_at LIMIT 1) w
   WHERE p.state = 'active' AND w.next_at <= now())
"""
"""Endpoints with something due, and since when: one step along an index for each that has something on its way."""


def _lock(which: str) -> bytes:
    """Lock what is due at endpoints of a kind, those that have waited longest first, each within its room."""
    return f"""
WITH {_WAITING},
turn AS MATERIALIZED (
  SELECT w.id, %b::integer - (SELECT count(*) FROM evergrant.delivery d
                               WHERE d.endpoint_id = w.id AND d.state = 'pending' AND d.lease_until > now()) AS room
    FROM waiting w WHERE {which}
   ORDER BY w.next_at)
SELECT d.event_id, d.endpoint_id
  FROM turn CROSS JOIN LATERAL (
       SELECT l.event_id, l.endpoint_id FROM evergrant.delivery l
        WHERE l.endpoint_id = turn.id AND l.state = 'pending' AND l.next_at <= now()
        ORDER BY l.next_at LIMIT GREATEST(turn.room, 0) FOR UPDATE SKIP LOCKED) d
 LIMIT %b
""".encode()


_LOCK_WEBHOOKS, _LOCK_HOOKS = _lock("w.kind = 'webhook'"), _lock("w.id = ANY(%b::uuid[])")
_LOCK_ONE = b"""
SELECT d.event_id, d.endpoint_id FROM evergrant.delivery d
 WHERE d.event_id = %b AND d.endpoint_id = %b AND d.state = 'pending' AND d.lease_until <= now() FOR UPDATE SKIP LOCKED
"""
_TAKE = f"""
UPDATE evergrant.delivery d SET attempt = d.attempt + 1, lease_until = now() + t.lease, next_at = now() + t.lease
  FROM (SELECT u.*, %b::interval AS lease FROM unnest(%b::uuid[], %b::uuid[]) AS u(event_id, endpoint_id)) t
  JOIN evergrant.event e ON e.id = t.event_id JOIN evergrant.endpoint p ON p.id = t.endpoint_id
  LEFT JOIN evergrant.credential c ON c.id = p.id AND c.state = 'active'
  LEFT JOIN evergrant.credential_version v ON v.credential_id = c.id AND v.version = c.version
  LEFT JOIN evergrant.credential_version b ON b.credential_id = c.id AND b.stage = 'previous' AND b.serves_until > now()
 WHERE d.event_id = t.event_id AND d.endpoint_id = t.endpoint_id
RETURNING {_EVENT}, p.id, p.tenant, p.kind, p.url, d.attempt, now(),
          v.version, v.data_key_id, v.envelope, b.version, b.data_key_id, b.envelope
""".encode()
_END = b"""
WITH n AS MATERIALIZED (
  SELECT d.event_id, d.endpoint_id, n.attempt, n.state, n.wait, n.status, n.error, n.begun
    FROM unnest(%b::uuid[], %b::uuid[], %b::integer[], %b::text[], %b::interval[], %b::integer[], %b::text[],
                %b::boolean[]) AS n(event_id, endpoint_id, attempt, state, wait, status, error, begun)
    JOIN evergrant.delivery d USING (event_id, endpoint_id)
   ORDER BY d.event_id, d.endpoint_id FOR UPDATE OF d),
ended AS (
  UPDATE evergrant.delivery d
     SET state = CASE WHEN d.state = 'held' AND n.state = 'pending' THEN 'held' ELSE n.state END,
         attempt = d.attempt - CASE WHEN n.begun THEN 0 ELSE 1 END, next_at = now() + n.wait,
         lease_until = to_timestamp(0), last_status = n.status, last_error = n.error
    FROM n
   WHERE d.event_id = n.event_id AND d.endpoint_id = n.endpoint_id AND d.attempt = n.attempt
     AND d.state IN ('pending', 'held')
  RETURNING d.event_id, d.endpoint_id, d.state, d.attempt, d.last_status, d.last_error),
logged AS (
  INSERT INTO evergrant.audit (tenant, event, connection_id, detail)
  SELECT e.tenant, 'event.failed', e.connection_id,
         jsonb_build_object('event', e.id, 'type', e.type, 'endpoint', ended.endpoint_id, 'attempt', ended.attempt,
                            'status', ended.last_status, 'error', ended.last_error)
    FROM ended JOIN evergrant.event e ON e.id = ended.event_id WHERE ended.state = 'failed')
SELECT count(*) FROM ended
"""
"""Whoever locks several deliveries, and waits for them, does so in the order of their keys."""
_OVERDUE = f"""
WITH {_WAITING},
late AS (
  SELECT next_at AS since FROM waiting
   UNION ALL (SELECT created_at FROM evergrant.event WHERE spread_at IS NULL ORDER BY created_at LIMIT 1000))
SELECT count(*), COALESCE(max(now() - since), interval '0') FROM late
""".encode()


class PostgresOutbox:
    """``OutboxStore`` and ``CleanupStore`` on PostgreSQL; thread-safe."""

    def __init__(self, database: Database, retention: timedelta) -> None:
        self._database, self._retention = database, retention
        self._pinned = PinnedConnection(database, PLANS)

    def know_hooks(self, names: Sequence[str]) -> dict[UUID, str]:
        """See ``OutboxStore.know_hooks``; a name makes the same id everywhere."""
        known = {uuid5(NAMESPACE_URL, f"evergrant:hook:{name}"): name for name in names}
        rows = [
            {"id": key, "tenant": SYSTEM, "kind": "hook", "url": name, "types": [], "state": "active"}
            for key, name in known.items()
        ]
        if rows:
            with self._database.begin() as transaction:
                added = insert(endpoint).values(rows).on_conflict_do_nothing().returning(endpoint.c.id)
                for key in transaction.scalars(added).all():
                    detail = {"endpoint": str(key), "hook": known[key]}
                    transaction.execute(audit.insert().values(audit_row(SYSTEM, "endpoint.added", None, detail)))
        return known

    def spread(self, limit: int, tell: Callable[[Event], object]) -> int:
        """See ``OutboxStore.spread``."""
        with self._pinned.session() as connection, connection.transaction():
            cursor = connection.cursor(binary=True)
            found = [Event(*row) for row in cursor.execute(_NEW, (limit,)).fetchall()]
            for each in found:
                tell(each)
            if found:
                cursor.execute(_SPREAD, (Uuids.of([each.id for each in found]),))
        return len(found)

    def claim(
        self, limit: int, each: int, lease: timedelta, hooks: Sequence[UUID] | None, asked: tuple[UUID, UUID] | None
    ) -> list[Due]:
        """See ``OutboxStore.claim``."""
        with self._pinned.session() as connection, connection.transaction():
            cursor = connection.cursor(binary=True)
            if asked is not None:
                locked = cursor.execute(_LOCK_ONE, asked).fetchall()
            elif hooks is None:
                locked = cursor.execute(_LOCK_WEBHOOKS, (each, limit)).fetchall()
            else:
                locked = cursor.execute(_LOCK_HOOKS, (each, list(hooks), limit)).fetchall()
            if not locked:
                return []
            ids = (Uuids.of([row[0] for row in locked]), Uuids.of([row[1] for row in locked]))
            rows = cursor.execute(_TAKE, (lease, *ids)).fetchall()
        return [_due(row) for row in rows]

    def end(self, ended: Sequence[Ended]) -> None:
        """See ``OutboxStore.end``."""
        columns: list[Any] = [
            Uuids.of([each.event_id for each in ended]), Uuids.of([each.endpoint_id for each in ended]),
            Integers.of([each.attempt for each in ended]), Texts.of([each.state for each in ended]),
            [each.wait for each in ended], [each.status for each in ended],
            Texts.of([each.error for each in ended]), [each.begun for each in ended],
        ]  # fmt: skip
        with self._pinned.session() as connection:
            connection.cursor(binary=True).execute(_END, columns)

    def disable(self, endpoint_id: UUID, reason: str) -> bool:
        """See ``OutboxStore.disable``."""
        with self._database.begin() as transaction:
            return disable(transaction, endpoint_id, reason)

    def overdue(self) -> Overdue:
        """See ``OutboxStore.overdue``."""
        with self._pinned.session() as connection:
            row = connection.cursor(binary=True).execute(_OVERDUE).fetchone()
        return Overdue(*row) if row else Overdue(0, timedelta(0))

    def sweep(self, *, dry_run: bool) -> Mapping[str, int]:
        """See ``CleanupStore.sweep``: events past their retention.

        What tells of trouble stays until that is over, for the event of its end to refer to.
        """
        on_its_way = sa.exists().where(delivery.c.event_id == event.c.id, delivery.c.state == "pending")
        trouble = sa.exists().where(
            oauth_grant.c.connection_id == event.c.connection_id,
            oauth_grant.c.status.in_([Status.NEEDS_RECONNECT, Status.QUARANTINED]),
        )
        over = (event.c.created_at < _now - self._retention, event.c.spread_at.is_not(None), ~on_its_way, ~trouble)
        some = sa.select(event.c.id).where(*over).order_by(event.c.created_at)
        with self._database.begin() as transaction:
            if dry_run:
                count = sa.select(sa.func.count())
                events = transaction.scalar(count.select_from(some.subquery()))
                return {"events": events or 0}
            removing = event.delete().where(event.c.id.in_(some.limit(SWEPT_AT_ONCE)))
            return {"events": transaction.execute(removing).rowcount}

    def close(self) -> None:
        """Close the connection."""
        self._pinned.close()


def _due(row: Any) -> Due:
    width = len(Event._fields)
    endpoint_id, tenant, kind, url, attempt, now, *secrets = row[width:]
    signing = tuple(SealedSecret(*each) for each in (secrets[:3], secrets[3:]) if each[2] is not None)
    return Due(Event(*row[:width]), endpoint_id, tenant, kind, url, signing, attempt, now)


def disable(transaction: sa.Connection, endpoint_id: UUID, reason: str) -> bool:
    """Send nothing more to an endpoint, and hold what is on its way; False: there is none that is active."""
    active = (endpoint.c.id == endpoint_id, endpoint.c.state == "active")
    ending = endpoint.update().where(*active).values(state="disabled", reason=reason).returning(endpoint.c.tenant)
    tenant = transaction.scalar(ending)
    if tenant is None:
        return False
    hold = delivery.update().where(theirs(endpoint_id, "pending")).values(state="held")
    held = transaction.execute(hold).rowcount
    detail = {"endpoint": str(endpoint_id), "reason": reason, "held": held}
    transaction.execute(audit.insert().values(audit_row(tenant, "endpoint.disabled", None, detail)))
    return True


def theirs(endpoint_id: UUID, state: str) -> Any:
    """Choose, and lock in their order, an endpoint's deliveries in a state."""
    keys = (delivery.c.event_id, delivery.c.endpoint_id)
    chosen = sa.select(*keys).where(delivery.c.endpoint_id == endpoint_id, delivery.c.state == state)
    return sa.tuple_(*keys).in_(chosen.order_by(*keys).with_for_update())
