"""Connections, and the flows that make and end them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from vault.model import Connection, Status
from vault.ports import ConnectAttempt, NewGrant, SealedMetadata
from vault.store import consent
from vault.store.audit import audit_row
from vault.store.engine import Database
from vault.store.tables import (
    NEVER_LEASED,
    audit,
    candidate,
    connect_attempt,
    connection,
    connection_metadata,
    oauth_grant,
    revocation,
    schedule,
)
from vault.store.telling import DISCONNECTED, RECOVERY, TROUBLE

_now = sa.func.now()
_VIEW = sa.select(
    connection.c.id,
    connection.c.tenant,
    connection.c.owner,
    connection.c.provider,
    connection.c.account,
    oauth_grant.c.status,
    oauth_grant.c.reason,
    connection.c.requested_scopes,
    connection.c.granted_scopes,
    connection.c.labels,
    connection.c.created_at,
    connection.c.connected_at,
    oauth_grant.c.refreshed_at,
    oauth_grant.c.expires_at,
    oauth_grant.c.grant_ends_at,
    connection.c.grant_name,
    connection.c.part_of,
).join_from(connection, oauth_grant)

REJECTED = "rejected"
_ASK = b"""
UPDATE evergrant.schedule s
   SET urgent = s.urgent OR %b OR (s.failures = 0 AND g.status <> 'quarantined'),
       next_at = CASE WHEN %b OR (s.failures = 0 AND g.status <> 'quarantined')
                      THEN LEAST(s.next_at, now()) ELSE s.next_at END
  FROM evergrant.oauth_grant g
 WHERE s.connection_id = %b AND s.next_at IS NOT NULL AND g.connection_id = s.connection_id AND g.tenant = %b
   AND g.status NOT IN ('needs_reconnect', 'disconnected')
RETURNING GREATEST(s.next_at - now(), interval '0')
"""


_CONNECTION_ROW = consent.replacing(
    consent.CONNECTION, "id", "account", "requested_scopes", "granted_scopes", "labels", connected_at=_now
)
# A new consent is due in its own time, in nobody's hands; the epoch fences whoever held the old one.
_SCHEDULE_ROW = consent.replacing(
    consent.SCHEDULE,
    "connection_id",
    *("client", "next_at", "urgent", "lease_until", "attempt", "failures", "intent_fp", "intent_at"),
    epoch=schedule.c.epoch + 1,
)
_GRANT_ROW = consent.replacing(
    consent.GRANT,
    "connection_id",
    *("status", "reason", "version", "data_key_id", "client_id", "token_type", "expires_at", "refreshed_at"),
    *("stale_at", "grant_ends_at", "refresh_fp", "access_envelope"),
    where=oauth_grant.c.version < consent.GRANT.excluded.version,
    consent=oauth_grant.c.consent + 1,
    # By its value: to take it from the row that was put in would need the right to read it (INSERT, ON CONFLICT).
    refresh_envelope=consent.REFRESH_ENVELOPE,
).returning(oauth_grant.c.version)
_REVOKE_LATER = sa.select(sa.func.evergrant.revoke_later(sa.bindparam("wanted", type_=connection.c.id.type)))
"""A function of the owner's, since whoever disconnects may not see what is to be revoked."""


class PostgresConnections:
    """Connections in PostgreSQL; every change carries its audit row in the same transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save_attempt(self, attempt: ConnectAttempt, life: timedelta) -> None:
        """See ``ConnectionStore.save_attempt``."""
        values = {**attempt._asdict(), "labels": dict(attempt.labels), "expires_at": _now + life}
        with self._database.begin() as transaction:
            transaction.execute(connect_attempt.insert().values(values))

    def take_attempt(self, tenant: str, state_digest: bytes) -> ConnectAttempt | None:
        """See ``ConnectionStore.take_attempt``."""
        columns = [connect_attempt.c[name] for name in ConnectAttempt._fields]
        take = (
            connect_attempt.delete()
            .where(connect_attempt.c.state_digest == state_digest, connect_attempt.c.tenant == tenant)
            .returning(*columns, connect_attempt.c.expires_at > _now)
        )
        with self._database.begin() as transaction:
            row = transaction.execute(take).one_or_none()
        return ConnectAttempt(*row[:-1]) if row is not None and row[-1] else None

    def grant_version(self, connection_id: UUID) -> int | None:
        """See ``ConnectionStore.grant_version``."""
        with self._database.begin() as transaction:
            version: int | None = transaction.scalar(
                sa.select(oauth_grant.c.version).where(oauth_grant.c.connection_id == connection_id)
            )
            return version

    def connect(self, *grants: NewGrant) -> Connection | None:
        """See ``ConnectionStore.connect``; schedule rows that there are are locked first, by id, as everywhere."""
        with self._database.begin() as transaction:
            _lock(transaction, [each.connection_id for each in grants])
            for grant in grants:
                if not _stored(transaction, grant):
                    transaction.rollback()
                    return None
            row = transaction.execute(_VIEW.where(connection.c.id == grants[0].connection_id)).one()
        return _connection(row)

    def connection(self, tenant: str, connection_id: UUID) -> Connection | None:
        """See ``ConnectionStore.connection``."""
        wanted = _VIEW.where(connection.c.id == connection_id, connection.c.tenant == tenant)
        with self._database.begin() as transaction:
            row = transaction.execute(wanted).one_or_none()
        return _connection(row) if row else None

    def connections(
        self,
        tenant: str,
        *,
        owner: str | None,
        provider: str | None,
        status: str | None,
        after: UUID | None,
        limit: int,
        further: bool,
    ) -> list[Connection]:
        """See ``ConnectionStore.connections``."""
        wanted = _VIEW.where(connection.c.tenant == tenant).order_by(connection.c.id).limit(limit)
        if not further:
            wanted = wanted.where(connection.c.part_of.is_(None))
        if owner is not None:
            wanted = wanted.where(connection.c.owner == owner)
        if provider is not None:
            wanted = wanted.where(connection.c.provider == provider)
        if status is not None:
            wanted = wanted.where(oauth_grant.c.status == status)
        if after is not None:
            wanted = wanted.where(connection.c.id > after)
        with self._database.begin() as transaction:
            return [_connection(row) for row in transaction.execute(wanted)]

    def further_grants(self, tenant: str, connection_id: UUID) -> list[Connection]:
        """See ``ConnectionStore.further_grants``."""
        wanted = _VIEW.where(connection.c.part_of == connection_id, connection.c.tenant == tenant)
        with self._database.begin() as transaction:
            return [_connection(row) for row in transaction.execute(wanted.order_by(connection.c.grant_name))]

    def metadata(self, tenant: str, connection_id: UUID) -> SealedMetadata | None:
        """See ``ConnectionStore.metadata``."""
        kept = connection_metadata.c
        wanted = (
            sa.select(kept.connection_id, kept.version, kept.data_key_id, kept.envelope)
            .join_from(connection_metadata, connection)
            .where(kept.connection_id == connection_id, connection.c.tenant == tenant)
        )
        with self._database.begin() as transaction:
            row = transaction.execute(wanted).one_or_none()
        return SealedMetadata(*row) if row else None

    def put_metadata(self, tenant: str, metadata: SealedMetadata) -> bool:
        """See ``ConnectionStore.put_metadata``; the grant's lock keeps it from coming after a disconnect."""
        alive = (
            sa.select(oauth_grant.c.connection_id)
            .where(
                oauth_grant.c.connection_id == metadata.connection_id,
                oauth_grant.c.tenant == tenant,
                oauth_grant.c.status != Status.DISCONNECTED,
            )
            .with_for_update(key_share=True)
        )
        with self._database.begin() as transaction:
            if transaction.scalar(alive) is None or transaction.scalar(_metadata_row(metadata)) is None:
                return False
            detail = {"version": metadata.version}
            event = audit_row(tenant, "connection.metadata_changed", metadata.connection_id, detail)
            transaction.execute(audit.insert().values(event))
            return True

    def give_back(self, grant: NewGrant, reason: str) -> bool:
        """See ``ConnectionStore.give_back``."""
        columns = ("connection_id", "tenant", "owner", "provider", "version", "data_key_id", "client_id")
        values = {name: getattr(grant, name) for name in columns}
        detail = {"provider": grant.provider, "reason": reason}
        held = sa.select(oauth_grant.c.connection_id).where(
            oauth_grant.c.connection_id == grant.connection_id, oauth_grant.c.refresh_fp == grant.refresh_fp
        )
        with self._database.begin() as transaction:
            if transaction.scalar(held) is not None:
                return False
            transaction.execute(revocation.insert().inline().values(**values, refresh_envelope=grant.refresh_envelope))
            row = audit_row(grant.tenant, "connection.given_back", grant.connection_id, detail)
            transaction.execute(audit.insert().values(row))
            return True

    def disconnect(self, tenant: str, connection_id: UUID) -> bool:
        """See ``ConnectionStore.disconnect``."""
        whole = sa.or_(connection.c.id == connection_id, connection.c.part_of == connection_id)
        wanted = sa.select(connection.c.id).where(connection.c.tenant == tenant, whole)
        with self._database.of(tenant).begin() as transaction:
            found: set[UUID] = set()
            while found != (now := set(transaction.scalars(wanted))):  # a consent may have brought another meanwhile
                found = now
                _lock(transaction, found)
            if connection_id not in found:
                return False
            transaction.execute(connect_attempt.delete().where(connect_attempt.c.connection_id == connection_id))
            for each in sorted(found):
                _end(transaction, tenant, each)
            return True

    def ask(self, tenant: str, connection_id: UUID, *, insist: bool) -> timedelta | None:
        """See ``ConnectionStore.ask``."""
        row = self._database.lane.run(_ASK, (insist, insist, connection_id, tenant), psycopg.Cursor.fetchone)
        wait: timedelta | None = row[0] if row else None
        return wait

    def reject(self, tenant: str, connection_id: UUID) -> bool:
        """See ``ConnectionStore.reject``."""
        alive = (Status.ACTIVE, Status.IN_DOUBT, Status.QUARANTINED)
        mark = (
            oauth_grant.update()
            .where(
                oauth_grant.c.connection_id == connection_id,
                oauth_grant.c.tenant == tenant,
                oauth_grant.c.refresh_fp.is_(None),
                oauth_grant.c.status.in_(alive),
            )
            .values(status=Status.NEEDS_RECONNECT, reason=REJECTED, expires_at=_now)  # what is refused is over
        )
        over = (  # of a grant that is dead no other token comes: from now on get() says so
            oauth_grant.update()
            .where(
                oauth_grant.c.connection_id == connection_id,
                oauth_grant.c.tenant == tenant,
                oauth_grant.c.status == Status.NEEDS_RECONNECT,
                oauth_grant.c.expires_at > _now,
            )
            .values(expires_at=_now)
        )
        with self._database.begin() as transaction:
            _lock(transaction, [connection_id])
            if not transaction.execute(mark).rowcount:
                transaction.execute(over)
                return False
            unscheduled = {"next_at": None, "urgent": False, "epoch": schedule.c.epoch + 1}
            transaction.execute(schedule.update().where(schedule.c.connection_id == connection_id).values(unscheduled))
            event = audit_row(tenant, "connection.needs_reconnect", connection_id, {"reason": REJECTED})
            transaction.execute(audit.insert().values(event))
            transaction.exec_driver_sql(TROUBLE, (connection_id,))
            return True


def _lock(transaction: sa.Connection, connection_ids: Collection[UUID]) -> None:
    """Lock schedule rows, by id: whoever locks several does so in this order."""
    held = schedule.c.connection_id
    transaction.execute(sa.select(held).where(held.in_(connection_ids)).order_by(held).with_for_update())


def _stored(transaction: sa.Connection, grant: NewGrant) -> bool:
    """Put a new grant into its rows; False: one of them has changed since it was sealed for them."""
    new = consent.parameters(grant)
    transaction.execute(_CONNECTION_ROW, new)
    transaction.execute(_SCHEDULE_ROW, new)
    if transaction.scalar(_GRANT_ROW, new) is None:
        return False
    if grant.metadata is not None and transaction.scalar(_metadata_row(grant.metadata)) is None:
        return False
    transaction.execute(candidate.delete().where(candidate.c.connection_id == grant.connection_id))
    detail = {
        "provider": grant.provider,
        "version": grant.version,
        "scopes": grant.granted_scopes,
        "refresh": grant.refresh_fp.hex() if grant.refresh_fp else None,
    }
    if grant.part_of is not None:
        detail |= {"part_of": str(grant.part_of), "grant": grant.grant_name}
    event = "connection.connected" if grant.version == 1 else "connection.reconnected"
    transaction.execute(audit.insert().values(audit_row(grant.tenant, event, grant.connection_id, detail)))
    if grant.version > 1:
        transaction.exec_driver_sql(RECOVERY, (grant.connection_id,))
    return True


def _end(transaction: sa.Connection, tenant: str, connection_id: UUID) -> None:
    """Take a grant away whose schedule row is locked, and have it revoked."""
    wanted = sa.select(oauth_grant.c.status, oauth_grant.c.refresh_fp)
    grant = transaction.execute(wanted.where(oauth_grant.c.connection_id == connection_id)).one()
    transaction.execute(_REVOKE_LATER, {"wanted": connection_id})
    if grant.status == Status.DISCONNECTED:
        return
    forget(transaction, connection_id, "disconnected")
    detail = {"refresh": grant.refresh_fp.hex() if grant.refresh_fp else None}
    event = audit_row(tenant, "connection.disconnected", connection_id, detail)
    transaction.execute(audit.insert().values(event))
    transaction.exec_driver_sql(DISCONNECTED, (connection_id,))


def forget(transaction: sa.Connection, connection_id: UUID, reason: str) -> None:
    """Take every secret out of a connection; its epoch moves on, so that no claim of before can end here."""
    transaction.execute(
        schedule.update()
        .where(schedule.c.connection_id == connection_id)
        .values(
            next_at=None,
            urgent=False,
            lease_until=NEVER_LEASED,
            epoch=schedule.c.epoch + 1,
            intent_fp=None,
            intent_at=None,
            attempt=0,
            failures=0,
        )
    )
    transaction.execute(
        oauth_grant.update()
        .where(oauth_grant.c.connection_id == connection_id)
        .values(
            status=Status.DISCONNECTED,
            reason=reason,
            version=oauth_grant.c.version + 1,
            access_envelope=None,
            refresh_envelope=None,
            refresh_fp=None,
        )
    )
    for table in (candidate, connection_metadata):
        transaction.execute(table.delete().where(table.c.connection_id == connection_id))


def _metadata_row(metadata: SealedMetadata) -> Any:
    """The next version takes the place of the one before, and no other one's."""
    values = {"version": metadata.version, "data_key_id": metadata.data_key_id, "envelope": metadata.envelope}
    row = insert(connection_metadata).values(connection_id=metadata.connection_id, **values)
    return row.on_conflict_do_update(
        index_elements=["connection_id"],
        set_={**values, "changed_at": _now},
        where=connection_metadata.c.version == metadata.version - 1,
    ).returning(connection_metadata.c.version)


def _connection(row: Any) -> Connection:
    return Connection(
        id=row.id,
        tenant=row.tenant,
        owner=row.owner,
        provider=row.provider,
        account=row.account,
        status=Status(row.status),
        reason=row.reason,
        requested_scopes=tuple(row.requested_scopes.split()),
        granted_scopes=tuple(row.granted_scopes.split()),
        labels=dict(row.labels),
        created_at=row.created_at,
        connected_at=row.connected_at,
        refreshed_at=row.refreshed_at,
        expires_at=row.expires_at,
        grant_ends_at=row.grant_ends_at,
        grant=row.grant_name,
        part_of=row.part_of,
    )
