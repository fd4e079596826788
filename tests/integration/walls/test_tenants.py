"""One tenant's rows are there for whoever acts for it; for whoever acts for nobody there is nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tests.integration.walls.house import as_role
from tests.integration.walls.rows import OF_THE_SYSTEM, put_in, put_in_of_the_system
from vault.store.shares import NONE, SHARES, WALLED

READ = sorted(name for name in WALLED if SHARES[name].read != NONE)
OWNED = sorted(set(READ) - set(OF_THE_SYSTEM))
CHANGED = sorted(name for name in WALLED if SHARES[name].change != NONE)
REMOVED = sorted(name for name in WALLED if SHARES[name].remove)


@pytest.fixture(scope="module")
def ids(granted: psycopg.Connection[Any]) -> dict[str, dict[str, Any]]:
    put_in_of_the_system(granted)
    return {tenant: put_in(granted, tenant) for tenant in ("a", "b", "")}


@pytest.fixture
def web(granted_url: str, roles: dict[str, str], ids: object) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(as_role(roles["web"], granted_url)) as session:
        yield session
        session.rollback()


def _act_for(session: psycopg.Connection[Any], tenant: str) -> None:
    session.execute("SELECT set_config('evergrant.tenant', %s, true)", (tenant,))


def _rows(session: psycopg.Connection[Any], table: str) -> int:
    found = session.execute(sql.SQL("SELECT count(*) FROM evergrant.{}").format(sql.Identifier(table))).fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize("table", READ)
def test_who_acts_for_nobody_sees_nothing(table: str, web: psycopg.Connection[Any]) -> None:
    """Also when a tenant has no name, and when somebody was acted for before."""
    assert _rows(web, table) == 0
    _act_for(web, "")
    assert _rows(web, table) == 0
    web.rollback()
    _act_for(web, "a")
    web.rollback()
    assert _rows(web, table) == 0
    _act_for(web, "A")
    assert _rows(web, table) == 0


@pytest.mark.parametrize("table", OWNED)
def test_who_acts_for_a_tenant_sees_its_rows_alone(
    table: str, web: psycopg.Connection[Any], granted: psycopg.Connection[Any]
) -> None:
    every = _rows(granted, table)
    seen = []
    for tenant in ("a", "b"):
        _act_for(web, tenant)
        seen.append(_rows(web, table))
    assert seen[0] == seen[1] > 0
    assert sum(seen) < every


@pytest.mark.parametrize("table", OF_THE_SYSTEM)
def test_rows_of_the_system_are_for_who_acts_for_it(table: str, web: psycopg.Connection[Any]) -> None:
    _act_for(web, "a")
    assert _rows(web, table) == 0
    _act_for(web, "*")
    assert _rows(web, table) == 1


def test_who_acts_for_the_system_sees_no_tenants(web: psycopg.Connection[Any]) -> None:
    _act_for(web, "*")
    assert web.execute("SELECT tenant FROM evergrant.connection").fetchall() == [("*",)]


@pytest.mark.parametrize("table", CHANGED)
def test_nobody_changes_rows_of_another_tenant(
    table: str, web: psycopg.Connection[Any], granted: psycopg.Connection[Any]
) -> None:
    column = granted.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND has_column_privilege(%s, attrelid, attnum,"
        " 'UPDATE') AND has_column_privilege(%s, attrelid, attnum, 'SELECT') AND attnum > 0 LIMIT 1",
        (f"evergrant.{table}", web.info.user, web.info.user),
    ).fetchone()
    assert column is not None
    each = sql.Identifier(column[0])
    change = sql.SQL("UPDATE evergrant.{} SET {} = {}").format(sql.Identifier(table), each, each)
    assert web.execute(change).rowcount == 0
    _act_for(web, "a")
    assert web.execute(change).rowcount == _rows(web, table) == 1


@pytest.mark.parametrize("table", REMOVED)
def test_nobody_removes_rows_of_another_tenant(table: str, web: psycopg.Connection[Any]) -> None:
    removal = sql.SQL("DELETE FROM evergrant.{}").format(sql.Identifier(table))
    assert web.execute(removal).rowcount == 0
    _act_for(web, "a")
    assert web.execute(removal).rowcount == 1


INSERTS = {
    "connection": "INSERT INTO evergrant.connection (id, tenant, owner, provider) VALUES (%(new)s, 'b', 'o', 'acme')",
    "a connection in another's place": "INSERT INTO evergrant.connection (id, tenant, owner, provider)"
    " VALUES (%(b)s, 'a', 'mallory', 'acme') ON CONFLICT (id) DO UPDATE SET account = 'mine'",
    "a schedule for another's connection": "INSERT INTO evergrant.schedule (connection_id, client)"
    " VALUES (%(b)s, 'acme') ON CONFLICT (connection_id) DO UPDATE SET urgent = true",
    "metadata of another's connection": "INSERT INTO evergrant.connection_metadata (connection_id, version,"
    " data_key_id, envelope) VALUES (%(b)s, 2, %(dek)s, 'm')"
    " ON CONFLICT (connection_id) DO UPDATE SET envelope = excluded.envelope",
    "data_key": "INSERT INTO evergrant.data_key (id, tenant, owner, provider, purpose, state, tenant_key_id, wrapped)"
    " VALUES (%(new)s, 'b', 'p', 'acme', 'grant', 'current', %(key)s, 'w')",
    "event": "INSERT INTO evergrant.event (id, tenant, type, fact, body) VALUES (%(new)s, 'b', 'ping', 'g', '{}')",
    "audit": "INSERT INTO evergrant.audit (tenant, event) VALUES ('b', 'x')",
    "audit, of the system": "INSERT INTO evergrant.audit (tenant, event) VALUES ('*', 'x')",
    "credential": "INSERT INTO evergrant.credential (id, tenant, owner, provider, kind, name, state, version, latest)"
    " VALUES (%(new)s, 'b', 'o', 'acme', 'api_key', '', 'active', 1, 1)",
    "a version of another's credential": "INSERT INTO evergrant.credential_version (credential_id, version, tenant,"
    " stage) VALUES (%(b)s, 2, 'b', 'pending')",
    "tenant_key": "INSERT INTO evergrant.tenant_key (id, tenant, state, kek_id, algorithm, wrapped)"
    " VALUES (%(new)s, 'b', 'previous', 'k', 'a', 'w')",
}


@pytest.mark.parametrize("what", INSERTS)
def test_nobody_puts_rows_in_for_another_tenant(
    what: str, web: psycopg.Connection[Any], ids: dict[str, dict[str, Any]]
) -> None:
    _act_for(web, "a")
    given = {"new": uuid4(), "b": ids["b"]["id"], "dek": ids["a"]["dek"], "key": ids["b"]["key"]}
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        web.execute(INSERTS[what].encode(), given)


def test_a_row_stays_its_tenants(web: psycopg.Connection[Any]) -> None:
    _act_for(web, "a")
    for table in ("connection", "oauth_grant", "credential", "credential_version"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), web.transaction():
            web.execute(sql.SQL("UPDATE evergrant.{} SET tenant = 'b'").format(sql.Identifier(table)))


def test_what_a_condition_of_ones_own_sees_is_ones_own(web: psycopg.Connection[Any]) -> None:
    """A function that tells what it is shown is asked after the policy, however cheap it says it is."""
    web.execute(
        "CREATE FUNCTION pg_temp.tell(text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"
    )
    told: list[str] = []
    web.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    _act_for(web, "a")
    assert len(web.execute("SELECT id FROM evergrant.connection WHERE pg_temp.tell(tenant)").fetchall()) == 1
    assert told == ["a"]


def test_an_auditor_and_a_worker_see_every_tenant(
    granted_url: str, granted: psycopg.Connection[Any], roles: dict[str, str], ids: object
) -> None:
    seen: dict[str, set[str]] = {part: set() for part in ("worker", "auditor")}
    for part, tables in seen.items():
        with psycopg.connect(as_role(roles[part], granted_url)) as session:
            for table in WALLED:
                try:
                    with session.transaction():
                        assert _rows(session, table) == _rows(granted, table) > 0, table
                except psycopg.errors.InsufficientPrivilege:
                    continue
                tables.add(table)
    assert seen["worker"] == set(WALLED)
    assert seen["auditor"] == {"audit", "audit_link", "audit_head", "audit_start"}


def test_keys_are_found_by_id_and_flows_by_their_state(
    web: psycopg.Connection[Any], ids: dict[str, dict[str, Any]]
) -> None:
    """What may be asked for nobody in particular: each needs something that cannot be guessed."""
    a = ids["a"]
    assert web.execute("SELECT tenant FROM evergrant.data_key_by_id(%s)", (a["dek"],)).fetchall() == [("a",)]
    assert web.execute("SELECT tenant FROM evergrant.tenant_key_by_id(%s)", (a["key"],)).fetchall() == [("a",)]
    assert web.execute("SELECT tenant FROM evergrant.data_key_by_id(%s)", (uuid4(),)).fetchall() == []
    assert web.execute("SELECT evergrant.attempt_tenant('a')").fetchone() == ("a",)
    assert web.execute("SELECT evergrant.attempt_tenant('c')").fetchone() == (None,)
