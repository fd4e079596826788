"""An application's code, as its author writes it: mypy --strict reads it, nobody runs it (``test_typing``).

Each ``type: ignore`` marks a mistake that mypy must find; an unused one is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import assert_never, assert_type
from uuid import UUID

from vault import (
    LANES,
    CannotOpen,
    Cleanup,
    ConfigurationError,
    Connection,
    ConnectRefused,
    HealthCheck,
    HealthSummary,
    Job,
    KeyUnavailable,
    Maintenance,
    Migrate,
    Migration,
    MigrationSummary,
    Need,
    ReconnectRequired,
    Refresh,
    RefreshPending,
    RefreshScan,
    Rewrap,
    RotateDataKeys,
    RotateTenantKeys,
    SchemaOutdated,
    Secret,
    Settings,
    Statistics,
    Status,
    StoreUnavailable,
    Token,
    TokenUnavailable,
    UnknownConnection,
    UnknownProvider,
    Vault,
    VaultError,
)


class Tenanted(Vault):
    """A vault of the application's own."""

    greeting = "hello"


def start(environ: Mapping[str, str]) -> Vault:
    """Make the one vault of a process."""
    assert_type(Vault.from_env(), Vault)
    assert_type(Vault.from_env(environ, tenant="acme"), Vault)
    assert_type(Tenanted.from_env(environ).for_tenant("acme"), Tenanted)
    try:
        return Vault(Settings(database_url=Secret("postgresql://db/app"), redis_url=Secret("redis://localhost")))
    except SchemaOutdated as error:
        assert_type(error.found, str | None)
        raise
    except ConfigurationError as error:
        assert_type(error.problems, tuple[str, ...])
        raise


def call(vault: Vault, connection_id: UUID) -> dict[str, str]:
    """Ask for a token and present it."""
    try:
        token = vault.get(connection_id, min_ttl=timedelta(minutes=5))
    except RefreshPending as error:
        assert_type(error.retry_after, timedelta | None)
        return {"Retry-After": str(error.retry_after)}
    except ReconnectRequired as error:
        assert_type(error.reason, str)
        assert_type(error.connection_id, str)
        raise
    except (UnknownConnection, KeyUnavailable, CannotOpen, StoreUnavailable) as error:
        assert_type(error.transient, bool)
        raise
    except VaultError as error:
        assert_type(error.retry_after, timedelta | None)
        raise
    assert_type(token, Token)
    assert_type(token.access_token, Secret)
    assert_type(token.access_token.reveal(), str)
    assert_type(token.expires_at, datetime)
    assert_type(token.ttl, timedelta)
    assert_type(token.connection_id, UUID)
    return token.headers()


def call_many(vault: Vault, ids: list[UUID | str]) -> int:
    """Ask for many tokens in one round trip."""
    served = 0
    for connection_id, answer in vault.get_many(ids).items():
        assert_type(connection_id, UUID)
        match answer:
            case Token():
                served += len(answer.headers())
            case TokenUnavailable():
                assert_type(answer.reason, str)
            case _:
                assert_never(answer)
    return served


def connect(vault: Vault) -> Connection:
    """Connect an account, and look at what there is."""
    try:
        begun = vault.begin(
            "google", owner="ann", return_to="/done", scopes=["read"], labels={"team": "blue"}, metadata={}
        )
        url, state, connection_id = begun
        assert_type(begun.url, str)
        assert_type((url, state, connection_id), tuple[str, str, UUID])
        connection = vault.complete(state=state, code="code", browser="session", issuer=None, error=None)
    except ConnectRefused as error:
        assert_type(error.reason, str)
        raise
    except UnknownProvider as error:
        assert_type(error.provider, str)
        raise
    assert_type(connection.status, Status)
    assert_type(connection.missing_scopes, tuple[str, ...])
    assert_type(connection.expires_at, datetime | None)
    assert_type(vault.connections(owner="ann", provider="google", status=Status.ACTIVE), list[Connection])
    assert_type(vault.connection(str(connection_id)), Connection)
    vault.set_metadata(connection.id, {"region": "eu"})
    assert_type(vault.metadata(str(connection.id)), dict[str, str])
    assert_type(vault.connection_health(connection.id).need, Need)
    assert_type(vault.statistics(), Statistics)
    vault.disconnect(connection.id)
    return connection


def ask(vault: Vault, connection_id: UUID) -> None:
    """Ask for work."""
    vault.enqueue(Refresh(connection_id))
    vault.enqueue(Refresh(str(connection_id)))
    vault.report_rejected(connection_id)
    vault.close()


def operate(maintenance: Maintenance) -> None:
    """Do by hand what workers do."""
    assert_type(maintenance.upgrade_schema(), str)
    assert_type(maintenance.check(), str)
    tally = maintenance.refresh_scan(timedelta(seconds=1))
    assert_type(tally.refreshed, int)
    assert_type(maintenance.refresh("id").settled, bool)
    assert_type(maintenance.overdue().late, timedelta)
    assert_type(maintenance.rewrap(), int)
    assert_type(maintenance.rotate_tenant_keys(timedelta(days=1)), int)
    assert_type(maintenance.rotate_data_keys(older_than=timedelta(days=1), progress=print), int)
    assert_type(maintenance.health_check().parts, Mapping[str, str])
    assert_type(maintenance.health_check().status, str)
    assert_type(maintenance.health_check_all("tenant", timedelta(seconds=1), anew=True), HealthSummary)
    assert_type(maintenance.statistics(), Statistics)
    assert_type(maintenance.statistics("tenant").by_kind, Mapping[str, int])
    assert_type(maintenance.fold_statistics(), int)
    assert_type(maintenance.cleanup(dry_run=True), Mapping[str, int])
    planned = Migration.planned(columns={"owner": "id", "refresh_token": "rt"}, constants={"provider": "spotify"})
    assert_type(maintenance.migrate(planned, dry_run=True, progress=print), MigrationSummary)
    assert_type(maintenance.migration("old"), Migration)
    assert_type(maintenance.migrate_slice("old"), bool)
    jobs: list[Job] = [RefreshScan(), Rewrap(), RotateDataKeys(), RotateTenantKeys(), HealthCheck(), Cleanup()]
    jobs.append(Migrate("old"))
    for job in jobs:
        assert_type(job.lane, str)
        assert job.lane in LANES
        maintenance.ring(job)


def mistakes(vault: Vault, token: Token, connection: Connection) -> None:
    """What mypy must not let pass."""
    vault.get(17)  # type: ignore[arg-type]
    vault.get(token.connection_id, 60)  # type: ignore[arg-type]  # seconds are no duration
    vault.get(token.connection_id).refresh_token  # type: ignore[attr-defined]  # noqa: B018
    vault.begin("google")  # type: ignore[call-arg]
    vault.begin("google", "ann")  # type: ignore[call-arg]
    vault.enqueue(Rewrap())  # type: ignore[arg-type]
    vault.get_many("id")[0]  # type: ignore[index]
    token.ttl = timedelta(0)  # type: ignore[misc]
    connection.owner = "bob"  # type: ignore[misc]
    _password: str = token.access_token  # type: ignore[assignment]
    _ = Secret(5)  # type: ignore[arg-type]
    _ = connection.refresh_token  # type: ignore[attr-defined]
    assert_never(connection.status)  # type: ignore[arg-type]
