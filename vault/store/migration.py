"""Grants on their way in from other systems, and the record of what was moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from vault.claims import DataKeyRecord
from vault.ports import Adopted, Adoption, Moved, StoredGrant, TenantKeyRecord
from vault.store import consent
from vault.store.audit import audit_row
from vault.store.engine import Database
from vault.store.keys import DATA_KEY_COLUMNS, PostgresKeys
from vault.store.tables import audit, connection, data_key, migration_row, migration_run, oauth_grant

RECENT_S = 1.0
RUN_LOCK = 0x45564D47
"""Advisory lock ("EVMG"), together with a hash of the source's name."""

_CONNECTION = consent.CONNECTION.values(
    connected_at=sa.func.coalesce(sa.bindparam("new_connected_at", type_=connection.c.connected_at.type), consent.NOW)
)
# A source's instant is kept to the microsecond: adding a life to the time of the insert would put it off a little.
_GRANT = consent.GRANT.values(
    expires_at=sa.func.coalesce(sa.bindparam("new_expires_at", type_=oauth_grant.c.expires_at.type), consent.EXPIRES_AT)
)
# As arrays: a statement of its own for every size of a batch costs more to write than to run.
_RECORD = sa.text(f"""
    INSERT INTO {migration_row.fullname} (source, key, tenant, connection_id, kept_fp, token_fp)
    SELECT :source, n.* FROM unnest(CAST(:keys AS text[]), CAST(:tenants AS text[]), CAST(:connection_ids AS uuid[]),
                                    CAST(:kept AS bytea[]), CAST(:tokens AS bytea[])) n
    ON CONFLICT DO NOTHING RETURNING key
""")
_KNOWN = sa.text(f"""
    SELECT clock_timestamp(), r.key, {", ".join(f"r.{name}" for name in Moved._fields)}
      FROM (VALUES (1)) AS always(one)
      LEFT JOIN {migration_row.fullname} r ON r.source = :source AND r.key = ANY(CAST(:keys AS text[]))
""")
_OWNER = sa.tuple_(data_key.c.tenant, data_key.c.owner, data_key.c.provider)


class RecentKeys(PostgresKeys):
    """Keys in PostgreSQL, which are asked for a tenant's own at most once a second and not once for every owner."""

    def __init__(self, database: Database, monotonic: Callable[[], float]) -> None:
        super().__init__(database)
        self._monotonic = monotonic
        self._recent: dict[str, tuple[TenantKeyRecord, float]] = {}

    def current_tenant_key(self, tenant: str) -> TenantKeyRecord | None:
        """See ``KeyStore.current_tenant_key``; a key replaced a moment ago opens what it wrapped as any other."""
        record, read_at = self._recent.get(tenant, (None, 0.0))
        if record is None or self._monotonic() - read_at > RECENT_S:
            record = super().current_tenant_key(tenant)
            if record is not None:
                self._recent[tenant] = (record, self._monotonic())
        return record


class PostgresMigration:
    """``MigrationStore`` and ``MigrationRuns`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, source: str, keys: Sequence[str]) -> tuple[Mapping[str, Moved], datetime]:
        """See ``MigrationStore.known``."""
        with self._database.begin() as transaction:
            rows = transaction.execute(_KNOWN, {"source": source, "keys": list(keys)}).all()
        return {row[1]: Moved(*row[2:]) for row in rows if row[1] is not None}, rows[0][0]

    def data_keys(self, owners: Sequence[tuple[str, str, str]]) -> Sequence[DataKeyRecord]:
        """See ``MigrationStore.data_keys``."""
        with self._database.begin() as transaction:
            return _data_keys(transaction, owners)

    def add_data_keys(self, records: Sequence[DataKeyRecord]) -> Sequence[DataKeyRecord]:
        """See ``MigrationStore.add_data_keys``."""
        with self._database.begin() as transaction:
            # The commit of what is sealed under them comes later in the same log: it makes these durable with itself.
            transaction.execute(sa.text("SET LOCAL synchronous_commit = off"))
            transaction.execute(insert(data_key).on_conflict_do_nothing(), [record._asdict() for record in records])
            return _data_keys(transaction, [(record.tenant, record.owner, record.provider) for record in records])

    def adopt(self, source: str, adoptions: Sequence[Adoption]) -> Mapping[str, Adopted]:
        """See ``MigrationStore.adopt``; when one is refused, each of them gets a transaction of its own."""
        try:
            return self._adopt(source, adoptions)
        except (sa.exc.DataError, sa.exc.IntegrityError):
            if len(adoptions) == 1:
                return {adoptions[0].key: Adopted.REFUSED}
        return {each.key: self.adopt(source, [each])[each.key] for each in adoptions}

    def _adopt(self, source: str, adoptions: Sequence[Adoption]) -> Mapping[str, Adopted]:
        with self._database.begin() as transaction:
            recorded = set(transaction.scalars(_RECORD, _records(source, adoptions)))
            ours = [each for each in adoptions if each.key in recorded]
            if ours:
                parameters = [_parameters(each) for each in ours]
                for statement in (_CONNECTION, consent.SCHEDULE, _GRANT):
                    transaction.execute(statement, parameters)
                transaction.execute(audit.insert(), [_event(source, each) for each in ours])
        return {each.key: Adopted.DONE if each.key in recorded else Adopted.BEFORE for each in adoptions}

    def stored(self, connection_ids: Sequence[UUID]) -> Mapping[UUID, StoredGrant]:
        """See ``MigrationStore.stored``."""
        grant = oauth_grant.c
        columns = (grant.tenant, grant.status, grant.version, grant.access_envelope, grant.refresh_envelope)
        wanted = (
            sa.select(grant.connection_id, *columns, *DATA_KEY_COLUMNS)
            .join_from(oauth_grant, data_key, data_key.c.id == grant.data_key_id)
            .where(grant.connection_id.in_(list(connection_ids)))
        )
        key = 1 + len(columns)
        with self._database.begin() as transaction:
            rows = [tuple(row) for row in transaction.execute(wanted)]
        return {row[0]: _stored(row[1:key], DataKeyRecord(*row[key:])) for row in rows}

    def cleared(self, source: str, rows: Sequence[tuple[str, Moved]]) -> None:
        """See ``MigrationStore.cleared``."""
        events = [
            audit_row(moved.tenant, "migration.cleared", moved.connection_id, {"source": source, "key": key})
            for key, moved in rows
        ]
        with self._database.begin() as transaction:
            transaction.execute(audit.insert(), events)

    # -------------------------------------------------------------------------------------------------- runs of workers

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """See ``MigrationRuns.alone``.

        The lock is that of a transaction, as PgBouncer may lend a session to others. If its connection dies, the run
        goes on without it: the record of what was moved keeps two of them from moving a row twice.
        """
        with self._database.translated():
            session = self._database.connect(autocommit=False)
            session.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            row = session.execute("SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))", (RUN_LOCK, name)).fetchone()
        try:
            yield row == (True,)
        finally:
            session.close()

    def begin(self, name: str) -> None:
        """See ``MigrationRuns.begin``."""
        with self._database.begin() as transaction:
            transaction.execute(insert(migration_run).values(name=name).on_conflict_do_nothing())

    def unfinished(self) -> Sequence[str]:
        """See ``MigrationRuns.unfinished``."""
        with self._database.begin() as transaction:
            return list(transaction.scalars(sa.select(migration_run.c.name).order_by(migration_run.c.began_at)))

    def place(self, name: str) -> tuple[str | None, Mapping[str, int]] | None:
        """See ``MigrationRuns.place``."""
        wanted = sa.select(migration_run.c.cursor, migration_run.c.counts).where(migration_run.c.name == name)
        with self._database.begin() as transaction:
            row = transaction.execute(wanted).one_or_none()
        return None if row is None else (row.cursor, row.counts)

    def save(self, name: str, cursor: str | None, counts: Mapping[str, int]) -> None:
        """See ``MigrationRuns.save``."""
        noted = {"cursor": cursor, "counts": dict(counts), "changed_at": consent.NOW}
        with self._database.begin() as transaction:
            transaction.execute(migration_run.update().where(migration_run.c.name == name).values(noted))

    def end(self, name: str) -> None:
        """See ``MigrationRuns.end``."""
        with self._database.begin() as transaction:
            transaction.execute(migration_run.delete().where(migration_run.c.name == name))


def _data_keys(transaction: sa.Connection, owners: Sequence[tuple[str, str, str]]) -> list[DataKeyRecord]:
    wanted = sa.select(*DATA_KEY_COLUMNS).where(
        _OWNER.in_(list(owners)), data_key.c.purpose == "grant", data_key.c.state == "current"
    )
    return [DataKeyRecord(*row) for row in transaction.execute(wanted)]


def _records(source: str, adoptions: Sequence[Adoption]) -> dict[str, Any]:
    return {
        "source": source,
        "keys": [each.key for each in adoptions],
        "tenants": [each.grant.tenant for each in adoptions],
        "connection_ids": [each.grant.connection_id for each in adoptions],
        "kept": [each.kept_fp for each in adoptions],
        "tokens": [each.token_fp for each in adoptions],
    }


def _parameters(each: Adoption) -> dict[str, Any]:
    return {
        **consent.parameters(each.grant),
        "new_connected_at": each.connected_at,
        "new_expires_at": each.expires_at,
    }


def _event(source: str, each: Adoption) -> dict[str, Any]:
    grant = each.grant
    detail = {
        "source": source,
        "key": each.key,
        "provider": grant.provider,
        "scopes": grant.granted_scopes,
        "refresh": grant.refresh_fp.hex() if grant.refresh_fp else None,
    }
    return audit_row(grant.tenant, "migration.adopted", grant.connection_id, detail)


def _stored(columns: Any, key: DataKeyRecord) -> StoredGrant:
    tenant, status, version, access, refresh = columns
    return StoredGrant(tenant, status, version, access, refresh, key)
