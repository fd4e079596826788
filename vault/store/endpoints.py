"""Endpoints and events, as operators see them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from vault.events import Delivery, Endpoint, Event, EventType, Fact
from vault.model import Credential
from vault.ports import SealedVersion
from vault.store.audit import audit_row
from vault.store.credentials import add_credential, destroy
from vault.store.engine import Database
from vault.store.outbox import disable, theirs
from vault.store.tables import NEVER_LEASED, audit, credential, credential_version, delivery, endpoint, event
from vault.store.telling import record

OURS = timedelta(minutes=1)
"""For so long nobody but who tries an endpoint sends their ping."""
_now = sa.func.now()
_FORMER = (
    sa.select(sa.func.max(credential_version.c.serves_until))
    .where(credential_version.c.credential_id == endpoint.c.id, credential_version.c.stage == "previous")
    .where(credential_version.c.serves_until > _now)
    .scalar_subquery()
)
_SHOWN = [_FORMER.label(name) if name == "former_until" else endpoint.c[name] for name in Endpoint._fields]
_EVENT = [event.c[name] for name in Event._fields]
_STATE = sa.case((endpoint.c.state == "active", "pending"), else_="held")


class PostgresEndpoints:
    """``EndpointStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ------------------------------------------------------------------------------------------------------ endpoints

    def endpoints(self, tenant: str | None) -> list[Endpoint]:
        """See ``EndpointStore.endpoints``."""
        wanted = sa.select(*_SHOWN).order_by(endpoint.c.tenant, endpoint.c.created_at, endpoint.c.id)
        if tenant is not None:
            wanted = wanted.where(endpoint.c.tenant == tenant)
        with self._database.begin() as transaction:
            return [_endpoint(row) for row in transaction.execute(wanted)]

    def endpoint(self, endpoint_id: UUID) -> Endpoint | None:
        """See ``EndpointStore.endpoint``."""
        with self._database.begin() as transaction:
            row = transaction.execute(sa.select(*_SHOWN).where(endpoint.c.id == endpoint_id)).one_or_none()
        return _endpoint(row) if row else None

    def add_endpoint(self, new: Endpoint, secret: tuple[Credential, SealedVersion]) -> None:
        """See ``EndpointStore.add_endpoint``."""
        values = {name: getattr(new, name) for name in ("id", "tenant", "kind", "url", "state")}
        with self._database.begin() as transaction:
            transaction.execute(endpoint.insert().values(**values, types=list(new.types)))
            add_credential(transaction, *secret)
            _log(transaction, new.tenant, "endpoint.added", new.id, {"url": new.url, "types": list(new.types)})

    def disable(self, endpoint_id: UUID, reason: str) -> bool:
        """See ``EndpointStore.disable``."""
        with self._database.begin() as transaction:
            return disable(transaction, endpoint_id, reason)

    def enable(self, endpoint_id: UUID) -> bool:
        """See ``EndpointStore.enable``."""
        beginning = (
            endpoint.update()
            .where(endpoint.c.id == endpoint_id, endpoint.c.state == "disabled")
            .values(state="active", reason=None)
            .returning(endpoint.c.tenant)
        )
        with self._database.begin() as transaction:
            tenant = transaction.scalar(beginning)
            if tenant is None:
                return False
            due = delivery.update().where(theirs(endpoint_id, "held")).values(state="pending", attempt=0, next_at=_now)
            _log(transaction, tenant, "endpoint.enabled", endpoint_id, {"due": transaction.execute(due).rowcount})
            return True

    def remove_endpoint(self, endpoint_id: UUID) -> bool:
        """See ``EndpointStore.remove_endpoint``."""
        removing = endpoint.delete().where(endpoint.c.id == endpoint_id).returning(endpoint.c.tenant, endpoint.c.url)
        with self._database.begin() as transaction:
            row = transaction.execute(removing).one_or_none()
            if row is not None:
                destroy(transaction, credential.c.id == endpoint_id)
                _log(transaction, row.tenant, "endpoint.removed", endpoint_id, {"url": row.url})
            return row is not None

    # --------------------------------------------------------------------------------------------------------- events

    def events(
        self, tenant: str | None, *, type_: str | None, connection_id: UUID | None, before: UUID | None, limit: int
    ) -> list[Event]:
        """See ``EndpointStore.events``."""
        wanted = sa.select(*_EVENT).order_by(event.c.created_at.desc(), event.c.id.desc()).limit(limit)
        for column, value in (("tenant", tenant), ("type", type_), ("connection_id", connection_id)):
            if value is not None:
                wanted = wanted.where(event.c[column] == value)
        if before is not None:
            last = event.alias()
            place = sa.select(last.c.created_at).where(last.c.id == before).scalar_subquery()
            wanted = wanted.where(sa.tuple_(event.c.created_at, event.c.id) < sa.tuple_(place, sa.literal(before)))
        with self._database.begin() as transaction:
            return [Event(*row) for row in transaction.execute(wanted)]

    def event(self, event_id: UUID) -> Event | None:
        """See ``EndpointStore.event``."""
        with self._database.begin() as transaction:
            row = transaction.execute(sa.select(*_EVENT).where(event.c.id == event_id)).one_or_none()
        return Event(*row) if row else None

    def deliveries(self, event_id: UUID) -> list[Delivery]:
        """See ``EndpointStore.deliveries``."""
        columns = [delivery.c[name] for name in Delivery._fields]
        wanted = sa.select(*columns).where(delivery.c.event_id == event_id).order_by(delivery.c.endpoint_id)
        with self._database.begin() as transaction:
            return [Delivery(*row) for row in transaction.execute(wanted)]

    def replay(self, event_id: UUID, endpoint_id: UUID | None) -> int:
        """See ``EndpointStore.replay``."""
        told = sa.or_(
            sa.and_(endpoint.c.tenant == event.c.tenant, endpoint.c.kind == "webhook"), endpoint.c.kind == "hook"
        )
        if endpoint_id is None:
            chosen = sa.or_(sa.func.cardinality(endpoint.c.types) == 0, event.c.type == sa.any_(endpoint.c.types))
        else:
            chosen = endpoint.c.id == endpoint_id
        again = (
            sa.select(event.c.id, endpoint.c.id, _STATE)
            .select_from(sa.join(event, endpoint, told))
            .where(event.c.id == event_id, chosen)
            .order_by(endpoint.c.id)
            .with_for_update(read=True, of=endpoint)
        )
        anew = insert(delivery).from_select(["event_id", "endpoint_id", "state"], again)
        begin = {"state": anew.excluded.state, "attempt": 0, "next_at": _now, "lease_until": NEVER_LEASED}
        with self._database.begin() as transaction:
            due = anew.on_conflict_do_update(index_elements=["event_id", "endpoint_id"], set_=begin)
            number = len(transaction.scalars(due.returning(delivery.c.endpoint_id)).all())
            found = transaction.execute(sa.select(event.c.tenant, event.c.connection_id).where(event.c.id == event_id))
            for tenant, connection_id in found:
                detail = {"event": str(event_id), "endpoint": str(endpoint_id or ""), "endpoints": number}
                row = audit_row(tenant, "event.replayed", connection_id, detail)
                transaction.execute(audit.insert().values(row))
        return number

    def ping(self, tried: Endpoint, key: str) -> UUID:
        """See ``EndpointStore.ping``; nobody else is told."""
        fact = Fact(tried.tenant, EventType.PING, f"{EventType.PING}:{key}", {"endpoint_id": str(tried.id)})
        with self._database.begin() as transaction:
            record(transaction, fact)
            told = event.update().where(event.c.tenant == fact.tenant, event.c.fact == fact.key).values(spread_at=_now)
            event_id: UUID = transaction.scalars(told.returning(event.c.id)).one()
            soon = {"state": "pending", "next_at": _now + OURS}
            transaction.execute(delivery.insert().values(event_id=event_id, endpoint_id=tried.id, **soon))
        return event_id


def _endpoint(row: Any) -> Endpoint:
    return Endpoint(*row)._replace(types=tuple(row.types))


def _log(
    transaction: sa.Connection, tenant: str, event_name: str, endpoint_id: UUID, detail: Mapping[str, object]
) -> None:
    said = {"endpoint": str(endpoint_id), **detail}
    transaction.execute(audit.insert().values(audit_row(tenant, event_name, None, said)))
