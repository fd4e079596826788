"""Facts that become events, in the transaction of the change they tell of.

``telling`` makes a part of any statement, for rows that it has changed itself; ``record`` is for everybody else. An
event's body is made here and never again. Whom it is sent to is found out later, so telling costs one narrow row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import psycopg
import sqlalchemy as sa

from vault.events import EventType, Fact


def telling(rows: str, name: str = "told") -> str:
    """Return common table expressions that tell of every row a query finds, each fact once.

    Args:
        rows: A query for tenant, type, fact, connection id, credential id and data (jsonb), in this order. Facts that
            its tenant was told before are passed over.
        name: Of the last expression, which has the ids of the new events.
    """
    return f"""
{name}_facts AS MATERIALIZED (
  SELECT gen_random_uuid() AS id, f.*
    FROM ({rows}) AS f(tenant, type, fact, connection_id, credential_id, data)),
{name} AS (
  INSERT INTO evergrant.event (id, tenant, type, fact, connection_id, credential_id, body)
  SELECT id, tenant, type, fact, connection_id, credential_id,
         json_build_object('id', id, 'type', type,
                           'timestamp', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                           'tenant', tenant, 'data', data)::text
    FROM {name}_facts
  ON CONFLICT (tenant, fact) DO NOTHING RETURNING id)"""


def _statement(rows: str) -> str:
    return f"WITH {telling(rows)} SELECT id FROM told"


def _subject(more: str) -> str:
    """What is said of a connection ``c``, beside ``more``."""
    known = "'connection_id', c.id, 'owner', c.owner, 'provider', c.provider, 'account', c.account"
    part = "jsonb_build_object('part_of', c.part_of, 'grant', c.grant_name)"
    return f"jsonb_build_object({known}, {more}) || CASE WHEN c.part_of IS NULL THEN '{{}}' ELSE {part} END"


def trouble(marked: str) -> str:
    """Return a query for the facts of grants in trouble, from rows (connection_id, consent, version, status, reason).

    One version of one consent is in the same trouble once.
    """
    kind = "'connection.' || m.status"
    return f"""
  SELECT c.tenant, {kind}, concat_ws(':', {kind}, c.id, m.consent, m.version), c.id, NULL::uuid,
         {_subject("'reason', m.reason")}
    FROM {marked} m JOIN evergrant.connection c ON c.id = m.connection_id
   WHERE m.status IN ('needs_reconnect', 'quarantined')"""


def recovery(mended: str, where: str = "true") -> str:
    """Return a query for the facts of grants that are well again, from rows with their ``connection_id``.

    Only trouble that was told of is told to be over, each once.
    """
    kind = EventType.RECOVERED.value
    return f"""
  SELECT c.tenant, '{kind}', concat_ws(':', '{kind}', t.id), c.id, NULL::uuid,
         {_subject("'recovered_from', t.type, 'event_id', t.id")}
    FROM {mended} m
    JOIN evergrant.connection c ON c.id = m.connection_id
   CROSS JOIN LATERAL (
         SELECT e.id, e.type FROM evergrant.event e
          WHERE e.connection_id = m.connection_id
            AND e.type IN ('{EventType.NEEDS_RECONNECT}', '{EventType.QUARANTINED}')
          ORDER BY e.created_at DESC LIMIT 1) t
   WHERE {where}"""


TROUBLE: Final = _statement(trouble("(SELECT * FROM evergrant.oauth_grant WHERE connection_id = %b)"))
"""Tells of the trouble a grant is in; takes its connection's id."""
RECOVERY: Final = _statement(recovery("(SELECT %b::uuid AS connection_id)"))
"""Tells that a connection is well again; takes its id."""
DISCONNECTED: Final = _statement(f"""
  SELECT c.tenant, '{EventType.DISCONNECTED}', concat_ws(':', '{EventType.DISCONNECTED}', c.id, g.consent),
         c.id, NULL::uuid, {_subject("'reason', g.reason")}
    FROM evergrant.oauth_grant g JOIN evergrant.connection c ON c.id = g.connection_id
   WHERE g.connection_id = %b AND g.status = 'disconnected'""")
"""Tells that a connection has ended; takes its id."""
_GRANT_ENDING: Final = _statement(f"""
  SELECT c.tenant, '{EventType.GRANT_ENDING}',
         concat_ws(':', '{EventType.GRANT_ENDING}', c.id, g.consent,
                   extract(epoch FROM g.grant_ends_at)::bigint, n.days),
         c.id, NULL::uuid, {_subject("'ends_at', g.grant_ends_at, 'days', n.days")}
    FROM (SELECT %b::integer AS days) n, evergrant.oauth_grant g JOIN evergrant.connection c ON c.id = g.connection_id
   WHERE g.connection_id = ANY(%b::uuid[]) AND g.grant_ends_at IS NOT NULL
     AND g.status NOT IN ('disconnected', 'needs_reconnect')""")
_RECORD: Final = _statement("SELECT %b::text, %b::text, %b::text, %b::uuid, %b::uuid, %b::text::jsonb")


def record(transaction: sa.Connection, fact: Fact) -> bool:
    """Tell of a fact in the transaction that makes it one; False: its tenant was told before."""
    return transaction.exec_driver_sql(_RECORD, _parameters(fact)).first() is not None


def record_by(cursor: psycopg.Cursor[Any], fact: Fact) -> bool:
    """As ``record``, for who speaks to the driver."""
    return cursor.execute(_RECORD.encode(), _parameters(fact)).fetchone() is not None


def record_ending(transaction: sa.Connection, connection_ids: Sequence[UUID], days: int) -> int:
    """Tell that consents end soon, by rows whose end is known; returns how many are told of for the first time.

    Args:
        transaction: In which.
        connection_ids: Whose; grants that have ended already, or have no end, are passed over.
        days: That are left at most: the warning at 30 days is another fact than that at 7.
    """
    return len(transaction.exec_driver_sql(_GRANT_ENDING, (days, list(connection_ids))).all())


def _parameters(fact: Fact) -> tuple[object, ...]:
    data = json.dumps(dict(fact.data), default=str)
    return fact.tenant, fact.type, fact.key, fact.connection_id, fact.credential_id, data
