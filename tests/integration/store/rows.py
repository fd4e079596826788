"""Rows for the store's tests: made through the store's own door, looked at and turned about with plain SQL."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

from vault.claims import Claim, DataKeyRecord, Kept, Quota, Verdict
from vault.model import Status
from vault.ports import NewGrant, TenantKeyRecord, WrappedKey
from vault.secret import Secret
from vault.store.connections import PostgresConnections
from vault.store.data_keys import PostgresDataKeys
from vault.store.engine import Database
from vault.store.keys import PostgresKeys
from vault.store.refreshing import PostgresRefreshStore
from vault.store.tenant_keys import PostgresTenantKeys


class Keys(PostgresKeys, PostgresTenantKeys, PostgresDataKeys):
    """Every store of keys at rest, as one object."""


LEASE = timedelta(seconds=30)
HOUR = timedelta(hours=1)
QUARANTINE_WAIT = timedelta(hours=2)
TABLES = ("connection", "oauth_grant", "schedule", "candidate", "revocation", "connect_attempt", "audit", "data_key")

_numbers = itertools.count(1)


def fingerprint() -> bytes:
    """Return one nobody else has."""
    return next(_numbers).to_bytes(16, "big")


def quota(client: str = "acme", rows: int = 100, lease: timedelta = LEASE, since: datetime | None = None) -> Quota:
    return Quota(client, rows, lease, since)


def answer(claim: Claim, **changes: Any) -> Kept:
    """Return an answer to a claim: a new refresh token, another hour of life, due again in half an hour."""
    version = claim.version + 1
    fitting = Kept(
        connection_id=claim.connection_id,
        tenant=claim.tenant,
        epoch=claim.epoch,
        consent=claim.consent,
        parent_fp=claim.parent_fp or b"",
        parent_version=claim.version,
        refresh_fp=fingerprint(),
        data_key_id=claim.data_key.id,
        access_envelope=b"access %d " % version + bytes(180),
        refresh_envelope=b"refresh %d " % version + bytes(180),
        token_type="Bearer",
        scopes=None,
        sent_at=claim.claimed_at,
        expires_at=claim.claimed_at + HOUR,
        next_at=claim.claimed_at + HOUR / 2,
        grant_ends_at=None,
    )
    return fitting._replace(**changes)


def verdict(claim: Claim, **changes: Any) -> Verdict:
    """Return an end to a claim: the provider was busy, nothing was spent, again in a minute."""
    busy = Verdict(claim, "oauth.postponed", Status.ACTIVE, "http_429", timedelta(minutes=1), 1, unspent=True)
    return busy._replace(**changes)


class Rows:
    """One database's rows."""

    def __init__(self, database_url: str) -> None:
        self.database = Database(Secret(database_url))
        self.connections = PostgresConnections(self.database)
        self.keys = Keys(self.database)
        self.refreshing = self.another_store()
        self._sql = psycopg.connect(database_url, autocommit=True, row_factory=dict_row)
        self._url = database_url
        self._stores: list[PostgresRefreshStore] = [self.refreshing]

    def another_store(self) -> PostgresRefreshStore:
        """As another worker would open it."""
        store = PostgresRefreshStore(self.database, quarantine_wait=QUARANTINE_WAIT)
        if hasattr(self, "_stores"):
            self._stores.append(store)
        return store

    def another_session(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._url, row_factory=dict_row)

    def close(self) -> None:
        for store in self._stores:
            store.close()
        self._sql.close()
        self.database.dispose()

    def empty(self) -> None:
        """Remove every row, and with it what hangs on it; the audit by force, which refuses otherwise."""
        self.sql("SET session_replication_role = replica")
        for table in ("audit", "audit_link", "audit_head", "audit_start"):
            self.sql(f"DELETE FROM evergrant.{table}")
        self.sql("SET session_replication_role = origin")
        for table in ("connect_attempt", "revocation", "connection", "data_key", "tenant_key"):
            self.sql(f"DELETE FROM evergrant.{table}")

    # ------------------------------------------------------------------------------------------------------ making

    def key(self, tenant: str = "default", owner: str = "olga", provider: str = "acme") -> DataKeyRecord:
        """Return the data key of an owner, made when it is the first."""
        known = self.keys.current_data_key(tenant, owner, provider, "grant")
        return known or self.keys.add_data_key(self.new_key(tenant, owner, provider))

    def new_key(self, tenant: str = "default", owner: str = "olga", provider: str = "acme") -> DataKeyRecord:
        above = self.keys.add_tenant_key(
            TenantKeyRecord(uuid4(), tenant, "current", WrappedKey("kek", "fake", b"wrap"))
        )
        return DataKeyRecord(uuid4(), tenant, owner, provider, "grant", "current", above.id, b"wrapped")

    def grant(self, client: str = "acme", **changes: Any) -> NewGrant:
        tenant, owner = changes.get("tenant", "default"), changes.get("owner", "olga")
        made = NewGrant(
            connection_id=uuid4(),
            tenant=tenant,
            owner=owner,
            provider=client,
            client=client,
            client_id="ours",
            account=None,
            requested_scopes="read write",
            granted_scopes="read write",
            labels={},
            version=1,
            data_key_id=changes.get("data_key_id") or self.key(tenant, owner, client).id,
            access_envelope=b"access 1 " + bytes(180),
            refresh_envelope=b"refresh 1 " + bytes(180),
            refresh_fp=fingerprint(),
            token_type="Bearer",
            life=HOUR,
            refresh_in=HOUR / 2,
            grant_life=None,
        )
        return made._replace(**changes)

    def add(
        self,
        client: str = "acme",
        *,
        due: timedelta | None = timedelta(seconds=-1),
        urgent: bool = False,
        **changes: Any,
    ) -> UUID:
        """Connect one; ``due`` is seen from now, None leaves it as it was made."""
        grant = self.grant(client, **changes)
        assert self.connections.connect(grant) is not None
        if due is not None:
            self.sql(
                "UPDATE evergrant.schedule SET next_at = now() + %s, urgent = %s WHERE connection_id = %s",
                (due, urgent, grant.connection_id),
            )
        return grant.connection_id

    def add_many(self, count: int, client: str = "acme", owner: str = "olga") -> list[UUID]:
        """Connect many at once, all due, the first the longest."""
        ids = sorted(uuid4() for _ in range(count))
        key = self.key("default", owner, client)
        with self.another_session() as session, session.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO evergrant.connection (id, tenant, owner, provider) VALUES (%s, 'default', %s, %s)",
                [(each, owner, client) for each in ids],
            )
            cursor.executemany(
                "INSERT INTO evergrant.oauth_grant (connection_id, tenant, status, version, data_key_id, client_id,"
                " expires_at, refreshed_at, stale_at, refresh_fp, access_envelope, refresh_envelope)"
                " VALUES (%s, 'default', 'active', 1, %s, 'ours',"
                " now() + interval '1 h', now(), now() + interval '1 h', %s, %s, %s)",
                [(each, key.id, fingerprint(), bytes(190), bytes(190)) for each in ids],
            )
            cursor.executemany(
                "INSERT INTO evergrant.schedule (connection_id, client, next_at)"
                " VALUES (%s, %s, now() - interval '1 h' + %s * interval '1 s')",
                [(each, client, place) for place, each in enumerate(ids)],
            )
        return ids

    def claim(self, connection_id: UUID | None = None, *, lease: timedelta = LEASE) -> Claim:
        """Claim the one row that is due, suspect or not."""
        if connection_id is None:
            quotas = [quota(lease=lease)]
            [claim] = self.refreshing.claim(quotas) or self.refreshing.claim_suspects(quotas, 9)
            return claim
        claimed = self.refreshing.claim_one(connection_id, [quota(lease=lease)])
        assert claimed is not None
        return claimed

    # ----------------------------------------------------------------------------------------------------- looking

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        cursor = self._sql.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def until(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Wait until a query finds something."""
        patience = time.monotonic() + 20
        while not self._sql.execute(statement.encode(), parameters).rowcount:
            assert time.monotonic() < patience, f"this never came to be: {statement}"
            time.sleep(0.005)

    def now(self) -> datetime:
        at: datetime = self.sql("SELECT clock_timestamp() AS at")[0]["at"]
        return at.astimezone(UTC)

    def of(self, table: str, connection_id: UUID) -> dict[str, Any]:
        """Return the one row of a connection in a table."""
        [row] = self.all(table, connection_id)
        return row

    def all(self, table: str, connection_id: UUID) -> list[dict[str, Any]]:
        column = "id" if table == "connection" else "connection_id"
        return self.sql(f"SELECT * FROM evergrant.{table} WHERE {column} = %s", (connection_id,))

    def events(self, connection_id: UUID) -> list[str]:
        """Return the names of a connection's audit rows after the first, oldest first."""
        rows = self.sql("SELECT event FROM evergrant.audit WHERE connection_id = %s ORDER BY id", (connection_id,))
        return [row["event"] for row in rows[1:]]

    def detail(self, connection_id: UUID) -> dict[str, Any]:
        """Return what the newest audit row of a connection says."""
        newest = "SELECT detail FROM evergrant.audit WHERE connection_id = %s ORDER BY id DESC LIMIT 1"
        found: dict[str, Any] = self.sql(newest, (connection_id,))[0]["detail"]
        return found

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """Return all there is in the database."""
        return {table: self.sql(f"SELECT t.* FROM evergrant.{table} t ORDER BY t::text") for table in TABLES}

    def expire_lease(self, connection_id: UUID) -> None:
        self.sql("UPDATE evergrant.schedule SET lease_until = now() WHERE connection_id = %s", (connection_id,))
