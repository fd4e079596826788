"""The writes of a rotation and nothing else: rows in batches, bytes made beforehand, nothing read and no key known."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID, uuid4

from tests.benchmarks.stage import PROVIDER, Stage
from vault.engine.sweep import BATCH
from vault.store import arrays
from vault.store.arrays import Byteas, Texts, Uuids

_REPLACE = (
    b"UPDATE evergrant.data_key k SET state = 'previous', replaced_at = now() FROM unnest(%b::uuid[]) AS n(id)"
    b" WHERE k.id = n.id AND k.state = 'current'"
)
_ADD = (
    b"INSERT INTO evergrant.data_key (id, tenant, owner, provider, purpose, state, tenant_key_id, wrapped)"
    b" SELECT n.id, 'default', n.owner, %b, 'grant', 'current', t.id, n.wrapped"
    b" FROM unnest(%b::uuid[], %b::text[], %b::bytea[]) AS n(id, owner, wrapped),"
    b" evergrant.tenant_key t WHERE t.state = 'current'"
)
_AUDIT = (
    b"INSERT INTO evergrant.audit (tenant, event, detail) SELECT 'default', 'key.rotated', jsonb_build_object"
    b"('from', n.old, 'to', n.new, 'provider', %b::text) FROM unnest(%b::uuid[], %b::uuid[]) AS n(old, new)"
)
_RESEAL = (
    b"UPDATE evergrant.oauth_grant g SET data_key_id = n.key, access_envelope = n.access, refresh_envelope = n.refresh"
    b" FROM unnest(%b::uuid[], %b::uuid[], %b::bytea[], %b::bytea[]) AS n(id, key, access, refresh)"
    b" WHERE g.connection_id = n.id"
)
_REWRAP = (
    b"UPDATE evergrant.data_key k SET tenant_key_id = t.id, wrapped = n.wrapped FROM evergrant.tenant_key t,"
    b" unnest(%b::uuid[], %b::bytea[]) AS n(id, wrapped) WHERE k.id = n.id AND t.state = %b"
)
_SECOND_TENANT_KEY = """
INSERT INTO evergrant.tenant_key (id, tenant, state, kek_id, algorithm, wrapped)
     SELECT gen_random_uuid(), tenant, 'previous', kek_id, algorithm, wrapped FROM evergrant.tenant_key
"""


class Writes:
    """A populated database, and writers of so many of its rows, in no order. Each returns the seconds it took."""

    def __init__(self, stage: Stage, access_bytes: int) -> None:
        self._connection = stage.connect()
        arrays.understand(self._connection)
        self._connection.prepare_threshold = 0
        self._connection.execute(_SECOND_TENANT_KEY)
        read = "SELECT connection_id, owner, data_key_id FROM evergrant.oauth_grant g JOIN evergrant.connection c"
        rows = self._connection.execute(f"{read} ON c.id = g.connection_id".encode()).fetchall()
        random.shuffle(rows)
        self._ids, self._owners = [row[0] for row in rows], [row[1] for row in rows]
        self._keys: list[UUID] = [row[2] for row in rows]
        self._access, self._refresh = secrets.token_bytes(access_bytes + 96), secrets.token_bytes(196)
        self._next, self._side = 0, "current"

    def all(self, rows: int) -> float:
        """Everything a sweep of the data keys writes."""
        return self._timed(rows, self._replace, self._reseal)

    def reseal(self, rows: int) -> float:
        """What re-sealing writes."""
        return self._timed(rows, self._reseal)

    def rewrap(self, rows: int) -> float:
        """What a new tenant key writes."""
        self._side = "previous" if self._side == "current" else "current"
        return self._timed(rows, self._rewrap)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _timed(self, rows: int, *acts: Callable[[slice], None]) -> float:
        took = 0.0
        for act in acts:  # a sweep goes through all rows with one before it begins the other
            at = list(self._batches(rows))
            began = time.perf_counter()
            for each in at:
                with self._connection.transaction():
                    act(each)
            took += time.perf_counter() - began
        self._next += rows
        return took

    def _batches(self, rows: int) -> Iterator[slice]:
        if self._next + rows > len(self._ids):
            self._next = 0
        for start in range(self._next, self._next + rows, BATCH):
            yield slice(start, min(start + BATCH, self._next + rows))

    def _replace(self, at: slice) -> None:
        old, owners = self._keys[at], Texts.of(self._owners[at])
        new = [uuid4() for _ in old]
        self._keys[at] = new
        run = self._connection.execute
        run(_REPLACE, [Uuids.of(old)])
        run(_ADD, [PROVIDER, Uuids.of(new), owners, self._wrapped(new)])
        run(_AUDIT, [PROVIDER, Uuids.of(old), Uuids.of(new)])

    def _reseal(self, at: slice) -> None:
        ids = self._ids[at]
        access, refresh = Byteas.of([self._access] * len(ids)), Byteas.of([self._refresh] * len(ids))
        self._connection.execute(_RESEAL, [Uuids.of(ids), Uuids.of(self._keys[at]), access, refresh])

    def _rewrap(self, at: slice) -> None:
        keys = self._keys[at]
        self._connection.execute(_REWRAP, [Uuids.of(keys), self._wrapped(keys), self._side])

    def _wrapped(self, keys: Sequence[UUID]) -> Byteas:
        return Byteas.of([key.bytes * 4 for key in keys])
