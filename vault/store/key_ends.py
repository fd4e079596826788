"""Every sealed value, for a full open audit; keys destroyed; owners and tenants shredded."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from vault.claims import DataKeyRecord
from vault.model import SYSTEM
from vault.ports import OpenAudit, Retired, SealedValue, Shredded
from vault.store.audit import audit_row
from vault.store.connections import forget
from vault.store.credentials import destroy
from vault.store.data_keys import unused
from vault.store.engine import Database
from vault.store.keys import DATA_KEY_COLUMNS
from vault.store.sealed import EVERYWHERE, Sealed
from vault.store.tables import (
    audit,
    connect_attempt,
    connection,
    credential,
    data_key,
    endpoint,
    event,
    oauth_grant,
    open_audit,
    revocation,
    tenant_key,
    user_sessions,
)
from vault.store.telling import DISCONNECTED

SHREDS_A_TRANSACTION = 500
DESTROYED = {"state": "destroyed", "wrapped": b""}
SHREDDED = "shredded"


class PostgresKeyEnds:
    """``KeyAuditStore`` and ``DestructionStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---------------------------------------------------------------------------------------------------- open audits

    def now(self) -> datetime:
        """See ``KeyAuditStore.now``."""
        with self._database.begin() as transaction:
            instant: datetime = transaction.scalars(sa.select(sa.func.now())).one()
            return instant

    def sealed_values(self, limit: int, after: SealedValue | None) -> list[SealedValue]:
        """See ``KeyAuditStore.sealed_values``."""
        names = [sealed.table.name for sealed in EVERYWHERE]
        first = 0 if after is None else names.index(after.table)
        with self._database.begin() as transaction:
            for sealed in EVERYWHERE[first:]:
                here = after.row if after is not None and after.table == sealed.table.name else None
                rows = transaction.execute(_values(sealed, here).limit(limit))
                if values := [value for row in rows for value in _read(sealed, row)]:
                    return values
        return []

    def record_audit(self, found: OpenAudit) -> None:
        """See ``KeyAuditStore.record_audit``."""
        detail = {"opened": found.opened, "cannot_open": found.cannot_open, "refused": found.refused}
        with self._database.begin() as transaction:
            transaction.execute(open_audit.insert().values(found._asdict()))
            transaction.execute(audit.insert().values(audit_row(SYSTEM, "key.open_audit", None, detail)))

    def last_audit(self) -> OpenAudit | None:
        """See ``KeyAuditStore.last_audit``."""
        columns = [open_audit.c[name] for name in OpenAudit._fields]
        with self._database.begin() as transaction:
            last = sa.select(*columns).order_by(open_audit.c.id.desc()).limit(1)
            row = transaction.execute(last).one_or_none()
        return OpenAudit(*row) if row else None

    # ----------------------------------------------------------------------------------------------------- destruction

    def retired(self, before: datetime | None = None) -> Retired:
        """See ``DestructionStore.retired``."""
        counted = []
        with self._database.begin() as transaction:
            for table in (data_key, tenant_key):
                count = sa.select(sa.func.count(), sa.func.min(table.c.retired_at))
                counted.append(transaction.execute(count.where(*_retired(table, before))).one())
        (data_keys, first_data), (tenant_keys, first_tenant) = counted
        first = min((at for at in (first_data, first_tenant) if at is not None), default=None)
        return Retired(data_keys, tenant_keys, first)

    def destroy_retired(self, before: datetime) -> Retired:
        """See ``DestructionStore.destroy_retired``."""
        wraps = sa.exists().where(data_key.c.tenant_key_id == tenant_key.c.id, data_key.c.state != "destroyed")
        destroy_data = data_key.update().where(*_retired(data_key, before), *unused())
        destroy_tenant = tenant_key.update().where(*_retired(tenant_key, before), ~wraps)
        with self._database.begin() as transaction:
            data = transaction.execute(destroy_data.values(DESTROYED)).rowcount
            tenants = transaction.execute(destroy_tenant.values(DESTROYED)).rowcount
            detail = {"data_keys": data, "tenant_keys": tenants, "last_used_before": before.isoformat()}
            transaction.execute(audit.insert().values(audit_row(SYSTEM, "key.destroyed", None, detail)))
        return Retired(data, tenants, before)

    # ------------------------------------------------------------------------------------------------------- shredding

    def shred_owner(self, tenant: str, owner: str) -> Shredded:
        """See ``DestructionStore.shred_owner``."""
        theirs = (data_key.c.tenant == tenant, data_key.c.owner == owner, data_key.c.purpose == "grant")
        with self._database.begin() as transaction:
            keys = transaction.execute(
                data_key.update().where(*theirs, data_key.c.state != "destroyed").values(DESTROYED)
            ).rowcount
            ids = transaction.scalars(
                sa.select(connection.c.id).where(connection.c.tenant == tenant, connection.c.owner == owner)
            ).all()
            for connection_id in ids:
                forget(transaction, connection_id, SHREDDED)
                transaction.exec_driver_sql(DISCONNECTED, (connection_id,))
            destroy(transaction, credential.c.tenant == tenant, credential.c.owner == owner)
            for table in (revocation, connect_attempt):
                transaction.execute(table.delete().where(table.c.tenant == tenant, table.c.owner == owner))
            of_theirs = (user_sessions.c.tenant == tenant, user_sessions.c.user_id == owner)
            transaction.execute(user_sessions.delete().where(*of_theirs))
            detail = {"owner": owner, "connections": len(ids), "data_keys": keys}
            transaction.execute(audit.insert().values(audit_row(tenant, "key.shredded", None, detail)))
        return Shredded(len(ids), keys)

    def shred_tenant(self, tenant: str) -> Shredded:
        """See ``DestructionStore.shred_tenant``; a run that was cut off is ended by the next."""
        with self._database.begin() as transaction:
            alive = (tenant_key.c.tenant == tenant, tenant_key.c.state != "destroyed")
            tenants = transaction.execute(tenant_key.update().where(*alive).values(DESTROYED)).rowcount
            detail = {"tenant_keys": tenants}
            transaction.execute(audit.insert().values(audit_row(tenant, "key.shredded", None, detail)))
        keys = self._in_batches(_destroy_some_data_keys, tenant)
        connections = self._in_batches(_forget_some_connections, tenant)
        self._in_batches(_destroy_some_credentials, tenant)
        with self._database.begin() as transaction:
            for table in (revocation, connect_attempt, endpoint, event, user_sessions):
                transaction.execute(table.delete().where(table.c.tenant == tenant))
        return Shredded(connections, keys, tenants)

    def _in_batches(self, step: Any, tenant: str) -> int:
        total = 0
        while True:
            with self._database.begin() as transaction:
                done: int = step(transaction, tenant)
            total += done
            if not done:
                return total


def _destroy_some_data_keys(transaction: sa.Connection, tenant: str) -> int:
    some = (
        sa.select(data_key.c.id)
        .where(data_key.c.tenant == tenant, data_key.c.state != "destroyed")
        .limit(SHREDS_A_TRANSACTION)
    )
    return transaction.execute(data_key.update().where(data_key.c.id.in_(some)).values(DESTROYED)).rowcount


def _forget_some_connections(transaction: sa.Connection, tenant: str) -> int:
    some = (
        sa.select(oauth_grant.c.connection_id)
        .where(oauth_grant.c.tenant == tenant, oauth_grant.c.reason.is_distinct_from(SHREDDED))
        .limit(SHREDS_A_TRANSACTION)
    )
    ids = transaction.scalars(some).all()
    for connection_id in ids:
        forget(transaction, connection_id, SHREDDED)
    return len(ids)


def _destroy_some_credentials(transaction: sa.Connection, tenant: str) -> int:
    some = (
        sa.select(credential.c.id)
        .where(credential.c.tenant == tenant, credential.c.state != "destroyed")
        .limit(SHREDS_A_TRANSACTION)
    )
    return len(destroy(transaction, credential.c.id.in_(some)))


def _retired(table: sa.Table, before: datetime | None) -> list[Any]:
    conditions = [table.c.state == "retired"]
    return conditions if before is None else [*conditions, table.c.retired_at < before]


def _values(sealed: Sealed, after: tuple[object, ...] | None) -> sa.Select[Any]:
    """Rows in the order of their primary keys, each with the key it stands under."""
    table = sealed.table
    envelopes = [table.c[column] for _, column in sealed.fields]
    wanted = (
        sa.select(*sealed.key, sealed.tenant, sealed.subject, sealed.version, *DATA_KEY_COLUMNS, *envelopes)
        .select_from(sealed.source.join(data_key, data_key.c.id == table.c.data_key_id))
        .where(sa.or_(*(each.is_not(None) for each in envelopes)))
        .order_by(*sealed.key)
    )
    if after is not None:
        cursor = sa.tuple_(*[sa.literal(part, column.type) for part, column in zip(after, sealed.key, strict=True)])
        wanted = wanted.where(sa.tuple_(*sealed.key) > cursor)
    return wanted


def _read(sealed: Sealed, row: Any) -> list[SealedValue]:
    size, record = len(sealed.key), len(DataKeyRecord._fields)
    key, (tenant, subject, version) = tuple(row[:size]), row[size : size + 3]
    data_key_record = DataKeyRecord(*row[size + 3 : size + 3 + record])
    envelopes = zip(sealed.fields, row[size + 3 + record :], strict=True)
    return [
        SealedValue(sealed.table.name, key, field, tenant, subject, version, data_key_record, envelope)
        for (field, _), envelope in envelopes if envelope is not None
    ]  # fmt: skip
