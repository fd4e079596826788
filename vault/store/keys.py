"""Wrapped keys at rest, and which tenant brought which KEK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from vault.claims import DataKeyRecord
from vault.ports import TenantKek, TenantKeyRecord, WrappedKey
from vault.store.audit import audit_row
from vault.store.engine import Database
from vault.store.tables import audit, data_key, tenant_kek, tenant_key

DATA_KEY_COLUMNS = [data_key.c[name] for name in DataKeyRecord._fields]
CURRENT = "current"


class PostgresKeys:
    """``KeyStore`` and ``TenantKeks`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _one(self, tenant: str, statement: sa.Select[Any]) -> Any:
        with self._database.of(tenant).begin() as transaction:
            return transaction.execute(statement).one_or_none()

    def _by_id(self, table: sa.Table, columns: Sequence[Any], key_id: UUID) -> Any:
        """Read a key by its id, which whoever has found a row under it knows: whose it is, its row says."""
        wanted = f"SELECT {', '.join(each.name for each in columns)} FROM {table.fullname}_by_id(%s)"
        with self._database.begin() as transaction:
            return transaction.exec_driver_sql(wanted, (key_id,)).one_or_none()

    def tenant_key(self, key_id: UUID) -> TenantKeyRecord | None:
        """See ``KeyStore.tenant_key``."""
        return tenant_key_record(self._by_id(tenant_key, [*tenant_key.columns], key_id))

    def current_tenant_key(self, tenant: str) -> TenantKeyRecord | None:
        """See ``KeyStore.current_tenant_key``."""
        wanted = sa.select(tenant_key).where(tenant_key.c.tenant == tenant, tenant_key.c.state == CURRENT)
        return tenant_key_record(self._one(tenant, wanted))

    def add_tenant_key(self, record: TenantKeyRecord) -> TenantKeyRecord:
        """See ``KeyStore.add_tenant_key``."""
        values = new_tenant_key_row(record)
        with self._database.of(record.tenant).begin() as transaction:
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
        row = self._by_id(data_key, DATA_KEY_COLUMNS, key_id)
        return row and DataKeyRecord(*row)

    def current_data_key(self, tenant: str, owner: str, provider: str, purpose: str) -> DataKeyRecord | None:
        """See ``KeyStore.current_data_key``."""
        key = data_key.c
        row = self._one(
            tenant,
            sa.select(*DATA_KEY_COLUMNS).where(
                key.tenant == tenant,
                key.owner == owner,
                key.provider == provider,
                key.purpose == purpose,
                key.state == CURRENT,
            ),
        )
        return row and DataKeyRecord(*row)

    def add_data_key(self, record: DataKeyRecord) -> DataKeyRecord:
        """See ``KeyStore.add_data_key``."""
        with self._database.of(record.tenant).begin() as transaction:
            adding = insert(data_key).values(record._asdict()).on_conflict_do_nothing().returning(data_key.c.id)
            if transaction.scalar(adding) is not None:
                return record
        winner = self.current_data_key(record.tenant, record.owner, record.provider, record.purpose)
        assert winner is not None  # the conflict was with it
        return winner

    # --------------------------------------------------------------------------------------------------- brought along

    def tenant_kek(self, tenant: str) -> TenantKek | None:
        """See ``TenantKeks.tenant_kek``."""
        return _brought(self._one(tenant, sa.select(tenant_kek).where(tenant_kek.c.tenant == tenant)))

    def tenant_keks(self) -> list[TenantKek]:
        """See ``TenantKeks.tenant_keks``."""
        with self._database.begin() as transaction:
            rows = transaction.execute(sa.select(tenant_kek).order_by(tenant_kek.c.tenant))
            return [TenantKek(row.tenant, row.uri, tuple(row.former_uris)) for row in rows]

    def set_tenant_kek(self, tenant: str, uri: str | None) -> None:
        """See ``TenantKeks.set_tenant_kek``."""
        kek = tenant_kek.c
        former = sa.func.array_append(sa.func.array_remove(kek.former_uris, uri), kek.uri)
        setting = (
            insert(tenant_kek)
            .values(tenant=tenant, uri=uri, former_uris=[None])
            .on_conflict_do_update(
                index_elements=["tenant"],
                set_={"uri": uri, "former_uris": former, "changed_at": sa.func.now()},
                where=kek.uri.is_distinct_from(uri),
            )
            .returning(kek.tenant)
        )
        with self._database.begin() as transaction:
            if transaction.scalar(setting) is not None:
                event = audit_row(tenant, "key.tenant_kek_set", None, {"uri": uri})
                transaction.execute(audit.insert().values(event))


def _brought(row: Any) -> TenantKek | None:
    return row and TenantKek(row.tenant, row.uri, tuple(row.former_uris))


def tenant_key_record(row: Any) -> TenantKeyRecord | None:
    """Read a row of ``tenant_key``."""
    if row is None:
        return None
    return TenantKeyRecord(row.id, row.tenant, row.state, WrappedKey(row.kek_id, row.algorithm, row.wrapped))


def new_tenant_key_row(record: TenantKeyRecord) -> dict[str, Any]:
    """Return the values of a row of ``tenant_key``."""
    wrapped = record.wrapped
    return {
        "id": record.id, "tenant": record.tenant, "state": record.state,
        "kek_id": wrapped.kek_id, "algorithm": wrapped.algorithm, "wrapped": wrapped.ciphertext,
    }  # fmt: skip
