"""For whom a connection acts: told once while it stays the same, and nobody's after a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from vault.errors import ConfigurationError, StoreUnavailable
from vault.secret import Secret
from vault.store import lane
from vault.store.engine import Database
from vault.store.pinned import PinnedConnection

WHO = f"SELECT current_setting('{lane.SETTING}', true)"


@pytest.fixture(params=[True, False], ids=["sessions of our own", "behind PgBouncer"])
def database(request: pytest.FixtureRequest, database_url: str) -> Iterator[Database]:
    made = Database(Secret(database_url), prepared=request.param)
    yield made
    made.dispose()


def _who(database: Database) -> str:
    return str(database.lane.run(WHO.encode(), (), psycopg.Cursor.fetchone)[0] or "")


def test_a_lane_acts_for_its_tenant_on_connections_that_all_share(database: Database) -> None:
    a, b = database.of("a"), database.of("b' \\ \" ü")
    assert [_who(each) for each in (a, a, b, database, a, b)] == ["a", "a", "b' \\ \" ü", "", "a", "b' \\ \" ü"]
    assert len(database.lane._pool.idle) == 1


def test_many_threads_each_act_for_their_own(database: Database) -> None:
    def ask(number: int) -> bool:
        mine = database.of(f"tenant {number % 3}")
        return all(_who(mine) == f"tenant {number % 3}" for _ in range(30))

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(ask, range(12)))


def test_a_tenant_is_told_when_it_changes_and_else_not(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    execute, told = psycopg.Connection.execute, list[Any]()

    def noting(self: Any, query: Any, given: Any = None, **options: Any) -> Any:
        told.append(given)
        return execute(self, query, given, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", noting)
    lasting = database._prepare_threshold is not None
    for tenant in ("a", "a", "a", "b", "b"):
        assert _who(database.of(tenant)) == tenant
    assert [given[0] for given in told] == (["a", "b"] if lasting else ["a", "a", "a", "b", "b"])
    assert {given[1] for given in told} == {not lasting}


def test_nothing_stays_in_a_session_that_may_be_lent_to_others(database_url: str) -> None:
    database = Database(Secret(database_url), prepared=False)
    assert _who(database.of("a")) == "a"
    [kept] = database.lane._pool.idle
    row = kept.connection.execute(WHO).fetchone()
    assert row is not None
    assert not row[0]
    database.dispose()


def test_a_session_that_died_is_replaced_by_one_that_acts_for_the_same(database: Database) -> None:
    mine = database.of("a")
    assert _who(mine) == "a"
    with psycopg.connect(database._dsn, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                      " AND datname = current_database()")  # fmt: skip
    assert _who(mine) == "a"


def _in_transaction(database: Database, tenant: str, statement: str) -> None:
    with database.of(tenant).begin() as transaction:
        assert transaction.exec_driver_sql(WHO).scalar() == tenant
        transaction.exec_driver_sql(statement)


def test_a_transaction_acts_until_it_ends_however_it_ends(database: Database) -> None:
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            _in_transaction(database, "a", "SELECT pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(sa.exc.DataError):
            _in_transaction(database, "b", "SELECT 1/0")
        with database.of("c").begin() as transaction:
            assert transaction.exec_driver_sql(WHO).scalar() == "c"
        with database.begin() as transaction:
            assert not transaction.exec_driver_sql(WHO).scalar()


def test_a_pinned_connection_acts_for_a_tenant_in_a_transaction(database: Database) -> None:
    pinned = PinnedConnection(database)
    for tenant in ("a", None, "b", None):
        with pinned.session(tenant) as connection:
            row = connection.execute(WHO).fetchone()
        assert row is not None
        assert (row[0] or None) == tenant
    pinned.close()


@pytest.mark.parametrize("tenant", ["a'; SELECT 1; --", "\\", "tenant.of 'ours'", "ä" * 500, "E'\\x00'"])
def test_a_tenants_name_is_a_name_whatever_is_in_it(tenant: str, database: Database) -> None:
    with database.of(tenant).begin() as transaction:
        assert transaction.exec_driver_sql(WHO).scalar() == tenant
    assert _who(database.of(tenant)) == tenant


def test_a_name_that_would_be_cut_short_is_refused(database: Database) -> None:
    with pytest.raises(ConfigurationError, match="NUL"), database.of("a\0b").begin():
        pass
    with pytest.raises(psycopg.DataError):
        _who(database.of("a\0b"))


def test_who_has_one_tenants_database_cannot_make_anothers_of_it(database: Database) -> None:
    mine = database.of("a")
    assert mine.of("b") is mine
    assert _who(mine.of("b")) == "a"
