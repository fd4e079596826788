"""Our registrations at providers, sealed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from vault.events import Fact
from vault.model import SYSTEM, Status
from vault.ports import StoredClient
from vault.store.audit import audit_row
from vault.store.engine import Database
from vault.store.tables import audit, connection, oauth_client, oauth_grant, revocation
from vault.store.telling import record

_COLUMNS = [oauth_client.c[name] for name in StoredClient._fields]
_SECRETS = ("version", "data_key_id", "secret_envelope", "other_envelope")


class PostgresClients:
    """``ClientStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def clients(self) -> Sequence[StoredClient]:
        """See ``ClientStore.clients``."""
        wanted = sa.select(*_COLUMNS).order_by(oauth_client.c.provider, oauth_client.c.generation)
        with self._database.begin() as transaction:
            return [StoredClient(*row) for row in transaction.execute(wanted)]

    def add_client(self, client: StoredClient, detail: Mapping[str, object]) -> bool:
        """See ``ClientStore.add_client``."""
        values = {name: value for name, value in client._asdict().items() if name != "changed_at"}
        adding = insert(oauth_client).values(values).on_conflict_do_nothing().returning(oauth_client.c.id)
        with self._database.begin() as transaction:
            return transaction.scalar(adding) is not None and _log(transaction, "client.added", client, detail)

    def change_client(self, client: StoredClient, event: str, detail: Mapping[str, object]) -> bool:
        """See ``ClientStore.change_client``."""
        changing = (
            oauth_client.update()
            .where(oauth_client.c.id == client.id, oauth_client.c.version == client.version - 1)
            .values({name: getattr(client, name) for name in _SECRETS} | {"changed_at": sa.func.now()})
        )
        with self._database.begin() as transaction:
            return transaction.execute(changing).rowcount == 1 and _log(transaction, event, client, detail)

    def remove_client(self, client: StoredClient, *, force: bool) -> int:
        """See ``ClientStore.remove_client``."""
        removing = oauth_client.delete().where(oauth_client.c.id == client.id)
        with self._database.begin() as transaction:
            needed = sum(transaction.scalar(query) or 0 for query in _needed_by(client))
            if (force or not needed) and transaction.execute(removing).rowcount:
                _log(transaction, "client.removed", client, {"grants": needed})
        return needed

    def tell(self, facts: Sequence[Fact]) -> None:
        """See ``ClientStore.tell``."""
        with self._database.begin() as transaction:
            for fact in facts:
                record(transaction, fact)

    def grants_by_client(self) -> Mapping[tuple[str, str], int]:
        """See ``ClientStore.grants_by_client``."""
        client = (connection.c.provider, oauth_grant.c.client_id)
        counted = (
            sa.select(*client, sa.func.count())
            .join_from(oauth_grant, connection)
            .where(oauth_grant.c.status != Status.DISCONNECTED)
            .group_by(*client)
        )
        with self._database.begin() as transaction:
            return {(provider, client_id): number for provider, client_id, number in transaction.execute(counted)}


def _needed_by(client: StoredClient) -> list[Any]:
    """Count what only this client can refresh, and what only it can have revoked."""
    over = (Status.DISCONNECTED, Status.NEEDS_RECONNECT)
    grants = (
        sa.select(sa.func.count())
        .select_from(sa.join(oauth_grant, connection))
        .where(
            connection.c.provider == client.provider,
            oauth_grant.c.client_id == client.client_id,
            oauth_grant.c.refresh_fp.is_not(None),
            oauth_grant.c.status.not_in(over),
        )
    )
    waiting = (
        sa.select(sa.func.count())
        .select_from(revocation)
        .where(revocation.c.provider == client.provider, revocation.c.client_id == client.client_id)
    )
    return [grants, waiting]


def _log(transaction: sa.Connection, event: str, client: StoredClient, detail: Mapping[str, object]) -> bool:
    said = {"provider": client.provider, "generation": client.generation, "client_id": client.client_id, **detail}
    transaction.execute(audit.insert().values(audit_row(SYSTEM, event, None, said)))
    return True
