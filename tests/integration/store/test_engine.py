"""What goes wrong between us and PostgreSQL, told in our words: what it is, where, and what to do; never a password."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.integration.store.rows import QUARANTINE_WAIT, Rows, quota
from vault.errors import ConfigurationError, SchemaOutdated, StoreUnavailable, VaultError
from vault.model import Status
from vault.secret import Secret
from vault.store.connections import PostgresConnections
from vault.store.engine import Database
from vault.store.keys import PostgresKeys
from vault.store.reads import PostgresTokens
from vault.store.refreshing import PostgresRefreshStore
from vault.store.schema import Schema
from vault.store.upkeep import PostgresUpkeep
from vault.testing.servers import EmbeddedPostgres

PASSWORD = "cnry-db-hunter2"
ASKS: dict[str, Callable[[Database], object]] = {
    "reading a token": lambda database: PostgresTokens(database).read(uuid4(), with_key=True),
    "claiming": lambda database: _refreshing(database).claim([quota()]),
    "settling": lambda database: _refreshing(database).candidates(uuid4(), 1),
    "connections": lambda database: PostgresConnections(database).connection("default", uuid4()),
    "keys": lambda database: PostgresKeys(database).data_key(uuid4()),
    "upkeep": lambda database: PostgresUpkeep(database).take_revocations(1, timedelta(minutes=1)),
}
asks = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)


def _refreshing(database: Database) -> PostgresRefreshStore:
    return PostgresRefreshStore(database, quarantine_wait=QUARANTINE_WAIT)


def _told(error: BaseException) -> str:
    """Everything a log could show of an error, down to its causes."""
    words = []
    cause: BaseException | None = error
    while cause is not None:
        words += [str(cause), repr(cause)]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n".join(words)


@asks
def test_a_server_that_is_not_there(tmp_path: Path, ask: Callable[[Database], object]) -> None:
    database = Database(Secret(f"postgresql://vault:{PASSWORD}@/nowhere?host={tmp_path}"))
    with pytest.raises(StoreUnavailable) as refusal:
        ask(database)
    assert refusal.value.transient
    assert str(tmp_path) in str(refusal.value)
    assert "VAULT_DATABASE_URL" in str(refusal.value)
    assert PASSWORD not in _told(refusal.value)


@asks
def test_a_database_without_our_tables_names_the_command(
    empty_database_url: str, ask: Callable[[Database], object]
) -> None:
    with pytest.raises(SchemaOutdated, match="evergrant db upgrade"):
        ask(Database(Secret(empty_database_url)))


@asks
def test_tables_of_an_older_schema_name_the_command(own_rows: Rows, ask: Callable[[Database], object]) -> None:
    for table, column in [
        ("oauth_grant", "stale_at"), ("schedule", "attempt"), ("candidate", "sent_at"), ("connection", "labels"),
        ("data_key", "purpose"), ("revocation", "attempt"),
    ]:  # fmt: skip
        own_rows.sql(f"ALTER TABLE evergrant.{table} DROP COLUMN {column} CASCADE")
    with pytest.raises(SchemaOutdated, match="evergrant db upgrade"):
        ask(own_rows.database)


@pytest.mark.parametrize(
    "url",
    [f"postgresql://u:{PASSWORD}%zz@/x", f"postgresql://u:{PASSWORD}@[::1/x", f"postgresql://u:{PASSWORD}@h/x?y=1"],
    ids=["a broken escape", "a broken address", "an unknown option"],
)
def test_an_address_that_cannot_be_read_is_a_wrong_setting_and_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="VAULT_DATABASE_URL") as refusal:
        Database(Secret(url))
    assert PASSWORD not in _told(refusal.value)


def test_another_kind_of_database_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match="VAULT_DATABASE_URL must begin with postgresql://"):
        Database(Secret("mysql://vault@host/x"))


def test_a_driver_in_the_address_is_ignored(database_url: str) -> None:
    database = Database(Secret(database_url.replace("postgresql://", "postgresql+psycopg://")))
    Schema(database).check()
    database.dispose()


# -------------------------------------------------------------------------------------------- a server of their own


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server that may be told to ask for passwords, and to go away."""
    with EmbeddedPostgres.start() as started:
        with psycopg.connect(started.url, autocommit=True) as session:
            session.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'")
            [[rules]] = session.execute("SHOW hba_file").fetchall()
            before = Path(rules).read_text()
            Path(rules).write_text(f"local all guarded scram-sha-256\n{before}")
            session.execute("SELECT pg_reload_conf()")
            while not session.execute("SELECT FROM pg_hba_file_rules WHERE 'guarded' = ANY(user_name)").rowcount:
                pass
        yield started


def test_a_wrong_password(server: EmbeddedPostgres) -> None:
    wrong = server.url.replace("vault@", f"guarded:{PASSWORD}-not@")
    with pytest.raises(StoreUnavailable, match="password authentication failed") as refusal:
        PostgresKeys(Database(Secret(wrong))).data_key(uuid4())
    assert PASSWORD not in _told(refusal.value)


def test_rights_that_are_missing_are_not_taken_for_an_outage(server: EmbeddedPostgres) -> None:
    """Trying again would not help, so this error must not call itself transient."""
    Schema(Database(Secret(server.url))).upgrade()
    guarded = server.url.replace("vault@", f"guarded:{PASSWORD}@")
    with pytest.raises(Exception, match="permission denied") as refusal:
        PostgresKeys(Database(Secret(guarded))).data_key(uuid4())
    assert not (isinstance(refusal.value, VaultError) and refusal.value.transient)


def test_a_database_that_takes_no_writes_now_is_told_as_away(database_url: str) -> None:
    """As a standby does that is to take over, and a service whose disk is full: it passes."""
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(f"ALTER DATABASE {session.info.dbname} SET default_transaction_read_only = on")
    database = Database(Secret(database_url))
    writes = "SELECT evergrant.tally_validations('{a}', '{session}', '{valid}', '{1}')"
    with pytest.raises(StoreUnavailable, match="read-only"), database.begin() as transaction:
        transaction.exec_driver_sql(writes)
    with pytest.raises(StoreUnavailable, match="read-only"):
        database.lane.run(writes.encode(), (), psycopg.Cursor.fetchone)
    database.dispose()


def test_sessions_broken_by_a_restart_are_replaced(server: EmbeddedPostgres) -> None:
    database = Database(Secret(server.url))
    Schema(database).upgrade()
    kept: dict[str, Any] = {
        "lane": PostgresTokens(database), "store": _refreshing(database), "connections": PostgresConnections(database)
    }  # fmt: skip

    def look() -> None:
        assert kept["lane"].read(uuid4(), with_key=False) is None
        assert kept["store"].claim([quota()]) == []
        assert kept["connections"].connection("default", uuid4()) is None

    look()
    server.restart()
    with pytest.raises(StoreUnavailable):
        kept["store"].claim([quota()])
    look()
    server.stop()
    with pytest.raises(StoreUnavailable):
        kept["lane"].read(uuid4(), with_key=False)
    with pytest.raises(StoreUnavailable):
        kept["store"].claim([quota()])
    server.restart()
    look()


# ------------------------------------------------------------------------------------------------------- the hot read


def test_the_hot_read_gives_what_a_token_is_made_of(rows: Rows) -> None:
    grant = rows.grant(token_type="MAC")
    rows.connections.connect(grant)
    lane = PostgresTokens(rows.database)
    found = lane.read(grant.connection_id, with_key=True)
    assert found is not None
    row, key = found
    assert (row.connection_id, row.tenant) == (grant.connection_id, "default")
    assert (row.status, row.reason) == (Status.ACTIVE, None)
    assert (row.version, row.access_envelope, row.token_type) == (1, grant.access_envelope, "MAC")
    assert row.refreshed_at < row.stale_at < row.expires_at
    assert rows.now() - row.now < timedelta(seconds=5)
    assert key == rows.key()
    again = lane.read(grant.connection_id, with_key=False)
    assert again is not None
    assert (again[0]._replace(now=row.now), again[1]) == (row, None)
    assert lane.read(uuid4(), with_key=True) is None


def test_many_are_read_at_once_and_those_that_do_not_exist_are_left_out(rows: Rows) -> None:
    ids = {rows.add() for _ in range(3)}
    lane = PostgresTokens(rows.database)
    found = lane.read_many([*ids, uuid4()], with_keys=True)
    assert {row.connection_id for row, _ in found} == ids
    assert all(key == rows.key() for _, key in found)


def test_a_session_that_died_costs_a_reader_nothing(rows: Rows) -> None:
    each, lane = rows.add(), PostgresTokens(rows.database)
    assert lane.read(each, with_key=False)
    _kill_other_sessions(rows)
    assert lane.read(each, with_key=False)


def _kill_other_sessions(rows: Rows) -> None:
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    rows.sql(f"SELECT pg_terminate_backend(pid) {others}")
    rows.until(f"SELECT WHERE NOT EXISTS (SELECT {others})")


def test_a_schema_that_goes_away_under_an_open_session_names_the_command(own_rows: Rows) -> None:
    lane = PostgresTokens(own_rows.database)
    lane.read(uuid4(), with_key=False)
    own_rows.sql("DROP SCHEMA evergrant CASCADE")
    with pytest.raises(SchemaOutdated, match="evergrant db upgrade"):
        lane.read(uuid4(), with_key=False)


def test_readers_in_many_threads_each_get_their_own_row(rows: Rows) -> None:
    ids = [rows.add() for _ in range(8)]
    lane = PostgresTokens(rows.database)
    wrong: list[object] = []

    def read(connection_id: Any) -> None:
        for _ in range(50):
            found = lane.read(connection_id, with_key=False)
            if found is None or found[0].connection_id != connection_id:
                wrong.append(connection_id)

    threads = [threading.Thread(target=read, args=(each,)) for each in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
