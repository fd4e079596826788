"""Counters that are exact at any instant, whoever writes, adds up, comes to grief or goes round them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from alembic import command

from tests.integration import victims
from tests.integration.house import House
from tests.integration.store.rows import Rows, quota, verdict
from tests.integration.waiting import until
from vault import Maintenance, Migration, Status, Vault
from vault.secret import Secret
from vault.store.engine import Database
from vault.store.schema import Schema, _config
from vault.store.tables import SCHEMA
from vault.testing._binaries import find_postgres

SUM = """
  SELECT tenant, what, provider, kind, state, sum(amount)::int AS number
    FROM (SELECT * FROM evergrant.tally WHERE tenant <> '*' UNION ALL SELECT * FROM evergrant.tally_change) t
   GROUP BY 1, 2, 3, 4, 5 HAVING sum(amount) <> 0"""
COUNT = """
  SELECT g.tenant, 'connection' AS what, c.provider, 'oauth' AS kind, g.status AS state, count(*)::int AS number
    FROM evergrant.oauth_grant g JOIN evergrant.connection c ON c.id = g.connection_id GROUP BY 1, 2, 3, 4, 5
   UNION ALL
  SELECT tenant, 'credential', provider, kind, state, count(*)::int FROM evergrant.credential GROUP BY 1, 2, 3, 4, 5"""
WRONG = f"(({SUM}) EXCEPT ALL ({COUNT})) UNION ALL (({COUNT}) EXCEPT ALL ({SUM}))"
"""One statement, so that both are of one instant."""


@pytest.fixture
def rows(house: House) -> Iterator[Rows]:
    """The same database, by the store's own door."""
    made = Rows(house.database_url)
    yield made
    made.close()


def assert_exact(house: House) -> None:
    assert house.sql(WRONG) == []


def changes(house: House) -> int:
    [row] = house.sql("SELECT count(*) AS number FROM evergrant.tally_change")
    return int(row["number"])


# ------------------------------------------------------------------------------------------------------ what is counted


def test_connections_and_credentials_are_counted_by_what_they_are(house: House, rows: Rows) -> None:
    first, _ = house.connect_many(2)
    rows.add("globex", tenant="other")
    key = house.vault.store_api_key("k", provider="acme", owner="ann")
    house.vault.store_basic_auth("ann", "word", provider="bank")
    house.vault.disconnect(first)
    house.vault.delete_credentials(key)
    found = house.worker.statistics()
    assert (found.tenant, found.connections, found.credentials) == (None, 2, 2)
    assert found.by_status == {"active": 2, "disconnected": 1}
    assert found.by_state == {"active": 2, "deleted": 1}
    assert found.connections_by_provider == {"acme": 1, "globex": 1}
    assert found.credentials_by_provider == {"bank": 2}
    assert found.by_kind == {"oauth": 2, "basic_auth_password": 1, "basic_auth_username": 1}
    ours = house.vault.statistics()
    assert (ours.tenant, ours.connections, ours.credentials) == ("default", 1, 2)
    assert house.worker.statistics("other").by_status == {"active": 1}
    assert house.worker.statistics("nobody").connections == 0


def test_figures_are_the_same_before_and_after_they_were_added_up(house: House, rows: Rows) -> None:
    for tenant in ("a", "b"):
        for _ in range(3):
            rows.add("acme", tenant=tenant)
    before = [house.worker.statistics(tenant)[2:9] for tenant in (None, "a", "b")]
    assert house.worker.fold_statistics() == 6
    assert changes(house) == 0
    assert [house.worker.statistics(tenant)[2:9] for tenant in (None, "a", "b")] == before
    assert house.worker.fold_statistics() == 0
    rows.add("acme", tenant="a")
    assert house.worker.fold_statistics() == 1
    assert [house.worker.statistics(tenant).connections for tenant in (None, "a", "b")] == [7, 4, 3]
    assert house.worker.recount_statistics() == []


def test_credentials_that_end_are_counted_by_when(house: House) -> None:
    for days in (-1, 1, 6, 8, 29, 31):
        house.vault.store_secret("v", provider="acme", name=f"in {days}")
        house.sql(
            "UPDATE evergrant.credential SET expires_at = now() + %s WHERE name = %s",
            (timedelta(days=days), f"in {days}"),
        )
    house.vault.store_secret("v", provider="acme", name="never")
    house.sql("UPDATE evergrant.credential SET rotate_at = now() - interval '1 h' WHERE name IN ('never', 'in 1')")
    for found in (house.worker.statistics(), house.vault.statistics()):
        assert found.ends == (1, 2, 4, 2)
    assert house.worker.statistics("other").ends == (0, 0, 0, 0)


def test_refresh_work_is_counted(house: House, rows: Rows) -> None:
    in_hand, dropped, failing, late, later = (rows.add("acme", due=timedelta(seconds=-s)) for s in (1, 1, 1, 100, -60))
    rows.add("unheard-of", tenant="other", due=timedelta(seconds=-90), urgent=True)
    rows.claim(in_hand)
    rows.claim(dropped)
    house.sql("UPDATE evergrant.schedule SET lease_until = now() WHERE connection_id = %s", [dropped])
    rows.refreshing.settle([], [verdict(rows.claim(failing))])
    assert late != later
    assert house.worker.statistics().refreshes == (4, 2, 1, 1)
    assert house.worker.statistics("default").refreshes == (3, 1, 1, 1)
    assert house.worker.statistics("other").refreshes == (1, 1, 0, 0)


def test_events_that_wait_are_counted(house: House) -> None:
    house.worker.events.add_endpoint("default", "http://127.0.0.1:9/")
    house.vault.disconnect(house.connect())
    assert house.worker.statistics().work == (0, 0, 0, 1)
    house.worker.deliver(timedelta(seconds=0.1))
    assert house.worker.statistics().work == house.vault.statistics().work == (0, 0, 1, 0)
    assert house.worker.statistics("other").work == (0, 0, 0, 0)


def test_rotations_under_way_are_counted(house: House) -> None:
    house.vault.rotate(house.vault.store_webhook_secret(provider="acme"))
    change = "UPDATE evergrant.credential_rotation SET attempt = 1, lease_until = now() + %s"
    house.sql(change, [timedelta(minutes=1)])
    assert house.worker.statistics().work[:2] == house.vault.statistics().work[:2] == (1, 0), "its first try"
    house.sql(change, [timedelta(minutes=-1)])
    assert house.worker.statistics().work[:2] == house.vault.statistics().work[:2] == (1, 1)
    assert house.worker.statistics("other").work[:2] == (0, 0)


def test_the_key_cache_is_that_of_this_process(house: House) -> None:
    connection_id = house.connect()
    before = house.vault.statistics().cache
    for _ in range(3):
        house.vault.get(connection_id)
    after = house.vault.statistics().cache
    assert after.hits - before.hits == 3
    assert (after.misses, after.size) == (before.misses, before.size)
    assert after.size >= 1


# --------------------------------------------------------------------------------------------- whatever happens to rows


def test_what_is_rolled_back_is_not_counted(house: House, rows: Rows) -> None:
    rows.add()
    with rows.another_session() as session:
        session.execute("DELETE FROM evergrant.oauth_grant")
        session.execute("SAVEPOINT s")
        session.execute("DELETE FROM evergrant.connection")
        session.execute("ROLLBACK TO SAVEPOINT s")
        session.rollback()
    assert_exact(house)
    assert house.worker.statistics().connections == 1


CHANGES = [
    "UPDATE evergrant.oauth_grant SET status = 'in_doubt'",
    "UPDATE evergrant.oauth_grant SET tenant = 'moved'",
    "UPDATE evergrant.connection SET provider = 'renamed'",
    "UPDATE evergrant.credential SET kind = 'custom_secret', provider = 'renamed', tenant = 'moved'",
    "DELETE FROM evergrant.connection WHERE provider = 'globex'",
    "DELETE FROM evergrant.schedule; DELETE FROM evergrant.oauth_grant",
    "DELETE FROM evergrant.credential",
    "TRUNCATE evergrant.connection CASCADE",
    "TRUNCATE evergrant.credential CASCADE",
    "INSERT INTO evergrant.credential (id, tenant, owner, provider, kind, name, state, version, latest)"
    " SELECT gen_random_uuid(), 't' || mod(n, 3), 'o', 'p', 'api_key', '', 'active', 1, 1"
    " FROM generate_series(1, 100) n",
]


@pytest.mark.parametrize("fold", [False, True], ids=["fresh", "added up"])
def test_counters_follow_rows_that_are_changed_by_hand(house: House, rows: Rows, *, fold: bool) -> None:
    for change in CHANGES:
        rows.add("acme", tenant="one")
        rows.add("globex", tenant="other")
        house.vault.store_secret("v", provider="acme")
        if fold:
            house.worker.fold_statistics()
        with psycopg.connect(house.database_url) as session:
            session.execute(change)
        assert_exact(house)


def test_a_statement_of_many_rows_leaves_one_difference_for_each_sort(house: House) -> None:
    house.sql(CHANGES[-1])
    assert [row["amount"] for row in house.sql("SELECT amount FROM evergrant.tally_change ORDER BY tenant")] == [
        33,
        34,
        33,
    ]


def test_a_refresh_leaves_none(house: House) -> None:
    connection_id = house.connect()
    house.worker.fold_statistics()
    house.make_due(connection_id)
    assert house.worker.refresh_scan().refreshed == 1
    assert changes(house) == 0


# ----------------------------------------------------------------------------------------------------- many at one time

ACTS = 60
WRITERS = 4


class Writer:
    """Does whatever may be done to connections and credentials, in a random order."""

    def __init__(self, house: House, rows: Rows, seed: int) -> None:
        self.house, self.rows, self.random = house, rows, random.Random(seed)
        self.vault, self.store = house.another_vault(), rows.another_store()
        self.connections: list[UUID] = []
        self.credentials: list[UUID] = []
        self.tenant = f"tenant-{seed % 2}"
        self.owner = f"owner {seed}"

    def run(self) -> None:
        for _ in range(ACTS):
            self.random.choice(self.acts())()

    def acts(self) -> Sequence[Callable[[], object]]:
        return (
            self.connect, self.connect, self.turn, self.turn, self.disconnect, self.keep, self.keep, self.delete,
            self.destroy, self.undelete, self.shred,
        )  # fmt: skip

    def connect(self) -> None:
        client = self.random.choice(["acme", "globex"])
        key = self.rows.key(self.tenant, self.owner, client)
        self.connections.append(
            self.rows.add(client, due=None, tenant=self.tenant, owner=self.owner, data_key_id=key.id)
        )

    def turn(self) -> None:
        if self.connections:
            which = self.random.choice(self.connections)
            status = self.random.choice([Status.IN_DOUBT, Status.ACTIVE, Status.QUARANTINED])
            quotas = [quota(client) for client in ("acme", "globex")]
            claim = self.store.claim_one(which, quotas)
            if claim is not None:
                self.store.settle([], [verdict(claim, status=status, reason=status.value, wait=timedelta(0))])

    def disconnect(self) -> None:
        if self.connections:
            self.rows.connections.disconnect(self.tenant, self.random.choice(self.connections))

    def keep(self) -> None:
        provider = self.random.choice(["acme", "bank"])
        self.credentials.append(self.vault.store_secret("v", provider=provider, owner=self.owner))

    def _some(self) -> list[UUID]:
        return self.random.sample(self.credentials, min(len(self.credentials), 3))

    def delete(self) -> None:
        self.vault.delete_credentials(*self._some())

    def undelete(self) -> None:
        for deleted in self.house_of("deleted")[:2]:
            self.vault.undelete_credential(deleted)

    def destroy(self) -> None:
        self.vault.destroy_credentials(*self._some()[:1])

    def house_of(self, state: str) -> list[UUID]:
        found = [self.vault.describe_credential(each) for each in self.credentials]
        return [each.id for each in found if each.state == state]

    def shred(self) -> None:
        if self.random.random() < 0.2:  # of the rows' tenant: keys of the vault's own go on serving
            self.house.worker.keys.shred_owner(self.owner, self.tenant)


def test_counters_are_exact_while_many_write_and_some_add_up(house: House, rows: Rows, tmp_path: Path) -> None:
    writers = [Writer(house, rows, seed) for seed in range(WRITERS)]
    enough = threading.Event()

    def fold(worker: Maintenance) -> int:
        folded = 0
        while not enough.is_set():
            folded += worker.fold_statistics()
        return folded

    def look() -> int:
        looks = 0
        with psycopg.connect(house.database_url, autocommit=True) as session:
            while not enough.is_set():
                assert session.execute(WRONG.encode()).fetchall() == []
                looks += 1
        return looks

    def migrate() -> None:
        file = tmp_path / "old.jsonl"
        lines = [{"u": f"user-{n}", "rt": f"rt-{n}", "at": f"at-{n}"} for n in range(60)]
        file.write_text("\n".join(map(json.dumps, lines)))
        columns = {"owner": "u", "refresh_token": "rt", "access_token": "at"}
        constants = {"provider": "acme", "tenant": "moved in"}
        plan = Migration.planned(columns=columns, constants=constants, file=file)
        assert house.another_worker().migrate(plan, batch=7).ok == 60

    with ThreadPoolExecutor(WRITERS + 4) as pool:
        folding = [pool.submit(fold, house.another_worker()) for _ in range(2)]
        looking = pool.submit(look)
        try:
            writing = [*(pool.submit(writer.run) for writer in writers), pool.submit(migrate)]
            for each in writing:
                each.result()
        finally:
            enough.set()
        assert looking.result() > 10
        assert sum(each.result() for each in folding) > 50
    assert_exact(house)
    assert house.worker.recount_statistics() == []
    assert house.worker.statistics("moved in").connections == 60
    house.worker.fold_statistics()
    assert_totals(house)


def assert_totals(house: House) -> None:
    """What is kept for all tenants together is the sum of them."""
    assert house.sql(
        "SELECT what, provider, kind, state FROM evergrant.tally GROUP BY 1, 2, 3, 4"
        " HAVING sum(amount) FILTER (WHERE tenant <> '*') IS DISTINCT FROM sum(amount) FILTER (WHERE tenant = '*')"
    ) == []  # fmt: skip


# ------------------------------------------------------------------------------------------------------ coming to grief


@pytest.mark.parametrize("when", ["before", "after"])
def test_adding_up_that_is_killed_is_as_if_it_had_not_been_or_is_done(house: House, rows: Rows, when: str) -> None:
    for _ in range(5):
        rows.add()
    assert victims.exit_code(victims.fold_and_die, house.environment, when) == victims.KILLED
    assert_exact(house)
    until(lambda: house.worker.fold_statistics() == (5 if when == "before" else 0))
    assert_exact(house)
    assert_totals(house)


def _fewer_than(number: int, house: House) -> bool:
    return changes(house) < number


def _done_or_waiting(what: Future[Any], house: House) -> bool:
    return what.done() or house.finds("SELECT * FROM pg_locks WHERE NOT granted")


def test_adding_up_that_is_killed_again_and_again_loses_nothing(house: House) -> None:
    left: list[int] = []
    for _ in range(6):
        for _ in range(30):
            house.sql(CHANGES[-1])
        before = changes(house)
        with victims.asleep(victims.fold_in_small_steps, house.environment):
            until(partial(_fewer_than, before, house))
        assert_exact(house)
        left.append(changes(house))
    assert any(left), "none was ended half way"
    until(lambda: house.worker.fold_statistics() == 0 and not changes(house))
    assert_exact(house)
    assert_totals(house)


def test_adding_up_never_waits_for_who_writes_nor_they_for_it(house: House, rows: Rows) -> None:
    rows.add()
    with rows.another_session() as writer, rows.another_session() as folder:
        writer.execute("UPDATE evergrant.oauth_grant SET status = 'in_doubt'")
        assert house.worker.fold_statistics() == 1, "what is not committed stays"
        rows.add()
        assert folder.execute("SELECT folded FROM evergrant.tally_fold(100)").fetchone() == {"folded": 1}
        assert house.worker.fold_statistics() == 0, "somebody is at it"
        rows.add()
        folder.rollback()
    assert house.worker.fold_statistics() == 4
    assert_exact(house)


def test_two_who_turn_one_connection_do_not_miss_each_other(house: House, rows: Rows) -> None:
    """One gives it another provider while the other gives it another status."""
    connection_id = rows.add()
    for first in ("status", "provider"):
        with rows.another_session() as one, ThreadPoolExecutor(1) as thread:
            statements = {
                "status": f"UPDATE evergrant.oauth_grant SET status = 'in_doubt by {first}'",
                "provider": f"UPDATE evergrant.connection SET provider = 'renamed by {first}'",
            }
            one.execute(cast("Any", statements.pop(first)))
            [other] = statements.values()
            waiting = thread.submit(house.another_worker()._wiring.database.connect)
            with waiting.result() as session:
                changing = thread.submit(session.execute, cast("Any", other))
                until(partial(_done_or_waiting, changing, house))
                one.commit()
                changing.result()
        assert_exact(house)
    assert house.worker.statistics().connections_by_provider == {"renamed by provider": 1}, connection_id


# ----------------------------------------------------------------------------------------- what goes round the counters


def test_a_recount_finds_what_went_round_the_counters_and_mends_it(house: House, rows: Rows) -> None:
    rows.add()
    rows.add("globex")
    house.worker.fold_statistics()
    house.sql("SET session_replication_role = replica")  # as a replica, or a restore without triggers, would write
    house.sql("DELETE FROM evergrant.oauth_grant WHERE client_id = 'ours' AND connection_id IN"
              " (SELECT id FROM evergrant.connection WHERE provider = 'globex')")  # fmt: skip
    house.sql("SET session_replication_role = origin")
    house.sql("UPDATE evergrant.tally SET amount = 17 WHERE tenant = '*' AND provider = 'acme'")
    assert house.worker.statistics().connections == 18
    wrong = house.worker.recount_statistics()
    assert {(each.tenant, each.counter.provider, each.was, each.counter.amount) for each in wrong} == {
        ("default", "globex", 1, 0), ("*", "acme", 17, 1),
    }  # fmt: skip
    assert house.worker.recount_statistics() == []
    assert_exact(house)
    assert_totals(house)
    assert house.worker.statistics().connections_by_provider == {"acme": 1}


def test_rows_of_before_the_upgrade_are_counted_by_it(empty_database_url: str) -> None:
    database = Database(Secret(empty_database_url))
    config = _config()
    with database.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
        config.attributes["connection"] = connection
        command.upgrade(config, "0008")
    with psycopg.connect(empty_database_url) as session:
        session.execute(CHANGES[-1])
    Schema(database).upgrade()
    with psycopg.connect(empty_database_url) as session:
        assert session.execute(cast("Any", WRONG)).fetchall() == []
        assert session.execute("SELECT count(*) FROM evergrant.tally_change").fetchone() == (0,)
        assert session.execute("SELECT sum(amount) FROM evergrant.tally WHERE tenant = '*'").fetchone() == (100,)
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0008")
    Schema(database).upgrade()
    database.dispose()


def test_a_dump_that_is_restored_counts_the_same(house: House, rows: Rows, empty_database_url: str) -> None:
    """Triggers come after the rows in a dump, so nothing is counted twice."""
    rows.add()
    house.worker.fold_statistics()
    rows.add("globex")
    binaries = find_postgres()
    dump = subprocess.run([binaries / "pg_dump", house.database_url], capture_output=True, check=True, timeout=60)
    restore = [str(binaries / "psql"), "-q", "-v", "ON_ERROR_STOP=1", empty_database_url]
    subprocess.run(restore, input=dump.stdout, capture_output=True, check=True, timeout=60)
    with psycopg.connect(empty_database_url, autocommit=True) as there:
        assert there.execute("SELECT count(*) FROM evergrant.oauth_grant").fetchone() == (2,)
        assert there.execute(cast("Any", WRONG)).fetchall() == []
        there.execute("UPDATE evergrant.oauth_grant SET status = 'in_doubt'")
        assert there.execute(cast("Any", WRONG)).fetchall() == []


# ---------------------------------------------------------------------------------------------------------------- roles


@pytest.mark.parametrize("part", ["worker", "web", "auditor"])
def test_a_role_can_write_rows_and_not_what_is_counted(house: House, part: str) -> None:
    with psycopg.connect(house.database_url, autocommit=True) as session:
        session.execute("CREATE ROLE counted_role")
        try:
            house.worker.grant_rights("counted_role", part)
            session.execute("SET ROLE counted_role")
            if part == "worker":
                session.execute(CHANGES[-1])
                assert session.execute("SELECT sum(amount) FROM evergrant.tally_change").fetchone() == (100,)
            elif part == "web":
                session.execute("SET evergrant.tenant = 't1'")
                session.execute(CHANGES[-1].replace("'t' || mod(n, 3)", "'t1'"))
                assert session.execute("SELECT sum(amount) FROM evergrant.tally_change").fetchone() == (100,)
            refused = [
                "UPDATE evergrant.tally SET amount = 0", "DELETE FROM evergrant.tally_change",
                "INSERT INTO evergrant.tally_change SELECT '', '', '', '', '', 1",
                "CREATE TEMP TABLE mine (id uuid); CREATE TRIGGER t BEFORE DELETE ON mine FOR EACH ROW"
                " EXECUTE FUNCTION evergrant.tally_connection_goes()",
            ]  # fmt: skip
            if part != "worker":
                refused += ["SELECT evergrant.tally_fold(1)", "SELECT evergrant.tally_recount()"]
            for statement in refused:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(cast("Any", statement))
            if part == "worker":
                assert session.execute("SELECT folded FROM evergrant.tally_fold(10)").fetchone() == (3,)
        finally:
            session.execute("RESET ROLE")
            session.execute("DROP OWNED BY counted_role")
            session.execute("DROP ROLE counted_role")


# --------------------------------------------------------------------------------------------------------------- forks


def _sessions(vault: Vault) -> list[Any]:
    """The sessions at the server over which a vault reads figures and conditions."""
    pinned = (vault._wiring._statistics._pinned, vault._wiring._conditions._pinned)
    found = []
    for each in pinned:
        with each.session() as connection:
            found.append(connection.execute("SELECT pg_backend_pid()").fetchone())
    return found


def test_a_child_asks_over_connections_of_its_own(house: House) -> None:
    """As web servers do that load an app and fork then."""
    before = _sessions(house.vault)
    child = os.fork()
    if child == 0:
        os._exit(len(set(_sessions(house.vault)) & set(before)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _sessions(house.vault) == before
