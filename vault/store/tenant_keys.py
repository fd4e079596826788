"""Tenant keys under a new KEK, and data keys under a new tenant key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from vault.claims import DataKeyRecord
from vault.ports import TenantKeyRecord, WrappedKey
from vault.store.audit import audit_row
from vault.store.engine import Database
from vault.store.keys import CURRENT, DATA_KEY_COLUMNS, new_tenant_key_row, tenant_key_record
from vault.store.tables import audit, data_key, tenant_kek, tenant_key

SETTLED = timedelta(hours=1)
"""A data key on its way when its tenant key was replaced has come to be stored, and is found, within this."""
_now = sa.func.now()
_alive = sa.func.length(tenant_key.c.wrapped) > 0
_replaced = tenant_key.c.state.in_(("previous", "retired"))
_wraps = sa.exists().where(data_key.c.tenant_key_id == tenant_key.c.id, data_key.c.state != "destroyed")


class PostgresTenantKeys:
    """``RewrapStore`` and ``TenantKeyRotationStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ------------------------------------------------------------------------------------------------------ a new KEK

    def own_kek_uris(self) -> list[str]:
        """See ``RewrapStore.own_kek_uris``."""
        wanted = sa.select(tenant_kek.c.uri).where(tenant_kek.c.uri.is_not(None)).distinct().order_by(tenant_kek.c.uri)
        with self._database.begin() as transaction:
            return list(transaction.scalars(wanted))

    def tenant_keys_not_under(
        self, kek_id: str, limit: int, *, uri: str | None, after: UUID | None
    ) -> list[TenantKeyRecord]:
        """See ``RewrapStore.tenant_keys_not_under``."""
        return self._tenant_keys([tenant_key.c.kek_id != kek_id, _alive, _at(uri)], limit, after)

    def rewrap_tenant_key(self, key_id: UUID, old: WrappedKey, new: WrappedKey) -> bool:
        """See ``RewrapStore.rewrap_tenant_key``."""
        swap = (
            tenant_key.update()
            .where(tenant_key.c.id == key_id, tenant_key.c.wrapped == old.ciphertext)
            .values(kek_id=new.kek_id, algorithm=new.algorithm, wrapped=new.ciphertext, rewrapped_at=_now)
            .returning(tenant_key.c.tenant)
        )
        with self._database.begin() as transaction:
            tenant = transaction.scalar(swap)
            if tenant is None:
                return False
            detail = {"key_id": str(key_id), "from": old.kek_id, "to": new.kek_id}
            transaction.execute(audit.insert().values(audit_row(tenant, "key.rewrapped", None, detail)))
            return True

    def tenant_keys_under(self, kek_id: str) -> int:
        """See ``RewrapStore.tenant_keys_under``."""
        count = sa.select(sa.func.count()).where(tenant_key.c.kek_id == kek_id, _alive)
        with self._database.begin() as transaction:
            return transaction.scalars(count).one()

    def forget_former_keks(self, uri: str | None, kek_id: str) -> None:
        """See ``RewrapStore.forget_former_keks``."""
        elsewhere = sa.exists().where(
            tenant_key.c.tenant == tenant_kek.c.tenant, tenant_key.c.kek_id != kek_id, _alive
        )  # fmt: skip
        there = (tenant_kek.c.uri.is_not_distinct_from(uri), ~elsewhere)
        with self._database.begin() as transaction:
            if uri is None:
                transaction.execute(tenant_kek.delete().where(*there))
            else:
                transaction.execute(tenant_kek.update().where(*there).values(former_uris=[]))

    # ----------------------------------------------------------------------------------------------- a new tenant key

    def tenant_keys_older_than(self, age: timedelta, limit: int, after: UUID | None) -> list[TenantKeyRecord]:
        """See ``TenantKeyRotationStore.tenant_keys_older_than``."""
        aged = tenant_key.c.created_at <= _now - age
        return self._tenant_keys([tenant_key.c.state == CURRENT, aged], limit, after)

    def replace_tenant_key(self, old: TenantKeyRecord, new: TenantKeyRecord) -> bool:
        """See ``TenantKeyRotationStore.replace_tenant_key``."""
        retire = (
            tenant_key.update()
            .where(tenant_key.c.id == old.id, tenant_key.c.state == CURRENT)
            .values(state="previous", replaced_at=_now)
        )
        with self._database.begin() as transaction:
            if not transaction.execute(retire).rowcount:
                return False
            transaction.execute(tenant_key.insert().values(new_tenant_key_row(new)))
            detail = {"from": str(old.id), "to": str(new.id), "kek_id": new.wrapped.kek_id}
            event = audit_row(old.tenant, "key.tenant_key_rotated", None, detail)
            transaction.execute(audit.insert().values(event))
            return True

    def replaced_tenant_keys(self, limit: int, after: UUID | None) -> list[TenantKeyRecord]:
        """See ``TenantKeyRotationStore.replaced_tenant_keys``."""
        return self._tenant_keys([_replaced, _wraps], limit, after)

    def data_keys_under(self, tenant_key_id: UUID, limit: int, after: UUID | None) -> list[DataKeyRecord]:
        """See ``TenantKeyRotationStore.data_keys_under``."""
        key = data_key.c
        wanted = sa.select(*DATA_KEY_COLUMNS).where(key.tenant_key_id == tenant_key_id, key.state != "destroyed")
        if after is not None:
            wanted = wanted.where(key.id > after)
        with self._database.begin() as transaction:
            return [DataKeyRecord(*row) for row in transaction.execute(wanted.order_by(key.id).limit(limit))]

    def data_keys_under_replaced(self) -> int:
        """See ``TenantKeyRotationStore.data_keys_under_replaced``."""
        above = tenant_key.c.id == data_key.c.tenant_key_id
        found = sa.select(sa.func.count()).select_from(data_key.join(tenant_key, above))
        with self._database.begin() as transaction:
            wanted = found.where(_replaced, data_key.c.state != "destroyed")
            return transaction.scalars(wanted).one()

    def rewrap_data_keys(self, keys: Sequence[tuple[DataKeyRecord, DataKeyRecord]]) -> int:
        """See ``TenantKeyRotationStore.rewrap_data_keys``."""
        columns = {
            "ids": [old.id for old, _ in keys],
            "olds": [old.wrapped for old, _ in keys],
            "tenant_keys": [new.tenant_key_id for _, new in keys],
            "news": [new.wrapped for _, new in keys],
        }
        with self._database.begin() as transaction:
            return transaction.execute(_REWRAP, columns).rowcount

    def retire_unused_tenant_keys(self) -> int:
        """See ``TenantKeyRotationStore.retire_unused_tenant_keys``."""
        retire = (
            tenant_key.update()
            .where(tenant_key.c.state == "previous", tenant_key.c.replaced_at < _now - SETTLED, ~_wraps)
            .values(state="retired", retired_at=_now)
        )
        with self._database.begin() as transaction:
            return transaction.execute(retire).rowcount

    def _tenant_keys(self, conditions: Sequence[Any], limit: int, after: UUID | None) -> list[TenantKeyRecord]:
        wanted = sa.select(tenant_key).where(*conditions).order_by(tenant_key.c.id).limit(limit)
        if after is not None:
            wanted = wanted.where(tenant_key.c.id > after)
        with self._database.begin() as transaction:
            return [record for record in map(tenant_key_record, transaction.execute(wanted)) if record]


_REWRAP = sa.text("""
    UPDATE evergrant.data_key k SET tenant_key_id = n.tenant_key_id, wrapped = n.wrapped
      FROM unnest(CAST(:ids AS uuid[]), CAST(:olds AS bytea[]), CAST(:tenant_keys AS uuid[]), CAST(:news AS bytea[]))
           AS n(id, old, tenant_key_id, wrapped)
     WHERE k.id = n.id AND k.wrapped = n.old
""")


def _at(uri: str | None) -> Any:
    """Tenants whose KEK is at a URI; None: those who brought none, or do not use it any more."""
    brought = sa.select(tenant_kek.c.tenant).where(
        tenant_kek.c.uri.is_not(None) if uri is None else tenant_kek.c.uri == uri
    )
    return tenant_key.c.tenant.not_in(brought) if uri is None else tenant_key.c.tenant.in_(brought)
