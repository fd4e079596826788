"""Flows before anybody knows whose they are: tickets, and whose attempts are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import sqlalchemy as sa

from vault.model import SYSTEM
from vault.ports import Flow, Ticket
from vault.store.engine import Database
from vault.store.tables import connect_attempt, connect_ticket

_now = sa.func.now()


class PostgresFlows:
    """``FlowStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_ticket(self, digest: bytes, ticket: Ticket, life: timedelta) -> None:
        """See ``FlowStore.add_ticket``."""
        values = {**ticket._asdict(), "request": dict(ticket.request), "digest": digest, "expires_at": _now + life}
        with self._database.of(ticket.tenant).begin() as transaction:
            transaction.execute(connect_ticket.insert().values(values))

    def take_ticket(self, digest: bytes) -> Ticket | None:
        """See ``FlowStore.take_ticket``."""
        columns = [connect_ticket.c[name] for name in Ticket._fields]
        taking = (
            connect_ticket.delete()
            .where(connect_ticket.c.digest == digest)
            .returning(*columns, connect_ticket.c.expires_at > _now)
        )
        with self._database.of(SYSTEM).begin() as transaction:
            row = transaction.execute(taking).one_or_none()
        return Ticket(*row[:-1]) if row is not None and row[-1] else None

    def flow(self, state_digest: bytes) -> Flow | None:
        """See ``FlowStore.flow``."""
        wanted = sa.select(connect_attempt.c.tenant, connect_attempt.c.provider).where(
            connect_attempt.c.state_digest == state_digest, connect_attempt.c.expires_at > _now
        )
        with self._database.begin() as transaction:
            tenant = transaction.exec_driver_sql("SELECT evergrant.attempt_tenant(%s)", (state_digest,)).scalar()
        if tenant is None:
            return None
        with self._database.of(tenant).begin() as transaction:
            row = transaction.execute(wanted).one_or_none()
        return None if row is None else Flow(*row)

    def sweep(self, *, dry_run: bool) -> Mapping[str, int]:
        """See ``CleanupStore.sweep``."""
        over = connect_ticket.c.expires_at <= _now
        with self._database.begin() as transaction:
            if dry_run:
                counted = sa.select(sa.func.count()).select_from(connect_ticket).where(over)
                return {"connect_tickets": transaction.scalar(counted) or 0}
            return {"connect_tickets": transaction.execute(connect_ticket.delete().where(over)).rowcount}
