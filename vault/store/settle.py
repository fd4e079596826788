"""S5 to S7: putting answers into rows by lineage, and ends by epoch.

The common case is one statement for a whole batch, which is one commit; each row in it is checked by itself when it
is locked, so nothing needs a snapshot. ``scheduled`` feeds ``stored``: a schedule row is therefore always locked
before its grant, the same order in which a claim takes them, and that lock is what keeps a claim from reading a grant
about to change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vault.claims import Kept, Settled, Verdict
from vault.store.arrays import Bigints, Byteas, Column, Instants, Integers, Texts, Uuids
from vault.store.engine import Database
from vault.store.pinned import PinnedConnection
from vault.store.telling import recovery, telling, trouble

SETTLING_PLANS = (
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off"
    " -c plan_cache_mode=force_generic_plan"
)
"""A batch is small beside the tables: it is joined by primary key, row by row, also when statistics say otherwise."""

_STORE = (
    b"""
WITH answer AS (
  SELECT * FROM unnest(%b::uuid[], %b::bigint[], %b::integer[], %b::bytea[], %b::bigint[], %b::bytea[], %b::uuid[],
                       %b::bytea[], %b::bytea[], %b::text[], %b::text[], %b::timestamptz[], %b::timestamptz[],
                       %b::timestamptz[], %b::timestamptz[], %b::text[])
         AS a(connection_id, epoch, consent, parent_fp, parent_version, refresh_fp, data_key_id,
              access_envelope, refresh_envelope, token_type, scopes, sent_at, expires_at, next_at, grant_ends_at,
              recovered_from)),
scheduled AS (
  UPDATE evergrant.schedule s
     SET lease_until = to_timestamp(0), next_at = a.next_at, urgent = false, attempt = 0, failures = 0,
         intent_fp = NULL, intent_at = NULL
    FROM answer a WHERE s.connection_id = a.connection_id AND s.epoch = a.epoch
  RETURNING s.connection_id),
stored AS (
  UPDATE evergrant.oauth_grant g
     SET status = 'active', reason = NULL, version = a.parent_version + 1, data_key_id = a.data_key_id,
         refresh_fp = a.refresh_fp, access_envelope = a.access_envelope, refresh_envelope = a.refresh_envelope,
         token_type = a.token_type, refreshed_at = a.sent_at, expires_at = a.expires_at,
         stale_at = a.next_at + (a.expires_at - a.next_at) / 2, grant_ends_at = a.grant_ends_at
    FROM scheduled JOIN answer a USING (connection_id)
   WHERE g.connection_id = scheduled.connection_id AND g.refresh_fp = a.parent_fp AND g.version = a.parent_version
     AND g.consent = a.consent AND g.status <> 'disconnected'
  RETURNING g.connection_id, g.tenant, a.epoch, g.version, a.parent_fp, a.refresh_fp, a.scopes,
            a.recovered_from),
forgotten AS (
  DELETE FROM evergrant.candidate c USING stored
   WHERE c.connection_id = stored.connection_id AND c.refresh_fp = stored.refresh_fp),
scoped AS (
  UPDATE evergrant.connection c SET granted_scopes = stored.scopes
    FROM stored WHERE c.id = stored.connection_id AND c.granted_scopes <> stored.scopes),
logged AS (
  INSERT INTO evergrant.audit (tenant, event, connection_id, detail)
  SELECT tenant, 'oauth.refreshed', connection_id,
         jsonb_build_object('epoch', epoch, 'version', version, 'parent', encode(parent_fp, 'hex'),
                            'refresh', encode(refresh_fp, 'hex'))
           || CASE WHEN recovered_from IS NULL THEN '{}' ELSE jsonb_build_object('recovered_from', recovered_from) END
    FROM stored),"""
    + telling(recovery("stored", "m.recovered_from IS NOT NULL")).encode()
    + b"""
SELECT connection_id FROM stored
"""
)
_END = (
    b"""
WITH verdict AS (
  SELECT * FROM unnest(%b::uuid[], %b::bigint[], %b::integer[], %b::text[], %b::text[], %b::text[], %b::interval[],
                       %b::integer[], %b::boolean[])
         AS v(connection_id, epoch, consent, event, status, reason, wait, failures, clear_intent)),
ended AS (
  UPDATE evergrant.schedule s
     SET lease_until = to_timestamp(0), urgent = false,
         next_at = now() + CASE WHEN EXISTS (SELECT 1 FROM evergrant.candidate c WHERE c.connection_id = s.connection_id
                                                AND c.consent = v.consent AND c.parent_fp = s.intent_fp)
                                THEN interval '0' ELSE v.wait END, failures = v.failures,
         attempt = CASE WHEN v.status = 'quarantined' THEN s.attempt ELSE 0 END,
         intent_fp = CASE WHEN v.clear_intent THEN NULL ELSE s.intent_fp END,
         intent_at = CASE WHEN v.clear_intent THEN NULL ELSE s.intent_at END
    FROM verdict v WHERE s.connection_id = v.connection_id AND s.epoch = v.epoch
  RETURNING s.connection_id),
marked AS (
  UPDATE evergrant.oauth_grant g SET status = v.status, reason = v.reason
    FROM ended JOIN verdict v USING (connection_id)
   WHERE g.connection_id = ended.connection_id AND g.consent = v.consent
     AND (g.status, g.reason) IS DISTINCT FROM (v.status, v.reason) AND g.status <> 'disconnected'
  RETURNING g.connection_id, g.consent, g.version, g.status, g.reason),
logged AS (
  INSERT INTO evergrant.audit (tenant, event, connection_id, detail)
  SELECT g.tenant, v.event, v.connection_id,
         jsonb_build_object('epoch', v.epoch, 'reason', v.reason, 'failures', v.failures,
                            'refresh', encode(g.refresh_fp, 'hex'))
    FROM ended JOIN verdict v USING (connection_id) JOIN evergrant.oauth_grant g USING (connection_id)
   WHERE v.event <> ''),"""
    + telling(trouble("marked")).encode()
    + b"""
SELECT connection_id FROM ended
"""
)


class PostgresSettling:
    """Commits batches; one instance serves one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._pinned = PinnedConnection(database, SETTLING_PLANS)

    def settle(self, kept: Sequence[Kept], verdicts: Sequence[Verdict]) -> Settled:
        """See ``RefreshStore.settle``."""
        stored: frozenset[Any] = frozenset()
        ended: frozenset[Any] = frozenset()
        with self._pinned.session() as connection:
            cursor = connection.cursor(binary=True)
            if kept:
                rows = cursor.execute(_STORE, _answers(kept)).fetchall()
                stored = frozenset(row[0] for row in rows)
            if verdicts:
                rows = cursor.execute(_END, _ends(verdicts)).fetchall()
                ended = frozenset(row[0] for row in rows)
        return Settled(stored, ended)

    def close(self) -> None:
        """Close the connection."""
        self._pinned.close()


_COLUMNS = tuple(
    (Kept._fields.index(field), column)
    for field, column in (
        ("connection_id", Uuids.of),
        ("epoch", Bigints.of),
        ("consent", Integers.of),
        ("parent_fp", Byteas.of),
        ("parent_version", Bigints.of),
        ("refresh_fp", Byteas.of),
        ("data_key_id", Uuids.of),
        ("access_envelope", Byteas.of),
        ("refresh_envelope", Byteas.of),
        ("token_type", Texts.of),
        ("scopes", Texts.of),
        ("sent_at", Instants.of),
        ("expires_at", Instants.of),
        ("next_at", Instants.of),
        ("grant_ends_at", Instants.of),
        ("recovered_from", Texts.of),
    )
)
"""Of an answer what goes into the row: the tenant is the row's own, and a stored answer is not fragile any more."""


def _answers(kept: Sequence[Kept]) -> list[Column]:
    """Columns of a batch, in the order of the statement; rows by id, so that two batches lock in one order."""
    fields = list(zip(*sorted(kept, key=_by_id), strict=True))
    return [column(fields[position]) for position, column in _COLUMNS]


def _by_id(kept: Kept) -> bytes:
    return kept.connection_id.bytes


def _ends(verdicts: Sequence[Verdict]) -> list[list[Any]]:
    ordered = sorted(verdicts, key=lambda v: v.claim.connection_id.bytes)
    return [
        [v.claim.connection_id for v in ordered],
        [v.claim.epoch for v in ordered],
        [v.claim.consent for v in ordered],
        [v.event for v in ordered],
        [str(v.status) for v in ordered],
        [v.reason for v in ordered],
        [v.wait for v in ordered],
        [v.failures for v in ordered],
        [v.unspent and v.claim.doubt_since is None for v in ordered],
    ]
