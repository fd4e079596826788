"""A worker that has something to tell, and whoever is told; time can pass."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.integration.house import NOBODY_HERE
from tests.support.receiver import Received, Receiver
from vault import EventType, Maintenance, Secret
from vault.events import Fact
from vault.store.engine import Database
from vault.store.telling import record

DEADLINE_S = 1.0


class Office:
    """A worker with a database of its own, and a receiver for what it has to tell."""

    def __init__(self, database_url: str, home: Path, receiver: Receiver, **more: str) -> None:
        self.receiver = receiver
        self.environment = {
            "VAULT_DATABASE_URL": database_url, "VAULT_REDIS_URL": NOBODY_HERE, "VAULT_HOME": str(home),
            "VAULT_INSECURE_HOSTS": "127.0.0.1", "VAULT_REQUEST_DEADLINE_S": str(DEADLINE_S), **more,
        }  # fmt: skip
        self.worker = Maintenance.from_env(self.environment)
        self.events = self.worker.events
        self.database = Database(Secret(database_url))
        self._session = psycopg.connect(database_url, autocommit=True, row_factory=dict_row)

    def close(self) -> None:
        self.worker.close()
        self.database.dispose()
        self._session.close()

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        cursor = self._session.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def add(self, path: str, tenant: str = "default", *types: str) -> tuple[UUID, Secret]:
        return self.events.add_endpoint(tenant, self.receiver.url(path), types)

    def tell(self, key: str = "", tenant: str = "default", kind: str = EventType.QUARANTINED, **data: Any) -> UUID:
        """Tell of a fact; returns the id of its event."""
        key = key or str(uuid4())
        with self.database.begin() as transaction:
            record(transaction, Fact(tenant, kind, key, data))
        [row] = self.sql("SELECT id FROM evergrant.event WHERE tenant = %s AND fact = %s", (tenant, key))
        found: UUID = row["id"]
        return found

    def deliver(self) -> dict[str, int]:
        return dict(self.worker.deliver(timedelta(seconds=5)).outcomes)

    def delivery(self, event_id: UUID, endpoint_id: UUID) -> dict[str, Any]:
        [row] = self.sql(
            "SELECT *, next_at - clock_timestamp() AS wait FROM evergrant.delivery"
            " WHERE event_id = %s AND endpoint_id = %s",
            (event_id, endpoint_id),
        )
        return row

    def pass_time(self, by: timedelta) -> None:
        self.sql("UPDATE evergrant.endpoint SET created_at = created_at - %s", (by,))
        self.sql(
            "UPDATE evergrant.delivery SET next_at = next_at - %s, lease_until = lease_until - %s"
            " WHERE (event_id, endpoint_id) IN"
            " (SELECT event_id, endpoint_id FROM evergrant.delivery ORDER BY event_id, endpoint_id FOR UPDATE)",
            (by, by),
        )
        self.sql("UPDATE evergrant.event SET created_at = created_at - %s, spread_at = spread_at - %s", (by, by))
        self.sql("UPDATE evergrant.credential_version SET serves_until = serves_until - %s", (by,))
        self.sql("UPDATE evergrant.credential_rotation SET next_at = next_at - %s", (by,))

    def audit(self) -> list[str]:
        return [row["event"] for row in self.sql("SELECT event FROM evergrant.audit ORDER BY id")]


def accepts(secret: Secret, got: Received) -> bool:
    """Whether an app with this secret, and the library that everybody uses, takes it."""
    try:
        Webhook(secret.reveal()).verify(got.body, got.headers)
    except WebhookVerificationError:
        return False
    return True
