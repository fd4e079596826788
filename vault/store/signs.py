"""Signs of life of workers, and rotations that do not move."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import psycopg

from vault.store.engine import Database

_SIGN = b"""
INSERT INTO evergrant.worker_sign AS w (node, alive_until) VALUES (%b, now() + %b)
    ON CONFLICT (node) DO UPDATE SET seen_at = now(), alive_until = EXCLUDED.alive_until,
       since = CASE WHEN w.alive_until < now() THEN now() ELSE w.since END
"""
_SIGN_OFF = b"DELETE FROM evergrant.worker_sign WHERE node = %b OR alive_until < now() - interval '1 day'"
_ALIVE = b"SELECT node FROM evergrant.worker_sign WHERE alive_until > now() ORDER BY node"
_STUCK = b"""
SELECT count(*), coalesce(max(now() - r.next_at) FILTER (WHERE r.lease_until <= now()), interval '0')
  FROM evergrant.credential_rotation r
 WHERE r.ended_at IS NULL AND evergrant.all_tenants()
   AND (r.attempt > %b OR (r.next_at <= now() - %b::interval AND r.lease_until <= now()))
"""

_SEES_ALL = b"SELECT has_function_privilege('evergrant.all_tenants()', 'EXECUTE')"


class PostgresSigns:
    """``SignStore`` on PostgreSQL; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._run = database.lane.run

    def sign(self, node: str, silence: timedelta) -> None:
        """See ``SignStore.sign``."""
        self._run(_SIGN, (node, silence), _nothing)

    def sign_off(self, node: str) -> None:
        """See ``SignStore.sign_off``; it also forgets those that fell silent long ago."""
        self._run(_SIGN_OFF, (node,), _nothing)

    def alive(self) -> Sequence[str]:
        """See ``SignStore.alive``."""
        return [row[0] for row in self._run(_ALIVE, (), psycopg.Cursor.fetchall)]

    def sees_all(self) -> bool:
        """Whether our role may ask about all tenants; a web app's may not."""
        found: bool = self._run(_SEES_ALL, (), psycopg.Cursor.fetchone)[0]
        return found

    def stuck_rotations(self, patience: timedelta, tries: int) -> tuple[int, timedelta]:
        """See ``SignStore.stuck_rotations``."""
        number, longest = self._run(_STUCK, (tries, patience), psycopg.Cursor.fetchone)
        return number, max(longest, timedelta(0))


def _nothing(_: object) -> None: ...
