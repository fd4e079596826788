"""Every table has a decision on who may do what with it, and the database holds it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.integration.walls.house import WalledHouse
from vault.store.shares import NONE, SHARES, WALLED, named
from vault.store.tables import SCHEMA, metadata

TABLES = {table.name: tuple(table.columns.keys()) for table in metadata.tables.values()}
WITHOUT = {"audit_cursor", "policy_state", "open_audit", "worker_sign", "migration_run"}
"""Tables that have no rows of tenants."""


def test_no_table_is_without_a_decision() -> None:
    """Whoever adds a table says in ``SHARES`` what a web app may do with it, and enables row-level security on it."""
    assert set(SHARES) == set(TABLES)
    assert set(TABLES) - set(WALLED) == WITHOUT
    for table, share in SHARES.items():
        for columns in (share.read, share.add, share.change):
            assert set(columns) - {"*", "-"} <= set(TABLES[table])


def test_a_table_that_knows_its_tenant_is_behind_the_wall() -> None:
    for table, columns in TABLES.items():
        if {"tenant", "connection_id", "endpoint_id"} & set(columns):
            assert table in WALLED


def test_row_level_security_is_on_where_the_decision_says_so(walled: WalledHouse) -> None:
    found = walled.sql(
        "SELECT relname, relrowsecurity FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'",
        (SCHEMA,),
    )
    behind = {row["relname"] for row in found if row["relrowsecurity"]}
    assert behind == set(WALLED)
    assert {row["relname"] for row in found} - {"schema_revision"} == set(TABLES)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_a_web_app_has_the_rights_of_the_decision_and_no_others(
    table: str, roles: dict[str, str], granted: psycopg.Connection[Any]
) -> None:
    share, columns = SHARES[table], TABLES[table]
    for right, wanted in (("SELECT", share.read), ("INSERT", share.add), ("UPDATE", share.change)):
        found = granted.execute(
            "SELECT array_agg(n) FILTER (WHERE has_column_privilege(%s, %s, n, %s)) FROM unnest(%s::text[]) n",
            (roles["web"], f"{SCHEMA}.{table}", right, list(columns)),
        ).fetchone()
        assert found is not None
        assert set(found[0] or []) == set(named(wanted, columns)), right
    others = [
        name for name in ("DELETE", "TRUNCATE", "REFERENCES", "TRIGGER") if (name, share.remove) != ("DELETE", True)
    ]
    for right in others:
        asked = "SELECT has_table_privilege(%s, %s, %s)"
        assert granted.execute(asked, (roles["web"], f"{SCHEMA}.{table}", right)).fetchone() == (False,)
    policies = granted.execute(
        "SELECT count(*) FROM pg_policies WHERE schemaname = %s AND tablename = %s AND roles = ARRAY[%s]::name[]",
        (SCHEMA, table, roles["web"]),
    ).fetchone()
    assert policies == (int(share.rows is not None and share[1:] != (NONE, NONE, NONE, False)),)


def test_a_web_app_may_call_what_is_meant_for_it_and_nothing_else(
    roles: dict[str, str], granted: psycopg.Connection[Any]
) -> None:
    found = granted.execute(
        "SELECT p.oid::regprocedure::text, p.prosecdef, p.proconfig FROM pg_proc p"
        " WHERE p.pronamespace = %s::regnamespace AND has_function_privilege(%s, p.oid, 'EXECUTE')",
        (SCHEMA, roles["web"]),
    ).fetchall()
    of_the_owner = {name.removeprefix("evergrant.") for name, definer, _ in found if definer}
    assert of_the_owner == {
        "revoke_later(uuid)",
        "data_key_by_id(uuid)",
        "tenant_key_by_id(uuid)",
        "attempt_tenant(bytea)",
        "refresh_work(interval)",
        "tally_validations(text[],text[],text[],bigint[])",
    }
    assert all(settings == ["search_path=pg_catalog, pg_temp"] for _, definer, settings in found if definer)
    by_himself = {name.removeprefix("evergrant.").partition("(")[0] for name, definer, _ in found if not definer}
    assert by_himself == {"audit_refuse", "audit_digest", "audit_chained", "audit_place"}


def test_no_function_of_the_owner_is_everybodys(granted: psycopg.Connection[Any]) -> None:
    found = granted.execute(
        "SELECT p.oid::regprocedure FROM pg_proc p"
        " CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a"
        " WHERE p.pronamespace = 'evergrant'::regnamespace AND p.prosecdef AND a.grantee = 0"
    ).fetchall()
    assert found == []
