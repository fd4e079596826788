"""The schema: built by migrations alone, from several places at once, and the same as the tables in the code."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.integration import victims
from tests.integration.house import NOBODY_HERE
from tests.integration.waiting import until
from vault.errors import SchemaOutdated, StoreUnavailable
from vault.secret import Secret
from vault.store.engine import Database
from vault.store.schema import UPGRADE_LOCK, Schema, needed_revision
from vault.store.tables import SCHEMA, metadata

BEFORE = """
DROP INDEX evergrant.connection_by_part;
ALTER TABLE evergrant.connection DROP part_of, DROP grant_name;
ALTER TABLE evergrant.revocation DROP access_envelope;
UPDATE evergrant.schema_revision SET version_num = '0013'
"""
"""As revision 0013 left it."""


def test_upgrading_twice_is_upgrading_once(empty_database_url: str) -> None:
    schema = Schema(Database(Secret(empty_database_url)))
    assert schema.found_revision() is None
    with pytest.raises(SchemaOutdated, match=r"has no Evergrant tables.*evergrant db upgrade"):
        schema.check()
    assert schema.upgrade() == schema.upgrade() == schema.found_revision() == needed_revision()
    schema.check()


def test_whoever_owns_nothing_but_the_schema_upgrades_it(empty_database_url: str) -> None:
    """A role that an administrator has made it for: not a superuser, and without the right to create schemas."""
    role = f"owner_{uuid4().hex[:8]}"
    parts = urlsplit(empty_database_url)
    url = urlunsplit(parts._replace(netloc=f"{role}:word@{parts.netloc.rpartition('@')[2]}"))
    with psycopg.connect(empty_database_url, autocommit=True) as session:
        session.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'word'")
        session.execute(f"CREATE SCHEMA {SCHEMA} AUTHORIZATION {role}")
        database = Database(Secret(url))
        try:
            assert Schema(database).upgrade() == needed_revision()
        finally:
            database.dispose()
            session.execute(f"DROP OWNED BY {role} CASCADE")
            session.execute(f"DROP ROLE {role}")


def test_a_table_in_use_is_waited_for_briefly_and_often(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else everybody who wants the table would queue behind us for as long as somebody has it open."""
    monkeypatch.setattr("vault.store.schema.PATIENCE", "200ms")
    schema = Schema(Database(Secret(database_url)))
    with psycopg.connect(database_url) as reader, ThreadPoolExecutor(1) as aside:
        with psycopg.connect(database_url) as session:
            session.execute(BEFORE)
        reader.execute("SELECT count(*) FROM evergrant.connection")
        upgrading = aside.submit(schema.upgrade)
        with psycopg.connect(database_url, autocommit=True, options="-c statement_timeout=5000") as other:
            for _ in range(20):
                other.execute("SELECT count(*) FROM evergrant.connection")
                time.sleep(0.05)
        assert not upgrading.done()
        reader.rollback()
        assert upgrading.result(30) == needed_revision()
        with psycopg.connect(database_url) as session:
            session.execute("UPDATE evergrant.schema_revision SET version_num = '0013'")
        reader.execute("SELECT count(*) FROM evergrant.connection")
        monkeypatch.setattr("vault.store.schema.PAUSE_S", 0.01)
        with pytest.raises(StoreUnavailable, match="in use at each of 5 tries"):
            schema.upgrade()


def test_an_older_revision_is_told_with_what_is_needed(database_url: str) -> None:
    with psycopg.connect(database_url) as session:
        session.execute("UPDATE evergrant.schema_revision SET version_num = '0000'")
    with pytest.raises(SchemaOutdated, match=f"is at revision 0000, this version needs {needed_revision()}"):
        Schema(Database(Secret(database_url))).check()


def test_several_processes_may_upgrade_at_once(empty_database_url: str, tmp_path: Path) -> None:
    environment = {
        "VAULT_DATABASE_URL": empty_database_url,
        "VAULT_REDIS_URL": NOBODY_HERE,
        "VAULT_HOME": str(tmp_path),
    }
    with psycopg.connect(empty_database_url, autocommit=True) as session:
        session.execute("SELECT pg_advisory_lock(%s)", (UPGRADE_LOCK,))  # they all come to stand at the same door
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        with ThreadPoolExecutor(1) as thread:
            upgrading = thread.submit(victims.exit_codes, 3, victims.upgrade, environment)
            until(lambda: session.execute(waiting).fetchone() == (3,))
            session.execute("SELECT pg_advisory_unlock_all()")
            assert upgrading.result() == [0, 0, 0]
        assert session.execute("SELECT count(*) FROM evergrant.schema_revision").fetchone() == (1,)


def test_the_tables_in_the_code_are_the_tables_that_migrations_make(database_url: str) -> None:
    database = Database(Secret(database_url))
    with database.begin() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
                "version_table": "schema_revision",
                "version_table_schema": SCHEMA,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, metadata) == []
    database.dispose()


def test_the_comparison_notices_what_the_code_has_and_the_database_has_not(database_url: str) -> None:
    with psycopg.connect(database_url) as session:
        session.execute("ALTER TABLE evergrant.schedule DROP COLUMN failures")
        session.execute("DROP INDEX evergrant.revocation_due")
    with pytest.raises(AssertionError):
        test_the_tables_in_the_code_are_the_tables_that_migrations_make(database_url)


def test_sealed_values_stay_in_the_row_uncompressed_with_room_for_the_next(database_url: str) -> None:
    """What autogenerate does not compare."""
    with psycopg.connect(database_url) as session:
        storage = session.execute(
            "SELECT c.relname, a.attname, a.attstorage FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " WHERE c.relname IN ('oauth_grant', 'candidate') AND a.attname LIKE '%\\_envelope' AND c.relkind = 'r'"
        ).fetchall()
        options = session.execute(
            "SELECT relname, reloptions FROM pg_class WHERE relname IN ('oauth_grant', 'schedule') ORDER BY 1"
        ).fetchall()
    assert {kept for _, _, kept in storage} == {"e"}
    assert len(storage) == 4
    assert options == [("oauth_grant", ["fillfactor=65", "toast_tuple_target=8160"]), ("schedule", ["fillfactor=70"])]
