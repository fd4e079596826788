"""S5 and S7 for what did not fit: one row at a time, decided under the lock of its schedule row by the pure rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg

from vault import lineage
from vault.claims import Claim, Kept, Lineage, Verdict
from vault.lineage import Place
from vault.model import Status
from vault.store.engine import Database
from vault.store.pinned import PinnedConnection
from vault.store.telling import RECOVERY, TROUBLE

_LOCK = b"""
SELECT s.epoch, s.lease_until > now() AND s.epoch IS DISTINCT FROM %b::bigint
  FROM evergrant.schedule s WHERE s.connection_id = %b FOR UPDATE
"""
_READ = b"""
SELECT g.status, g.consent, g.refresh_fp, g.version,
       EXISTS (SELECT 1 FROM evergrant.candidate c WHERE c.connection_id = g.connection_id AND c.consent = g.consent)
  FROM evergrant.oauth_grant g WHERE g.connection_id = %b
"""
_KNOWN = b"""
SELECT FROM evergrant.audit
 WHERE connection_id = %b AND event = ANY(%b) AND detail->>'refresh' = encode(%b::bytea, 'hex') LIMIT 1
"""
"""The audit is the memory of which tokens a row has held: written in the transaction that stored them."""
_STORING = ["connection.connected", "connection.reconnected", "oauth.refreshed", "oauth.candidate_adopted"]
_PUT = b"""
UPDATE evergrant.oauth_grant
   SET status = %b, reason = NULL, version = %b, data_key_id = %b, refresh_fp = %b, access_envelope = %b,
       refresh_envelope = %b, token_type = %b, refreshed_at = %b, expires_at = %b, stale_at = %b,
       grant_ends_at = %b
 WHERE connection_id = %b
"""
_SCOPED = b"""
UPDATE evergrant.connection SET granted_scopes = %b WHERE id = %b AND granted_scopes <> %b
"""
_RESCHEDULE = b"""
UPDATE evergrant.schedule
   SET epoch = epoch + 1, lease_until = to_timestamp(0), next_at = %b, urgent = false, attempt = 0, failures = 0,
       intent_fp = NULL, intent_at = NULL
 WHERE connection_id = %b
"""
_LOOK_AGAIN = b"""
UPDATE evergrant.schedule SET next_at = LEAST(next_at, now()) WHERE connection_id = %b
"""
_REVIVE = b"""
UPDATE evergrant.oauth_grant SET status = 'in_doubt', reason = 'late_answer'
 WHERE connection_id = %b AND status = 'needs_reconnect'
"""
_COLUMNS = ", ".join(Kept._fields).encode()
_KEEP_CANDIDATE = b"""
INSERT INTO evergrant.candidate (%s) VALUES (%s) ON CONFLICT (connection_id, refresh_fp) DO NOTHING
""" % (_COLUMNS, b", ".join([b"%b"] * len(Kept._fields)))
_CANDIDATES = (
    b"""
SELECT %s FROM evergrant.candidate WHERE connection_id = %%b AND consent = %%b ORDER BY sent_at DESC
"""
    % _COLUMNS
)
_FORGET_CANDIDATE = b"DELETE FROM evergrant.candidate WHERE connection_id = %b AND refresh_fp = %b"
_REVOKE = b"""
INSERT INTO evergrant.revocation
       (connection_id, tenant, owner, provider, client_id, version, data_key_id, refresh_envelope)
SELECT c.id, c.tenant, c.owner, c.provider, g.client_id, %b, %b, %b
  FROM evergrant.connection c JOIN evergrant.oauth_grant g ON g.connection_id = c.id WHERE c.id = %b
"""
_CONDEMN = b"""
WITH unscheduled AS (
  UPDATE evergrant.schedule
     SET lease_until = to_timestamp(0), next_at = NULL, urgent = false, attempt = 0, failures = %b
   WHERE connection_id = %b)
UPDATE evergrant.oauth_grant SET status = 'needs_reconnect', reason = %b WHERE connection_id = %b
"""
_AUDIT = b"""
INSERT INTO evergrant.audit (tenant, event, connection_id, detail)
VALUES (%b, %b, %b, jsonb_build_object('epoch', %b::bigint, 'parent', encode(%b::bytea, 'hex'),
                                       'refresh', encode(%b::bytea, 'hex'), 'reason', %b::text)
          || CASE WHEN %b::text IS NULL THEN '{}' ELSE jsonb_build_object('recovered_from', %b::text) END)
"""


class PostgresLateness:
    """Decides and acts under one row's lock; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._pinned = PinnedConnection(database)

    def settle_late(self, kept: Kept, holding: int | None) -> Place:
        """See ``RefreshStore.settle_late``."""
        with self._pinned.session() as connection, connection.transaction():
            cursor = connection.cursor(binary=True)
            row, _ = _lineage(cursor, kept.connection_id, holding)
            place = lineage.place(kept, row, known=_known(cursor, kept))
            if place is Place.ROW:
                _put(cursor, kept, Status.ACTIVE)
                cursor.execute(_RESCHEDULE, (kept.next_at, kept.connection_id))
                _log(cursor, kept, "oauth.refreshed", "late")
            elif place is Place.CANDIDATE:
                if cursor.execute(_KEEP_CANDIDATE, kept).rowcount:
                    _log(cursor, kept, "oauth.candidate_kept", None)
                cursor.execute(_LOOK_AGAIN, (kept.connection_id,))
                cursor.execute(_REVIVE, (kept.connection_id,))  # given up too soon: this answer may be alive
            elif place is Place.REVOKE:
                envelope = (kept.version, kept.data_key_id, kept.refresh_envelope, kept.connection_id)
                cursor.execute(_REVOKE, envelope)
                _log(cursor, kept, "oauth.late_answer", "disconnected")
            elif place is Place.DROP and row is not None:
                _log(cursor, kept, "oauth.late_answer", "newer_consent")
            return place

    def condemn(self, verdict: Verdict, *, client_id: str, spooled: bool) -> bool:
        """See ``RefreshStore.condemn``."""
        claim = verdict.claim
        with self._pinned.session() as connection, connection.transaction():
            cursor = connection.cursor(binary=True)
            row, candidates = _lineage(cursor, claim.connection_id)
            conclusive = lineage.is_conclusive(
                verdict, row, candidates=candidates, spooled=spooled, client_id=client_id
            )
            done_before = row is not None and row.status is Status.NEEDS_RECONNECT  # by a COMMIT nobody told us of
            if conclusive and not done_before:
                cursor.execute(_CONDEMN, (verdict.failures, claim.connection_id, verdict.reason, claim.connection_id))
                _log(cursor, claim, verdict.event, verdict.reason)
                cursor.execute(TROUBLE.encode(), (claim.connection_id,))
            return conclusive

    def candidates(self, connection_id: UUID, consent: int) -> list[Kept]:
        """See ``RefreshStore.candidates``."""
        with self._pinned.session() as connection:
            rows = connection.cursor(binary=True).execute(_CANDIDATES, (connection_id, consent)).fetchall()
        return [Kept(*row) for row in rows]

    def adopt(self, claim: Claim, resealed: Kept) -> bool:
        """See ``RefreshStore.adopt``."""
        with self._pinned.session() as connection, connection.transaction():
            cursor = connection.cursor(binary=True)
            row, _ = _lineage(cursor, claim.connection_id)
            if row is None or row.epoch != claim.epoch or row.consent != claim.consent or row.version != claim.version:
                return False
            _put(cursor, resealed, Status.ACTIVE)
            cursor.execute(_RESCHEDULE, (resealed.next_at, claim.connection_id))
            _log(cursor, resealed, "oauth.candidate_adopted", None)
            return True

    def close(self) -> None:
        """Close the connection."""
        self._pinned.close()


def _lineage(
    cursor: psycopg.Cursor[Any], connection_id: UUID, holding: int | None = None
) -> tuple[Lineage | None, bool]:
    """Lock the schedule row, then read the grant in a statement of its own, which sees what the lock waited for."""
    lock = cursor.execute(_LOCK, (holding, connection_id)).fetchone()
    row = cursor.execute(_READ, (connection_id,)).fetchone()
    if row is None:
        return None, False
    epoch, leased = lock or (0, False)
    status, consent, refresh_fp, version, candidates = row
    return Lineage(Status(status), consent, refresh_fp, version, leased, epoch), candidates


def _known(cursor: psycopg.Cursor[Any], kept: Kept) -> bool:
    """Whether the answer's refresh token is in the row or has been; read under its lock."""
    return cursor.execute(_KNOWN, (kept.connection_id, _STORING, kept.refresh_fp)).fetchone() is not None


def _put(cursor: psycopg.Cursor[Any], kept: Kept, status: Status) -> None:
    values: Sequence[object] = (
        str(status),
        kept.version,
        kept.data_key_id,
        kept.refresh_fp,
        kept.access_envelope,
        kept.refresh_envelope,
        kept.token_type,
        kept.sent_at,
        kept.expires_at,
        kept.next_at + (kept.expires_at - kept.next_at) / 2,
        kept.grant_ends_at,
        kept.connection_id,
    )
    cursor.execute(_PUT, values)
    cursor.execute(_FORGET_CANDIDATE, (kept.connection_id, kept.refresh_fp))
    cursor.execute(RECOVERY.encode(), (kept.connection_id,))
    if kept.scopes is not None:
        cursor.execute(_SCOPED, (kept.scopes, kept.connection_id, kept.scopes))


def _log(cursor: psycopg.Cursor[Any], what: Kept | Claim, event: str, reason: str | None) -> None:
    lineage: tuple[object, ...]
    if isinstance(what, Kept):
        recovered_from = what.recovered_from if event in _STORING else None
        lineage = (what.epoch, what.parent_fp, what.refresh_fp, reason)
    else:
        recovered_from, lineage = None, (what.epoch, what.parent_fp, what.parent_fp, reason)
    cursor.execute(_AUDIT, (what.tenant, event, what.connection_id, *lineage, recovered_from, recovered_from))
