"""Wrapped keys, and the sweeps that rotate them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from vault.claims import DataKeyRecord
from vault.ports import SealedRow, StoredCount, TenantKeyRecord, WrappedKey
from vault.store.audit import audit_row
from vault.store.engine import Database
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

DATA_KEY_COLUMNS = [data_key.c[name] for name in DataKeyRecord._fields]
_CURRENT = "current"
LONGEST_FLIGHT = timedelta(hours=25)
"""An answer sealed under a key just replaced can come home from a spool a day later: until then it is in use."""


class _Sealed(NamedTuple):
    """A table whose rows hold envelopes under their owner's data key."""

    table: sa.Table
    fields: tuple[tuple[str, str], ...]
    """What each envelope is, and its column."""


_SEALED = (
    _Sealed(oauth_grant, (("access_token", "access_envelope"), ("refresh_token", "refresh_envelope"))),
    _Sealed(connection_metadata, (("metadata", "envelope"),)),
)


class PostgresKeys:
    """Tenant keys and data keys in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _one(self, statement: sa.Select[Any]) -> Any:
        with self._database.begin() as transaction:
            return transaction.execute(statement).one_or_none()

    def tenant_key(self, key_id: UUID) -> TenantKeyRecord | None:
        """See ``KeyStore.tenant_key``."""
        return _tenant_key(self._one(sa.select(tenant_key).where(tenant_key.c.id == key_id)))

    def current_tenant_key(self, tenant: str) -> TenantKeyRecord | None:
        """See ``KeyStore.current_tenant_key``."""
        wanted = sa.select(tenant_key).where(tenant_key.c.tenant == tenant, tenant_key.c.state == _CURRENT)
        return _tenant_key(self._one(wanted))

    def add_tenant_key(self, record: TenantKeyRecord) -> TenantKeyRecord:
        """See ``KeyStore.add_tenant_key``."""
        values = {
            "id": record.id,
            "tenant": record.tenant,
            "state": record.state,
            "kek_id": record.wrapped.kek_id,
            "algorithm": record.wrapped.algorithm,
            "wrapped": record.wrapped.ciphertext,
        }
        with self._database.begin() as transaction:
            adding = insert(tenant_key).values(values).on_conflict_do_nothing().returning(tenant_key.c.id)
            if transaction.scalar(adding) is not None:  # an INSERT's rowcount is not kept by SQLAlchemy 2.1
                detail = {"key_id": str(record.id), "kek_id": record.wrapped.kek_id}
                transaction.execute(audit.insert().values(audit_row(record.tenant, "key.created", None, detail)))
                return record
        winner = self.current_tenant_key(record.tenant)
        assert winner is not None  # the conflict was with it, and tenant keys are never deleted
        return winner

    def data_key(self, key_id: UUID) -> DataKeyRecord | None:
        """See ``KeyStore.data_key``."""
        row = self._one(sa.select(*DATA_KEY_COLUMNS).where(data_key.c.id == key_id))
        return row and DataKeyRecord(*row)

    def current_data_key(self, tenant: str, owner: str, provider: str, purpose: str) -> DataKeyRecord | None:
        """See ``KeyStore.current_data_key``."""
        key = data_key.c
        row = self._one(
            sa.select(*DATA_KEY_COLUMNS).where(
                key.tenant == tenant,
                key.owner == owner,
                key.provider == provider,
                key.purpose == purpose,
                key.state == _CURRENT,
            )
        )
        return row and DataKeyRecord(*row)

    def add_data_key(self, record: DataKeyRecord) -> DataKeyRecord:
        """See ``KeyStore.add_data_key``."""
        with self._database.begin() as transaction:
            adding = insert(data_key).values(record._asdict()).on_conflict_do_nothing().returning(data_key.c.id)
            if transaction.scalar(adding) is not None:
                return record
        winner = self.current_data_key(record.tenant, record.owner, record.provider, record.purpose)
        assert winner is not None  # the conflict was with it
        return winner

    # ---------------------------------------------------------------------------------------------------- rotating

    def tenant_keys_not_under(self, kek_id: str, limit: int) -> list[TenantKeyRecord]:
        """See ``RotationStore.tenant_keys_not_under``."""
        wanted = sa.select(tenant_key).where(tenant_key.c.kek_id != kek_id).order_by(tenant_key.c.id).limit(limit)
        with self._database.begin() as transaction:
            return [r for r in map(_tenant_key, transaction.execute(wanted)) if r]

    def rewrap_tenant_key(self, key_id: UUID, old: WrappedKey, new: WrappedKey) -> bool:
        """See ``RotationStore.rewrap_tenant_key``."""
        swap = (
            tenant_key.update()
            .where(tenant_key.c.id == key_id, tenant_key.c.wrapped == old.ciphertext)
            .values(kek_id=new.kek_id, algorithm=new.algorithm, wrapped=new.ciphertext, rewrapped_at=sa.func.now())
            .returning(tenant_key.c.tenant)
        )
        with self._database.begin() as transaction:
            tenant = transaction.scalar(swap)
            if tenant is None:
                return False
            detail = {"key_id": str(key_id), "from": old.kek_id, "to": new.kek_id}
            transaction.execute(audit.insert().values(audit_row(tenant, "key.rewrapped", None, detail)))
            return True

    def data_keys_older_than(self, age: timedelta, limit: int) -> list[DataKeyRecord]:
        """See ``RotationStore.data_keys_older_than``."""
        key = data_key.c
        wanted = (
            sa.select(*DATA_KEY_COLUMNS)
            .where(key.state == _CURRENT, key.purpose == "grant", key.created_at <= sa.func.now() - age)
            .order_by(key.created_at)
            .limit(limit)
        )
        with self._database.begin() as transaction:
            return [DataKeyRecord(*row) for row in transaction.execute(wanted)]

    def replace_data_key(self, old: DataKeyRecord, new: DataKeyRecord) -> bool:
        """See ``RotationStore.replace_data_key``."""
        retire = (
            data_key.update()
            .where(data_key.c.id == old.id, data_key.c.state == _CURRENT)
            .values(state="previous", replaced_at=sa.func.now())
        )
        with self._database.begin() as transaction:
            if not transaction.execute(retire).rowcount:
                return False
            transaction.execute(data_key.insert().values(new._asdict()))
            detail = {"from": str(old.id), "to": str(new.id), "provider": old.provider}
            transaction.execute(audit.insert().values(audit_row(old.tenant, "key.rotated", None, detail)))
            return True

    def rows_under_replaced_keys(self, limit: int) -> list[SealedRow]:
        """See ``RotationStore.rows_under_replaced_keys``."""
        found: list[SealedRow] = []
        with self._database.begin() as transaction:
            for sealed in _SEALED:
                rows = transaction.execute(_under_replaced_keys(sealed).limit(limit - len(found)))
                found += [_sealed_row(sealed, row) for row in rows]
        return found

    def reseal(self, rows: Sequence[tuple[SealedRow, SealedRow]]) -> int:
        """See ``RotationStore.reseal``."""
        swapped = 0
        with self._database.begin() as transaction:
            for sealed in _SEALED:
                pairs = [(old, new) for old, new in rows if old.table == sealed.table.name]
                if pairs:
                    swapped += transaction.execute(_swap(sealed), _swapped(sealed, pairs)).rowcount
        return swapped

    def counts(self) -> list[StoredCount]:
        """See ``RotationStore.counts``."""
        with self._database.begin() as transaction:
            return [StoredCount(*row) for query in _counts() for row in transaction.execute(query)]

    def retire_unused_data_keys(self) -> int:
        """See ``RotationStore.retire_unused_data_keys``."""
        users = (oauth_grant, connection_metadata, candidate, revocation, connect_attempt)
        unused = [~sa.exists().where(table.c.data_key_id == data_key.c.id) for table in users]
        old = data_key.c.replaced_at < sa.func.now() - LONGEST_FLIGHT
        retire = data_key.update().where(data_key.c.state == "previous", old, *unused).values(state="retired")
        with self._database.begin() as transaction:
            return transaction.execute(retire).rowcount


def _counts() -> Iterator[sa.Select[Any]]:
    """What is at rest: of keys and envelopes the first four bytes tell method and version."""
    yield _count("tenant_key", tenant_key.c.algorithm, tenant_key.c.kek_id)
    yield _count("data_key", sa.func.substr(data_key.c.wrapped, 1, 4), data_key.c.state)
    for sealed in _SEALED:
        for field, column in sealed.fields:
            envelope = sealed.table.c[column]
            head = sa.func.substr(envelope, 1, 4)
            yield _count(f"{sealed.table.name}.{field}", head, sa.literal("")).where(envelope.is_not(None))


def _count(what: str, method: Any, under: Any) -> sa.Select[Any]:
    grouped = (method.label("method"), under.label("under"))
    return sa.select(sa.literal(what), *grouped, sa.func.count()).group_by("method", "under").order_by("under")


def _under_replaced_keys(sealed: _Sealed) -> sa.Select[Any]:
    table = sealed.table
    envelopes = [table.c[column] for _, column in sealed.fields]
    key = (table.c.connection_id, connection.c.tenant, connection.c.owner, connection.c.provider)
    return (
        sa.select(*key, table.c.version, table.c.data_key_id, *envelopes)
        .join_from(data_key, table, table.c.data_key_id == data_key.c.id)
        .join(connection, connection.c.id == table.c.connection_id)
        .where(data_key.c.state == "previous", envelopes[0].is_not(None))
    )


def _sealed_row(sealed: _Sealed, row: Any) -> SealedRow:
    subject, tenant, owner, provider, version, key_id, *envelopes = row
    fields = tuple((field, envelope) for (field, _), envelope in zip(sealed.fields, envelopes, strict=True))
    return SealedRow(sealed.table.name, subject, tenant, owner, provider, version, key_id, fields)


def _swap(sealed: _Sealed) -> sa.TextClause:
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


def _swapped(sealed: _Sealed, pairs: Sequence[tuple[SealedRow, SealedRow]]) -> dict[str, list[Any]]:
    parameters: dict[str, list[Any]] = {
        "ids": [old.subject for old, _ in pairs],
        "versions": [old.version for old, _ in pairs],
        "old_keys": [old.data_key_id for old, _ in pairs],
        "new_keys": [new.data_key_id for _, new in pairs],
    }
    for field, column in sealed.fields:
        parameters[column] = [dict(new.envelopes)[field] for _, new in pairs]
    return parameters


def _tenant_key(row: Any) -> TenantKeyRecord | None:
    if row is None:
        return None
    return TenantKeyRecord(row.id, row.tenant, row.state, WrappedKey(row.kek_id, row.algorithm, row.wrapped))
