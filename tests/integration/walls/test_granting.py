"""Giving roles their part: again, another one, and to roles there were before there was a wall."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from alembic import command

from tests.integration.walls.house import as_role
from tests.integration.walls.rows import put_in
from vault import ConfigurationError
from vault.secret import Secret
from vault.store.engine import Database
from vault.store.rights import Rights
from vault.store.schema import Schema, _config

SEEN = "SELECT count(*) FROM evergrant.connection"


@pytest.fixture
def database(database_url: str, roles: dict[str, str]) -> Iterator[Database]:
    made = Database(Secret(database_url))
    yield made
    made.dispose()


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as session:
        yield session


def _seen(url: str, role: str, tenant: str = "a") -> int:
    with psycopg.connect(as_role(role, url)) as session:
        session.execute("SELECT set_config('evergrant.tenant', %s, true)", (tenant,))
        found = session.execute(SEEN).fetchone()
    assert found is not None
    return int(found[0])


def test_granting_again_and_as_another_part(
    database: Database, owner: psycopg.Connection[Any], database_url: str, roles: dict[str, str]
) -> None:
    put_in(owner, "a"), put_in(owner, "b")
    role, rights = roles["web"], Rights(database)
    for part, seen in (("web", 1), ("web", 1), ("worker", 2), ("web", 1)):
        rights.grant(role, part)
        assert _seen(database_url, role) == seen
    rights.grant(role, "auditor")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        _seen(database_url, role)
    policies = owner.execute("SELECT array_agg(DISTINCT policyname::text) FROM pg_policies").fetchone()
    assert policies is not None
    assert {name.partition("_")[0] for name in policies[0]} == {"auditor"}


def test_roles_of_before_go_on_until_they_are_granted_anew(
    database: Database, owner: psycopg.Connection[Any], database_url: str, roles: dict[str, str]
) -> None:
    """A worker of before that saw nothing after an upgrade would refresh nothing, and say nothing."""
    config = _config()
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0013-1")
    assert owner.execute("SELECT count(*) FROM pg_policies").fetchone() == (0,)
    put_in(owner, "a"), put_in(owner, "b")
    for role in (roles["web"], roles["worker"]):
        owner.execute(f"GRANT USAGE ON SCHEMA evergrant TO {role}".encode())
        owner.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA evergrant TO {role}".encode())
        assert _seen(database_url, role) == 2
    Schema(database).upgrade()
    for role in (roles["web"], roles["worker"]):
        assert _seen(database_url, role, "") == 2
        with psycopg.connect(as_role(role, database_url)) as session:
            session.execute("SELECT evergrant.all_tenants(), evergrant.data_key_by_id(gen_random_uuid())")
    Rights(database).grant(roles["web"], "web")
    assert _seen(database_url, roles["web"]) == 1
    assert _seen(database_url, roles["web"], "") == 0
    assert _seen(database_url, roles["worker"], "") == 2


@pytest.mark.parametrize(
    ("making", "unmaking", "problem"),
    [
        ("ALTER ROLE {web} BYPASSRLS", "ALTER ROLE {web} NOBYPASSRLS", "has BYPASSRLS"),
        ("GRANT {worker} TO {web}", "REVOKE {worker} FROM {web}", "may act as 'worker_.*REVOKE its membership"),
        ("GRANT pg_read_all_data TO {web}", "REVOKE pg_read_all_data FROM {web}", r"may read .* by another role's"),
        ("GRANT SELECT ON evergrant.oauth_grant TO PUBLIC", "SELECT 1", r"may read oauth_grant\.refresh_envelope"),
    ],
)
def test_a_role_that_would_see_more_is_refused(
    making: str, unmaking: str, problem: str, database: Database, owner: psycopg.Connection[Any], roles: dict[str, str]
) -> None:
    Rights(database).grant(roles["worker"], "worker")
    owner.execute(making.format(**roles).encode())
    try:
        with pytest.raises(ConfigurationError, match=problem):
            Rights(database).grant(roles["web"], "web")
        held = "SELECT count(*) FROM pg_policies WHERE roles = ARRAY[%s]::name[]"
        assert owner.execute(held, (roles["web"],)).fetchone() == (0,)
    finally:
        owner.execute(unmaking.format(**roles).encode())
