"""A whole Evergrant in this process: real PostgreSQL, the simulated provider over HTTP, and time that can pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

from tests.simulator import Oracle, Steering
from tests.simulator.client import consent
from vault import Maintenance, Vault

NOBODY_HERE = "redis://127.0.0.1:1/0"
DEADLINE_S = 3.0
"""For one request; short, since some tests wait for it, and long enough for a busy machine."""
SECOND = timedelta(seconds=1)
INSTANTS = {
    "schedule": ("next_at", "lease_until", "intent_at"),
    "oauth_grant": ("expires_at", "refreshed_at", "stale_at", "grant_ends_at"),
    "candidate": ("sent_at", "expires_at", "next_at", "kept_at", "grant_ends_at"),
    "revocation": ("next_at", "created_at"),
    "grant_end": ("ends_at", "look_at"),
}
ROTATIONS = {
    "strict": "strict",
    "grace": "grace",
    "idempotent": "idempotent",
    "until_successor_used": "previous_until_successor_used",
    "none": "non_rotating",
}
"""Our names for what happens to a spent refresh token, and the simulator's."""
WINDOW_S = 60.0


class House:
    """One database, one provider called ``acme``, and whatever a test makes of them."""

    def __init__(
        self,
        database_url: str,
        simulator: Steering,
        home: Path,
        *,
        rotation: str = "strict",
        redis_url: str = NOBODY_HERE,
        life_s: float = 3600,
        **environment: str,
    ) -> None:
        self.simulator, self.home, self.database_url = simulator, home, database_url
        self.far_side = f"provider-{uuid4().hex[:8]}"
        """What the simulator calls our provider: each house has one to itself."""
        profile = {"mode": ROTATIONS[rotation], "access_token_life": life_s, "replay_window": WINDOW_S}
        simulator.configure(self.far_side, rotation=profile)
        registry = home / "providers.toml"
        window = f"replay_window_s = {WINDOW_S}\n" if rotation == "grace" else ""
        registry.write_text(
            f'[acme]\nauthorize_uri = "{simulator.uri(self.far_side, "authorize")}"\n'
            f'token_uri = "{simulator.uri(self.far_side, "token")}"\n'
            f'revoke_uri = "{simulator.uri(self.far_side, "revoke")}"\nrotation = "{rotation}"\n{window}'
            'grants.also = { root = "also", scope_parameter = "also_scope" }\n'
        )
        self.environment = {
            "VAULT_DATABASE_URL": database_url,
            "VAULT_REDIS_URL": redis_url,
            "VAULT_HOME": str(home),
            "VAULT_PROVIDERS": str(registry),
            "VAULT_INSECURE_HOSTS": "127.0.0.1",
            "VAULT_CLIENT_ACME_ID": "evergrant",
            "VAULT_CLIENT_ACME_SECRET": "cnry-cs-simulator",
            "VAULT_REDIRECT_URI": "http://127.0.0.1:9/callback",
            "VAULT_REQUEST_DEADLINE_S": str(DEADLINE_S),
            **environment,
        }
        self.oracle: Oracle = simulator.oracle()
        self._opened: list[Vault | Maintenance] = []
        self._session: psycopg.Connection[dict[str, Any]] | None = None
        self._accounts: dict[UUID, str] = {}

    @cached_property
    def vault(self) -> Vault:
        return self.another_vault()

    def another_vault(self, **overrides: Any) -> Vault:
        vault = Vault.from_env(self.environment, **overrides)
        self._opened.append(vault)
        return vault

    @cached_property
    def worker(self) -> Maintenance:
        return self.another_worker()

    def another_worker(self, **overrides: Any) -> Maintenance:
        """As after a restart: with a gate that knows of no failures."""
        worker = Maintenance.from_env(self.environment, **overrides)
        self._opened.append(worker)
        return worker

    def close(self) -> None:
        for each in self._opened:
            each.close()
        self._close_session()

    def connect(self, owner: str = "olga", **arguments: Any) -> UUID:
        """Send an owner through the whole flow; they always agree."""
        start = self.vault.begin("acme", owner=owner, browser="their session", **arguments)
        answer = consent(start.url)
        issuer = answer.get("iss")
        made = self.vault.complete(state=answer["state"], code=answer["code"], browser="their session", issuer=issuer)
        self._accounts[made.id] = f"account-{len(self._accounts) + 1}"
        return made.id

    def connect_many(self, count: int) -> list[UUID]:
        return [self.connect(f"owner {number}") for number in range(count)]

    def account(self, connection_id: UUID) -> str:
        """What the provider calls the owner of a connection made here."""
        return self._accounts[connection_id]

    # -------------------------------------------------------------------------------------------------- the far side

    def fault(self, kind: str, connection_id: UUID | None = None, **members: Any) -> None:
        """Have a refresh go wrong, once unless it is said otherwise."""
        account = None if connection_id is None else self.account(connection_id)
        rule = {"account": account, "grant_type": "refresh_token", "next": 1, **members}
        self.simulator.add_fault(self.far_side, kind, **rule)

    def presented(self, connection_id: UUID) -> list[int]:
        """How often each refresh token of a connection has arrived at the provider, in the order of their making."""
        tokens = self.oracle.lineage(self.account(connection_id), self.far_side)
        return [self.oracle.times_presented(token) for token in tokens]

    def arrivals(self, connection_id: UUID) -> int:
        """How many refreshes of a connection have arrived at the provider."""
        return sum(self.presented(connection_id))

    def newest_answer(self, connection_id: UUID) -> str:
        """The access token of the last answer that the provider gave and did not lose."""
        found = self.oracle.answers(self.account(connection_id))
        return [a.access_token for a in found if a.origin.provider == self.far_side and not a.lost_because][-1]

    def alive(self, connection_id: UUID) -> bool:
        """Whether the provider would accept any refresh token of a connection."""
        return self.oracle.alive(self.account(connection_id), self.far_side)

    # -------------------------------------------------------------------------------------------------- the database

    def sql(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[dict[str, Any]]:
        """Run a statement, on a new session when the server has been away meanwhile."""
        for _ in range(2):
            if self._session is None:
                self._session = psycopg.connect(self.database_url, autocommit=True, row_factory=dict_row)
            try:
                cursor = self._session.execute(statement.encode(), parameters)
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                self._close_session()
        raise AssertionError("the database is away")

    def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def finds(self, statement: str) -> bool:
        """Whether a query finds any row."""
        return bool(self.sql(f"SELECT 1 AS one FROM ({statement}) AS found LIMIT 1"))

    def row(self, connection_id: UUID) -> dict[str, Any]:
        """Everything about a connection: its grant, its schedule, and ``wait``, the time until its next try."""
        [found] = self.sql(
            "SELECT *, s.next_at - clock_timestamp() AS wait FROM evergrant.oauth_grant g"
            " JOIN evergrant.schedule s USING (connection_id) WHERE connection_id = %s",
            (connection_id,),
        )
        return found

    def state(self, connection_id: UUID) -> tuple[str, str | None]:
        row = self.row(connection_id)
        return row["status"], row["reason"]

    def audit(self, connection_id: UUID) -> list[dict[str, Any]]:
        """A connection's audit rows after the one of its making, oldest first."""
        told = "SELECT * FROM evergrant.audit WHERE connection_id = %s ORDER BY id"
        return self.sql(told, (connection_id,))[1:]

    def events(self, connection_id: UUID) -> list[str]:
        return [row["event"] for row in self.audit(connection_id)]

    def pass_time(self, by: timedelta, *connection_ids: UUID) -> None:
        """Let time pass in the database, for some connections or for all; for all it passes at the provider too.

        Nobody changes anything then, so no trigger fires.
        """
        self.sql("SET session_replication_role = replica")
        for table, columns in INSTANTS.items():
            past = ", ".join(f"{column} = {column} - %(by)s" for column in columns)
            only = "WHERE connection_id = ANY(%(only)s)" if connection_ids else ""
            self.sql(f"UPDATE evergrant.{table} SET {past} {only}", {"by": by, "only": [*connection_ids]})
        self.sql("SET session_replication_role = origin")
        if not connection_ids:
            self.simulator.advance(by.total_seconds())

    def make_due(self, *connection_ids: UUID) -> None:
        """Let each connection's time pass until it is due."""
        for connection_id in connection_ids:
            wait: timedelta = self.row(connection_id)["wait"]
            if wait > timedelta(0):
                self.pass_time(wait, connection_id)

    def expire_leases(self) -> None:
        """Let every lease run out, as it would after a crash."""
        self.sql("UPDATE evergrant.schedule SET lease_until = now() WHERE lease_until > now()")
