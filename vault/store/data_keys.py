"""Data keys past their age, and the rows that stand under replaced ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from vault.claims import DataKeyRecord
from vault.ports import ReplacedRow, SealedRow, StoredCount
from vault.store.audit import audit_row
from vault.store.engine import Database
from vault.store.keys import CURRENT, DATA_KEY_COLUMNS
from vault.store.sealed import SEALED, Sealed
from vault.store.tables import (
    audit,
    candidate,
    connect_attempt,
    connection,
    connection_metadata,
    data_key,
    oauth_grant,
    revocation,
    tenant_key,
)

LONGEST_FLIGHT = timedelta(hours=25)
"""An answer sealed under a key just replaced can come home from a spool a day later: until then it is in use."""
_now = sa.func.now()


class PostgresDataKeys:
    """``DataKeyRotationStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def data_keys_older_than(self, age: timedelta, limit: int, after: UUID | None) -> list[DataKeyRecord]:
        """See ``DataKeyRotationStore.data_keys_older_than``."""
        key = data_key.c
        order = sa.tuple_(key.created_at, key.id)
        wanted = (
            sa.select(*DATA_KEY_COLUMNS)
            .where(key.state == CURRENT, key.purpose == "grant", key.created_at <= _now - age)
            .order_by(key.created_at, key.id)
            .limit(limit)
        )
        if after is not None:
            last = data_key.alias()
            wanted = wanted.where(
                order > sa.select(last.c.created_at, last.c.id).where(last.c.id == after).scalar_subquery()
            )
        with self._database.begin() as transaction:
            return [DataKeyRecord(*row) for row in transaction.execute(wanted)]

    def replace_data_keys(self, keys: Sequence[tuple[DataKeyRecord, DataKeyRecord]]) -> set[UUID]:
        """See ``DataKeyRotationStore.replace_data_keys``."""
        retire = (
            data_key.update()
            .where(data_key.c.id.in_([old.id for old, _ in keys]), data_key.c.state == CURRENT)
            .values(state="previous", replaced_at=_now)
            .returning(data_key.c.id)
        )
        with self._database.begin() as transaction:
            replaced = set(transaction.scalars(retire))
            pairs = [(old, new) for old, new in keys if old.id in replaced]
            if pairs:
                transaction.execute(data_key.insert(), [new._asdict() for _, new in pairs])
                transaction.execute(audit.insert(), [_rotated(old, new) for old, new in pairs])
            return replaced

    def rows_under_replaced_keys(self, limit: int, after: SealedRow | None) -> list[ReplacedRow]:
        """See ``DataKeyRotationStore.rows_under_replaced_keys``; table by table, and by key within each."""
        found: list[ReplacedRow] = []
        begun = after is None
        with self._database.begin() as transaction:
            for sealed in SEALED:
                here = after is not None and after.table == sealed.table.name
                begun = begun or here
                if begun and len(found) < limit:
                    wanted = _under_replaced_keys(sealed, after if here else None).limit(limit - len(found))
                    found += [_replaced_row(sealed, row) for row in transaction.execute(wanted)]
        return found

    def reseal(self, rows: Sequence[tuple[SealedRow, SealedRow]]) -> int:
        """See ``DataKeyRotationStore.reseal``."""
        swapped = 0
        with self._database.begin() as transaction:
            for sealed in SEALED:
                pairs = [(old, new) for old, new in rows if old.table == sealed.table.name]
                if pairs:
                    swapped += transaction.execute(_swap(sealed), _swapped(sealed, pairs)).rowcount
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


def _rotated(old: DataKeyRecord, new: DataKeyRecord) -> dict[str, Any]:
    detail = {"from": str(old.id), "to": str(new.id), "provider": old.provider}
    return audit_row(old.tenant, "key.rotated", None, detail)


def unused() -> list[Any]:
    """Conditions under which no row refers to a data key."""
    users = (oauth_grant, connection_metadata, candidate, revocation, connect_attempt)
    return [~sa.exists().where(table.c.data_key_id == data_key.c.id) for table in users]


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


def _under_replaced_keys(sealed: Sealed, after: SealedRow | None) -> sa.Select[Any]:
    """Rows by key and id, each with its key and the one that is current in that key's place."""
    table, current = sealed.table, data_key.alias("current_key")
    envelopes = [table.c[column] for _, column in sealed.fields]
    place = [current.c[name] == data_key.c[name] for name in ("tenant", "owner", "provider", "purpose")]
    wanted = (
        sa.select(
            table.c.connection_id, connection.c.tenant, connection.c.owner, connection.c.provider, table.c.version,
            *DATA_KEY_COLUMNS, *[current.c[name] for name in DataKeyRecord._fields], *envelopes,
        )
        .join_from(data_key, table, table.c.data_key_id == data_key.c.id)
        .join(connection, connection.c.id == table.c.connection_id)
        .outerjoin(current, sa.and_(*place, current.c.state == CURRENT))
        .where(data_key.c.state == "previous", envelopes[0].is_not(None))
        .order_by(data_key.c.id, table.c.connection_id)
    )  # fmt: skip
    if after is not None:
        cursor = sa.tuple_(sa.literal(after.data_key_id), sa.literal(after.subject))
        wanted = wanted.where(sa.tuple_(data_key.c.id, table.c.connection_id) > cursor)
    return wanted


def _replaced_row(sealed: Sealed, row: Any) -> ReplacedRow:
    subject, tenant, owner, provider, version, *rest = row
    size = len(DataKeyRecord._fields)
    key, current, envelopes = rest[:size], rest[size : 2 * size], rest[2 * size :]
    fields = tuple((field, envelope) for (field, _), envelope in zip(sealed.fields, envelopes, strict=True))
    found = SealedRow(sealed.table.name, subject, tenant, owner, provider, version, key[0], fields)
    return ReplacedRow(found, DataKeyRecord(*key), DataKeyRecord(*current) if current[0] is not None else None)


def _swap(sealed: Sealed) -> sa.TextClause:
    """Put new envelopes into rows that still are what was read."""
    columns = [column for _, column in sealed.fields]
    changes = ", ".join(f"{column} = n.{column}" for column in columns)
    arrays = ", ".join(f"CAST(:{column} AS bytea[])" for column in columns)
    return sa.text(f"""
        UPDATE {sealed.table.fullname} t SET data_key_id = n.data_key_id, {changes}
          FROM unnest(CAST(:ids AS uuid[]), CAST(:versions AS bigint[]), CAST(:old_keys AS uuid[]),
                      CAST(:new_keys AS uuid[]), {arrays})
               AS n(connection_id, version, old_key_id, data_key_id, {", ".join(columns)})
         WHERE t.connection_id = n.connection_id AND t.version = n.version AND t.data_key_id = n.old_key_id
    """)


def _swapped(sealed: Sealed, pairs: Sequence[tuple[SealedRow, SealedRow]]) -> dict[str, list[Any]]:
    parameters: dict[str, list[Any]] = {
        "ids": [old.subject for old, _ in pairs],
        "versions": [old.version for old, _ in pairs],
        "old_keys": [old.data_key_id for old, _ in pairs],
        "new_keys": [new.data_key_id for _, new in pairs],
    }
    for field, column in sealed.fields:
        parameters[column] = [dict(new.envelopes)[field] for _, new in pairs]
    return parameters
