"""Data keys past their age, and the rows that stand under replaced ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa

from vault.claims import DataKeyRecord
from vault.ports import ReplacedRow, SealedRow, StoredCount
from vault.store.arrays import Bigints, Byteas, Column, Texts, Uuids
from vault.store.engine import Database
from vault.store.keys import CURRENT
from vault.store.sealed import EVERYWHERE, SEALED, Sealed
from vault.store.tables import data_key, tenant_key

LONGEST_FLIGHT = timedelta(hours=25)
"""An answer sealed under a key just replaced can come home from a spool a day later: until then it is in use."""
_now = sa.func.now()


class PostgresDataKeys:
    """``DataKeyRotationStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def data_keys_older_than(self, age: timedelta, limit: int, after: UUID | None) -> list[DataKeyRecord]:
        """See ``DataKeyRotationStore.data_keys_older_than``."""
        statement = _AGED if after is None else _AGED_AFTER
        parameters = (age, limit) if after is None else (age, after, limit)
        return [DataKeyRecord(*row) for row in self._rows(statement, parameters)]

    def replace_data_keys(self, keys: Sequence[tuple[DataKeyRecord, DataKeyRecord]]) -> set[UUID]:
        """See ``DataKeyRotationStore.replace_data_keys``."""
        with self._database.begin() as transaction:
            return set(transaction.exec_driver_sql(_REPLACE, _replaced(keys)).scalars())

    def rows_under_replaced_keys(self, limit: int, after: SealedRow | None) -> list[ReplacedRow]:
        """See ``DataKeyRotationStore.rows_under_replaced_keys``; table by table, and by key within each."""
        found: list[ReplacedRow] = []
        begun = after is None
        for sealed in SEALED:
            here = after is not None and after.table == sealed.table.name
            begun = begun or here
            if begun and len(found) < limit:
                place = (after.data_key_id, after.subject, after.version) if after is not None and here else _START
                parameters = (place[0], *place, limit - len(found))
                rows = self._rows(_UNDER_REPLACED_KEYS[sealed.table.name], parameters)
                found += [_replaced_row(sealed, row) for row in rows]
        return found

    def reseal(self, rows: Sequence[tuple[SealedRow, SealedRow]]) -> int:
        """See ``DataKeyRotationStore.reseal``."""
        swapped = 0
        with self._database.begin() as transaction:
            for sealed in SEALED:
                pairs = [(old, new) for old, new in rows if old.table == sealed.table.name]
                if pairs:
                    statement = _RESEAL[sealed.table.name]
                    swapped += transaction.exec_driver_sql(statement, _resealed(sealed, pairs)).rowcount
        return swapped

    def retire_unused_data_keys(self) -> int:
        """See ``DataKeyRotationStore.retire_unused_data_keys``."""
        old = data_key.c.replaced_at < _now - LONGEST_FLIGHT
        retire = data_key.update().where(data_key.c.state == "previous", old, *unused())
        with self._database.begin() as transaction:
            return transaction.execute(retire.values(state="retired", retired_at=_now)).rowcount

    def counts(self) -> list[StoredCount]:
        """See ``DataKeyRotationStore.counts``."""
        with self._database.begin() as transaction:
            return [StoredCount(*row) for query in _counts() for row in transaction.execute(query)]

    def _rows(self, statement: bytes, parameters: tuple[object, ...]) -> list[Any]:
        """Read on the fast lane, whose cursor is binary: as text an envelope is twice as long."""
        rows: list[Any] = self._database.lane.run(statement, parameters, psycopg.Cursor.fetchall)
        return rows


def unused() -> list[Any]:
    """Conditions under which no row refers to a data key."""
    return [~sa.exists().where(sealed.table.c.data_key_id == data_key.c.id) for sealed in EVERYWHERE]


def _counts() -> Iterator[sa.Select[Any]]:
    """What is at rest: of keys and envelopes the first four bytes tell method and version."""
    yield _count("tenant_key", tenant_key.c.algorithm, tenant_key.c.kek_id)
    yield _count("data_key", sa.func.substr(data_key.c.wrapped, 1, 4), data_key.c.state)
    for sealed in SEALED:
        for field, column in sealed.fields:
            envelope = sealed.table.c[column]
            head = sa.func.substr(envelope, 1, 4)
            yield _count(f"{sealed.table.name}.{field}", head, sa.literal("")).where(envelope.is_not(None))


def _count(what: str, method: Any, under: Any) -> sa.Select[Any]:
    grouped = (method.label("method"), under.label("under"))
    return sa.select(sa.literal(what), *grouped, sa.func.count()).group_by("method", "under").order_by("under")


def _replaced_row(sealed: Sealed, row: Any) -> ReplacedRow:
    subject, tenant, owner, provider, version, *rest = row
    size = len(DataKeyRecord._fields)
    key, current, envelopes = rest[:size], rest[size : 2 * size], rest[2 * size :]
    fields = tuple((field, envelope) for (field, _), envelope in zip(sealed.fields, envelopes, strict=True))
    found = SealedRow(sealed.table.name, subject, tenant, owner, provider, version, key[0], fields)
    return ReplacedRow(found, DataKeyRecord(*key), DataKeyRecord(*current) if current[0] is not None else None)


def _key_columns(alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in DataKeyRecord._fields)


# --------------------------------------------------------------------------------------------------------- statements
# A batch goes as arrays that we pack ourselves, and is one statement: row by row it took five times as long.

_START = (UUID(int=0), UUID(int=0), 0)
"""Before any row."""

_AGED_KEYS = f"""
SELECT {_key_columns("k")} FROM evergrant.data_key k
 WHERE k.state = 'current' AND k.purpose = 'grant' AND k.created_at <= now() - %b
"""
_AGED = f"{_AGED_KEYS} ORDER BY k.created_at, k.id LIMIT %b".encode()
_AGED_AFTER = f"""{_AGED_KEYS}
   AND (k.created_at, k.id) > (SELECT l.created_at, l.id FROM evergrant.data_key l WHERE l.id = %b)
 ORDER BY k.created_at, k.id LIMIT %b
""".encode()

_REPLACE = f"""
WITH pair AS (
  SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s)
         AS p(old_id, id, tenant, owner, provider, purpose, tenant_key_id, wrapped)),
replaced AS (
  UPDATE evergrant.data_key k SET state = 'previous', replaced_at = now() FROM pair
   WHERE k.id = pair.old_id AND k.state = '{CURRENT}'
  RETURNING k.id AS old_id),
added AS (
  INSERT INTO evergrant.data_key (id, tenant, owner, provider, purpose, state, tenant_key_id, wrapped)
  SELECT p.id, p.tenant, p.owner, p.provider, p.purpose, '{CURRENT}', p.tenant_key_id, p.wrapped
    FROM replaced JOIN pair p USING (old_id)),
logged AS (
  INSERT INTO evergrant.audit (tenant, event, detail)
  SELECT p.tenant, 'key.rotated', jsonb_build_object('from', p.old_id, 'to', p.id, 'provider', p.provider)
    FROM replaced JOIN pair p USING (old_id))
SELECT old_id FROM replaced
"""
"""``added`` feeds on ``replaced``: the old key has left the index of current ones before the new one comes into it."""


def _replaced(keys: Sequence[tuple[DataKeyRecord, DataKeyRecord]]) -> tuple[Column, ...]:
    """Columns for ``_REPLACE``; rows by id, so that two batches lock in one order."""
    ordered = sorted(keys, key=lambda pair: pair[0].id.bytes)
    news = [new for _, new in ordered]
    return (
        Uuids.of([old.id for old, _ in ordered]), Uuids.of([new.id for new in news]),
        *(Texts.of([getattr(new, name) for new in news]) for name in ("tenant", "owner", "provider", "purpose")),
        Uuids.of([new.tenant_key_id for new in news]), Byteas.of([new.wrapped for new in news]),
    )  # fmt: skip


def _under_replaced_keys(sealed: Sealed) -> bytes:
    """Rows by key and id, each with its key and the one that is current in that key's place.

    Tenant, owner and provider are the key's, not the row's. A row that somebody has moved under another tenant's key
    gains nothing by it: the key opens only as what its record says, the envelope only under that tenant and the id of
    the row it was sealed for, and it is sealed again for exactly what it was opened for. A re-sealed value therefore
    opens where it opened before and nowhere else, and a row that says something else of itself than its key does is
    found where its own word counts: by every reader, and by the open audit.
    """
    table, columns = sealed.table.fullname, [f"t.{column}" for _, column in sealed.fields]
    subject = f"t.{sealed.subject.name}"
    return f"""
SELECT {subject}, k.tenant, k.owner, k.provider, t.version, {_key_columns("k")}, {_key_columns("n")},
       {", ".join(columns)}
  FROM evergrant.data_key k
  JOIN {table} t ON t.data_key_id = k.id
  LEFT JOIN evergrant.data_key n ON n.tenant = k.tenant AND n.owner = k.owner AND n.provider = k.provider
                                AND n.purpose = k.purpose AND n.state = '{CURRENT}'
 WHERE k.state = 'previous' AND {columns[0]} IS NOT NULL AND k.id >= %b AND (k.id, {subject}, t.version) > (%b, %b, %b)
 ORDER BY k.id, {subject}, t.version LIMIT %b
""".encode()


_UNDER_REPLACED_KEYS = {sealed.table.name: _under_replaced_keys(sealed) for sealed in SEALED}
"""The first condition on ``k.id`` says nothing new, but begins where the batch before ended instead of at the start."""


def _reseal(sealed: Sealed) -> str:
    """Put new envelopes into rows that still are what was read."""
    columns, subject = [column for _, column in sealed.fields], sealed.subject.name
    return f"""
UPDATE {sealed.table.fullname} t
   SET data_key_id = n.data_key_id, {", ".join(f"{column} = n.{column}" for column in columns)}
  FROM unnest(%s, %s, %s, %s{", %s" * len(columns)})
       AS n({subject}, version, old_key_id, data_key_id, {", ".join(columns)})
 WHERE t.{subject} = n.{subject} AND t.version = n.version AND t.data_key_id = n.old_key_id
"""


_RESEAL = {sealed.table.name: _reseal(sealed) for sealed in SEALED}


def _resealed(sealed: Sealed, pairs: Sequence[tuple[SealedRow, SealedRow]]) -> tuple[Column, ...]:
    """Columns for ``_RESEAL``; rows by id, as in ``_replaced``."""
    ordered = sorted(pairs, key=lambda pair: pair[0].subject.bytes)
    return (
        Uuids.of([old.subject for old, _ in ordered]),
        Bigints.of([old.version for old, _ in ordered]),
        Uuids.of([old.data_key_id for old, _ in ordered]),
        Uuids.of([new.data_key_id for _, new in ordered]),
        *(Byteas.of([dict(new.envelopes)[field] for _, new in ordered]) for field, _ in sealed.fields),
    )
