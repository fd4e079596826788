"""What every benchmark stands on: PostgreSQL, settings for a vault, and grants in the table by the thousand."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import psycopg

from vault import Maintenance, Vault
from vault import settings as vault_settings
from vault.claims import DataKeyRecord
from vault.envelope import context, seal
from vault.keyring import Keyring
from vault.kms.directory import KekDirectory
from vault.model import DEFAULT_TENANT
from vault.ports import TenantKeyRecord
from vault.store.engine import Database
from vault.store.keys import PostgresKeys
from vault.testing.servers import EmbeddedPostgres
from vault.wiring.clock import monotonic

PROVIDER = "acme"
CLIENT_ID, CLIENT_SECRET = "evergrant", "cnry-cs-simulator"
NOWHERE = {PROVIDER: "http://127.0.0.1:1/token"}
NO_REDIS = "redis://127.0.0.1:1/0"
SERVER = {
    "shared_buffers": "1GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "maintenance_work_mem": "512MB",
}
"""Room for the tables, and no checkpoint in the middle of a measurement."""


class Stage:
    """One database of a running PostgreSQL server, with the environment of a vault that uses it."""

    def __init__(
        self,
        postgres: EmbeddedPostgres,
        home: Path,
        *,
        token_uris: Mapping[str, str] = NOWHERE,
        redis_url: str = NO_REDIS,
        kek_uri: str | None = None,
    ) -> None:
        """Make the database.

        Args:
            postgres: the server.
            home: directory for settings and keys.
            token_uris: token endpoint of each provider, by name.
            redis_url: the broker; by default an address where nobody listens.
            kek_uri: the master key; by default one in a file.
        """
        database = f"bench_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}".encode())
        self.url = postgres.url_for(database)
        self.home = home / database
        self.home.mkdir()
        providers = self.home / "providers.toml"
        providers.write_text(
            "".join(
                f'[{name}]\nauthorize_uri = "{uri}"\ntoken_uri = "{uri}"\nmax_in_flight = 1024\n'
                for name, uri in token_uris.items()
            )
        )
        self.environment = {
            "VAULT_DATABASE_URL": self.url,
            "VAULT_REDIS_URL": redis_url,
            "VAULT_HOME": str(self.home),
            "VAULT_PROVIDERS": str(providers),
            "VAULT_INSECURE_HOSTS": "127.0.0.1",
            "VAULT_MAX_IN_FLIGHT": "1024",
            **{f"VAULT_CLIENT_{name.upper()}_ID": CLIENT_ID for name in token_uris},
            **{f"VAULT_CLIENT_{name.upper()}_SECRET": CLIENT_SECRET for name in token_uris},
        }
        if kek_uri is not None:
            self.environment["VAULT_KEK_URI"] = kek_uri
        maintenance = Maintenance.from_env(self.environment)
        maintenance.upgrade_schema()
        maintenance.close()

    def vault(self, **more: str) -> Vault:
        """Return a vault on this database; `more` is further environment."""
        return Vault.from_env({**self.environment, **more})

    def web_url(self) -> str:
        """Make a role with the rights of a web app; returns the database's address as that role."""
        role = f"web_{uuid.uuid4().hex[:8]}"
        with self.connect() as connection:
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'word'".encode())
        maintenance = Maintenance.from_env(self.environment)
        maintenance.grant_rights(role, "web")
        maintenance.close()
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=f"{role}:word@{parts.netloc.rpartition('@')[2]}"))

    def connect(self) -> psycopg.Connection[Any]:
        """Open an autocommit connection as the superuser."""
        return psycopg.connect(self.url, autocommit=True)

    def populate(
        self,
        count: int,
        *,
        access_bytes: int = 220,
        provider: str = PROVIDER,
        access_tokens: Sequence[str] = (),
        refresh_tokens: Sequence[str] = (),
        tenants: Sequence[str] = (DEFAULT_TENANT,),
    ) -> list[UUID]:
        """Connect `count` owners, each under a data key of its own, all due in an hour; returns the connections' ids.

        Args:
            count: how many.
            access_bytes: length of the access tokens, when they are made up.
            provider: whose grants they are.
            access_tokens: what the provider has issued; made up when it is not asked.
            refresh_tokens: what the provider has issued; made up when it is not asked.
            tenants: to whom the owners are dealt out, in turn.
        """
        settings = vault_settings.load(self.environment)
        database = Database(settings.database_url)
        keyring = Keyring(
            KekDirectory(settings.master_key_uri, (), PostgresKeys(database), monotonic),
            _RememberedKeys(database),
            monotonic=monotonic,
            random=secrets.token_bytes,
            new_id=uuid.uuid4,
        )
        rows = []
        for n in range(count):
            access = access_tokens[n] if access_tokens else secrets.token_hex(access_bytes)[:access_bytes]
            refresh = refresh_tokens[n] if refresh_tokens else f"1//{secrets.token_hex(48)}"
            whose = (tenants[n % len(tenants)], f"owner-{n}", provider)
            rows.append(_rows(keyring, whose, access, refresh))
        with self.connect() as connection, connection.transaction():
            connection.execute(
                "SET LOCAL session_replication_role = replica"
            )  # no foreign keys to be checked row by row
            for number, (table, columns) in enumerate(_TABLES.items()):
                copy = f"COPY evergrant.{table} ({', '.join(columns)}) FROM STDIN".encode()
                with connection.cursor().copy(copy) as sink:
                    for row in rows:
                        sink.write_row(row[number])
        with self.connect() as connection:
            connection.execute("VACUUM ANALYZE")
        database.dispose()
        return [row[1][0] for row in rows]


_TABLES = {
    "data_key": DataKeyRecord._fields,
    "connection": ("id", "tenant", "owner", "provider", "requested_scopes", "granted_scopes"),
    "oauth_grant": (
        *("connection_id", "tenant", "status", "version", "data_key_id", "client_id", "expires_at", "refreshed_at"),
        *("stale_at", "refresh_fp", "access_envelope", "refresh_envelope"),
    ),
    "schedule": ("connection_id", "client", "next_at", "epoch"),
}


def _rows(keyring: Keyring, whose: tuple[str, str, str], access: str, refresh: str) -> tuple[Sequence[Any], ...]:
    """What a connection consists of: its rows in `_TABLES`, sealed as the vault would seal them."""
    (tenant, owner, provider), now = whose, datetime.now(UTC)
    connection_id = uuid.uuid4()
    record = keyring.new_data_key(tenant, owner, provider)
    key = keyring.key(record)
    due = now + timedelta(hours=1)
    return (
        record,
        (connection_id, tenant, owner, provider, "read", "read"),
        (
            *(connection_id, tenant, "active", 1, record.id, CLIENT_ID, now + timedelta(hours=2), now),
            *(due, keyring.fingerprint(tenant, connection_id, refresh)),
            seal(key, access.encode(), context(tenant, connection_id, "access_token"), 1),
            seal(key, refresh.encode(), context(tenant, connection_id, "refresh_token"), 1),
        ),
        (connection_id, provider, due, 1),
    )


class _RememberedKeys(PostgresKeys):
    """Keys in PostgreSQL, which asks for each tenant's key once and not once for every owner."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._known = dict[str, TenantKeyRecord | None]()

    def current_tenant_key(self, tenant: str) -> TenantKeyRecord | None:
        self._known[tenant] = self._known.get(tenant) or super().current_tenant_key(tenant)
        return self._known[tenant]


@contextmanager
def server() -> Iterator[tuple[EmbeddedPostgres, Path]]:
    """Run a PostgreSQL server, and lend a directory beside it."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="evergrant-bench-")))
        yield stack.enter_context(EmbeddedPostgres.start(options=SERVER)), home
