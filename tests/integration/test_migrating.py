"""Moving in for real: out of PostgreSQL, SQLite and MySQL, into PostgreSQL; what was moved is served and refreshed."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from redis import Redis

from tests.integration.house import House
from tests.integration.waiting import until
from tests.support import stack
from vault import ConfigurationError, Migration, MigrationSummary, Secret, SourceUnavailable, StoreUnavailable
from vault.cli import main
from vault.services.migration import Order
from vault.sources.sql import DRIVERS

MYSQL = os.environ.get("EVERGRANT_TEST_MYSQL_URL")
COLUMNS = {"owner": "user_id", "refresh_token": "rt", "access_token": "at", "expires_at": "expires", "scopes": "scopes"}
HOUR = timedelta(hours=1)


class Old:
    """Another system's table."""

    def __init__(self, url: str, **kinds: Any) -> None:
        self.url = url
        scheme, _, rest = url.partition("://")
        self.engine = sa.create_engine(f"{DRIVERS.get(scheme, scheme)}://{rest}", hide_parameters=True)
        self.name = f"tokens_{uuid4().hex[:8]}"
        self.table = sa.Table(
            self.name, sa.MetaData(),
            sa.Column("id", kinds.get("id", sa.Integer), primary_key=True, autoincrement=False),
            sa.Column("tenant", sa.String(64)),
            sa.Column("user_id", kinds.get("user_id", sa.String(200))),
            sa.Column("rt", kinds.get("rt", sa.Text()), nullable=kinds.get("nullable", True)),
            sa.Column("at", kinds.get("at", sa.Text()), nullable=kinds.get("nullable", True)),
            sa.Column("expires", kinds.get("expires", sa.BigInteger)), sa.Column("scopes", sa.Text()),
        )  # fmt: skip
        self.table.create(self.engine)

    def add(self, *rows: Mapping[str, Any]) -> None:
        with self.engine.begin() as connection:
            for row in rows:
                connection.execute(self.table.insert().values(row))

    def fill(self, count: int, **more: Any) -> None:
        self.add(*[
            {"id": n, "user_id": f"user-{n}", "rt": f"rt-{n}", "at": f"at-{n}", "expires": int(time.time()) + 3600,
             "scopes": "read write", **more} for n in range(1, count + 1)
        ])  # fmt: skip

    def change(self, key: object, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.table.update().where(self.table.c.id == key).values(values))

    def tokens(self) -> dict[Any, tuple[Any, Any]]:
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(self.table.c.id, self.table.c.rt, self.table.c["at"]))
            return {row[0]: (row[1], row[2]) for row in found}

    def plan(self, columns: Mapping[str, str] = MappingProxyType({}), *, clear: bool = False) -> Migration:
        return Migration.planned(
            columns={**COLUMNS, **columns}, constants={"provider": "acme"}, url=Secret(self.url), table=self.name,
            clear=clear,
        )  # fmt: skip

    def close(self) -> None:
        self.table.drop(self.engine)
        self.engine.dispose()


@pytest.fixture(scope="module")
def postgres_url(postgres: stack.DatabaseServer) -> Iterator[str]:
    with stack.new_database(postgres) as url:
        yield url


@pytest.fixture(params=["postgresql", "sqlite", "mysql"])
def make_old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Old]]:
    """Make a table in each kind of database."""
    if request.param == "mysql" and MYSQL is None:
        pytest.skip("EVERGRANT_TEST_MYSQL_URL names no MySQL server")
    url = MYSQL or ""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'old.db'}"
    elif request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    made: list[Old] = []

    def make(**kinds: Any) -> Old:
        if request.param == "sqlite":
            Path(url.removeprefix("sqlite:///")).touch()
        made.append(Old(url, **kinds))
        return made[-1]

    yield make
    for old in made:
        old.close()


@pytest.fixture
def old(postgres_url: str) -> Iterator[Old]:
    made = Old(postgres_url)
    yield made
    made.close()


def numbers(done: MigrationSummary) -> tuple[int, ...]:
    return done.total, done.ok, done.already, done.failed, done.credentials, done.cleared


def moved(house: House) -> dict[str, UUID]:
    return {
        row["key"]: row["connection_id"] for row in house.sql("SELECT key, connection_id FROM evergrant.migration_row")
    }


# ------------------------------------------------------------------------------------------------------- every source


def test_a_table_is_moved_and_served_and_cleared(house: House, make_old: Callable[..., Old]) -> None:
    old = make_old()
    old.fill(23)
    assert numbers(house.worker.migrate(old.plan(), dry_run=True)) == (23, 23, 0, 0, 46, 0)
    assert moved(house) == {}
    assert numbers(house.worker.migrate(old.plan())) == (23, 23, 0, 0, 46, 0)
    assert old.tokens()[7] == ("rt-7", "at-7")
    ids = moved(house)
    token = house.vault.get(ids["7"])
    assert token.access_token.reveal() == "at-7"
    assert timedelta(minutes=58) < token.ttl < HOUR
    [seven] = house.vault.connections(owner="user-7", provider="acme")
    assert (seven.id, seven.granted_scopes, seven.status.value) == (ids["7"], ("read", "write"), "active")
    assert numbers(house.worker.migrate(old.plan(clear=True))) == (23, 0, 23, 0, 0, 23)
    assert set(old.tokens().values()) == {(None, None)}
    assert numbers(house.worker.migrate(old.plan(clear=True))) == (23, 0, 23, 0, 0, 0)
    assert moved(house) == ids


def test_clearing_spares_what_has_changed_by_one_letter(house: House, make_old: Callable[..., Old]) -> None:
    """Also where the database thinks that a and A are the same."""
    old = make_old()
    old.fill(3)
    house.worker.migrate(old.plan())
    old.change(2, rt="RT-2")
    done = house.worker.migrate(old.plan(clear=True))
    assert (done.cleared, {reason: each.keys for reason, each in done.errors.items()}) == (
        2,
        {"source_changed": ("2",)},
    )
    assert old.tokens() == {1: (None, None), 2: ("RT-2", "at-2"), 3: (None, None)}


def test_the_source_itself_compares_letter_by_letter(house: House, make_old: Callable[..., Old]) -> None:
    """The row changes between reading and clearing, where no fingerprint looks any more."""
    old = make_old()
    old.fill(2)
    with house.worker._wiring.migrating(old.plan(clear=True), tenant=None, provider=None) as migrating:
        source: Any = migrating._source
        rows = source.batch(None, 10)
        old.change(1, at="AT-1")
        assert source.clear(rows) == {"2"}
    assert old.tokens() == {1: ("rt-1", "AT-1"), 2: (None, None)}


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (sa.String(40), ["a", "B", "c 3", "d'4", "é", "10", "9"]),
        (sa.BigInteger, [-(2**40), 0, 1, 2**40]),
        (sa.Numeric(12, 2), [1, 2, 30]),
        (sa.LargeBinary(16).with_variant(sa.VARBINARY(16), "mysql", "mariadb"), [b"\x01\xff", b"\x02", b"\x03"]),
    ],
    ids=["text", "bigint", "numeric", "bytes"],
)
def test_keys_of_any_sort_are_walked_in_order_and_none_is_passed_over(
    house: House, make_old: Callable[..., Old], kind: Any, keys: list[Any]
) -> None:
    old = make_old(id=kind)
    for key in keys:
        old.add({"id": key, "user_id": f"u-{key!r}", "rt": f"rt-{len(str(key))}"})
    assert numbers(house.worker.migrate(old.plan(), batch=2)) == (len(keys), len(keys), 0, 0, len(keys), 0)
    assert numbers(house.worker.migrate(old.plan(clear=True), batch=2))[2:] == (len(keys), 0, 0, len(keys))


def test_columns_of_other_types_are_understood(house: House, make_old: Callable[..., Old]) -> None:
    """Bytes for text, a date and time for the expiry, a number for the owner; tokens that may not be NULL."""
    old = make_old(user_id=sa.Integer, rt=sa.LargeBinary(), expires=sa.DateTime(), nullable=False)
    ends = (datetime.now(UTC) + HOUR).replace(microsecond=0)
    old.add({"id": 1, "user_id": 17, "rt": b"rt-1", "at": "at-1", "expires": ends.replace(tzinfo=None)})
    old.add({"id": 2, "user_id": 18, "rt": b"rt\xff", "at": "", "expires": None})
    old.add({"id": 3, "user_id": 19, "rt": b"", "at": "", "expires": None})
    done = house.worker.migrate(old.plan(clear=True))
    assert (done.ok, done.skipped, done.cleared) == (1, 1, 1)
    assert {reason: each.keys for reason, each in done.errors.items()} == {"not_text": ("2",)}
    [made] = house.vault.connections()
    assert (made.owner, made.expires_at) == ("17", ends)
    assert old.tokens()[1] == (b"", "")


def test_only_a_tenant_or_a_provider(house: House, make_old: Callable[..., Old]) -> None:
    old = make_old(user_id=sa.Integer)
    for number, tenant in enumerate(["blue", "red", "blue"]):
        old.add({"id": number, "tenant": tenant, "user_id": number, "rt": "rt"})
    plan = old.plan({"tenant": "tenant"})
    assert numbers(house.worker.migrate(plan, tenant="blue", dry_run=True))[:2] == (2, 2)
    assert numbers(house.worker.migrate(plan, tenant="red", provider="acme"))[:2] == (1, 1)
    assert numbers(house.worker.migrate(plan, provider="other"))[:2] == (0, 0)
    assert len(house.vault.for_tenant("red").connections()) == 1
    assert house.vault.for_tenant("blue").connections() == []


# ---------------------------------------------------------------------------------------------------- what can be wrong


@pytest.mark.parametrize(
    ("columns", "table", "word"),
    [
        ({"owner": "usr"}, None, "has no column 'usr' for owner; it has id, tenant, user_id"),
        ({}, "nowhere", "there is no table 'nowhere'"),
        ({}, "no.where", "there is no table 'no.where'"),
        ({"key": "user_id"}, None, "user_id is the same in several rows"),
        ({"key": "tenant"}, None, "tenant is empty in some rows"),
    ],
)
def test_a_source_that_is_not_what_the_map_says(
    house: House, old: Old, columns: dict[str, str], table: str | None, word: str
) -> None:
    old.fill(2, user_id="same")
    plan = old.plan(columns)
    if table is not None:
        old_name, old.name = old.name, table
        plan, old.name = old.plan(), old_name
    with pytest.raises(ConfigurationError) as raised:
        house.worker.migrate(plan)
    assert word in str(raised.value)
    assert moved(house) == {}


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////nowhere/at/all.db", "sqlite://", "oracle://me:hunter2@h/d", "nonsense://me:hunter2@h/d",
        "postgresql://me:hunter2@h:port/x", "me:hunter2", "postgresql://me:p@hunter2@h/d",
    ],
)  # fmt: skip
def test_a_url_that_cannot_work_is_said_without_its_password(house: House, old: Old, url: str) -> None:
    old.url = url
    with pytest.raises(ConfigurationError) as raised:
        house.worker.migrate(old.plan())
    assert "hunter2" not in str(raised.value)


def test_a_source_that_is_away_is_named_without_its_password(house: House, old: Old, tmp_path: Path) -> None:
    for url in (f"postgresql://me:hunter2@/app?host={tmp_path}", "mysql://me:hunter2@127.0.0.1:1/app"):
        old.url = url
        with pytest.raises(SourceUnavailable) as raised:
            house.worker.migrate(old.plan())
        assert "hunter2" not in str(raised.value)
        assert raised.value.transient


def test_a_row_that_the_database_refuses_costs_the_others_of_its_batch_nothing(house: House, old: Old) -> None:
    old.fill(9)
    house.sql("ALTER TABLE evergrant.connection ADD CONSTRAINT picky CHECK (owner <> 'user-5')")
    done = house.worker.migrate(old.plan())
    assert numbers(done) == (9, 8, 0, 1, 16, 0)
    assert done.errors["refused_by_database"].keys == ("5",)
    counts = ("migration_row", "connection", "oauth_grant", "schedule")
    assert {house.sql(f"SELECT count(*) AS n FROM evergrant.{name}")[0]["n"] for name in counts} == {8}
    house.sql("ALTER TABLE evergrant.connection DROP CONSTRAINT picky")
    assert numbers(house.worker.migrate(old.plan()))[1:3] == (1, 8)


def test_a_row_that_another_run_has_moved_meanwhile_is_left_to_it(house: House, old: Old) -> None:
    """As when the lock on the source was lost: the record of what was moved has the last word."""
    old.fill(12)
    house.worker.migrate(old.plan(), limit=5)
    with house.worker._wiring.migrating(old.plan(clear=True), tenant=None, provider=None) as migrating:
        store: Any = migrating._store
        known = store.known
        store.known = lambda source, keys: ({}, known(source, keys)[1])
        try:
            done = migrating.run(Order(10, clear=True), lambda _: None)
        finally:
            del store.known
    assert numbers(done) == (12, 7, 5, 0, 14, 7)
    assert house.sql("SELECT count(*) AS n FROM evergrant.connection") == [{"n": 12}]


@pytest.mark.parametrize("back", [True, False])
def test_a_target_that_goes_away_ends_the_run_and_one_that_comes_back_does_not(
    house: House, old: Old, postgres: stack.DatabaseServer, back: bool
) -> None:
    old.fill(300)
    name = urlsplit(house.database_url).path.removeprefix("/")
    steps: list[MigrationSummary] = []
    with psycopg.connect(postgres.url, autocommit=True) as operator:

        def ended(step: MigrationSummary) -> None:
            steps.append(step)
            if len(steps) == 2:
                operator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {back}".encode())
                operator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

        if back:
            assert house.worker.migrate(old.plan(), progress=ended).ok == 300
            return
        with pytest.raises(StoreUnavailable):
            house.worker.migrate(old.plan(), progress=ended)
        operator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
    assert len(moved(house)) == 200
    done = house.another_worker().migrate(old.plan())
    assert (done.ok, done.already, done.failed) == (100, 200, 0)


# ------------------------------------------------------------------------------------------------- what becomes of them


def test_what_was_moved_lives_as_if_its_owner_had_connected_here(house: House, old: Old) -> None:
    """Its refresh token is spent here, rotated, and the old copy neither overwrites it nor hinders clearing."""
    first = house.connect("olga")
    token = house.vault.get(first).access_token.reveal()
    refresh = [*house.oracle.lineage(house.account(first), house.far_side)][-1]
    old.add({"id": 1, "user_id": "olga", "rt": refresh, "at": token, "expires": int(time.time()) - 5})
    house.sql("DELETE FROM evergrant.connection WHERE id = %s", (first,))
    assert house.worker.migrate(old.plan()).ok == 1
    [key] = moved(house).values()
    assert house.worker.refresh_scan().refreshed == 1
    fresh = house.vault.get(key).access_token.reveal()
    assert fresh == house.newest_answer(first) != token
    assert numbers(house.worker.migrate(old.plan())) == (1, 0, 1, 0, 0, 0)
    assert house.vault.get(key).access_token.reveal() == fresh
    assert numbers(house.worker.migrate(old.plan(clear=True))) == (1, 0, 1, 0, 0, 1)
    assert house.worker.rotate_data_keys(timedelta(0)) >= 1
    assert house.another_vault().get(key).access_token.reveal() == fresh
    assert house.events(key)[0] != "migration.adopted"
    told = house.sql("SELECT event FROM evergrant.audit WHERE connection_id = %s ORDER BY id", (key,))
    assert told[0]["event"] == "migration.adopted"
    assert "migration.cleared" in [row["event"] for row in told]


def test_what_an_owner_had_taken_away_is_not_moved_again(house: House, old: Old) -> None:
    old.fill(2)
    house.worker.migrate(old.plan())
    house.vault.disconnect(moved(house)["1"])
    house.sql("DELETE FROM evergrant.connection WHERE id = %s", (moved(house)["2"],))
    done = house.worker.migrate(old.plan(clear=True))
    assert (done.already, done.cleared, done.errors["not_stored"].keys) == (1, 1, ("2",))
    assert old.tokens() == {1: (None, None), 2: ("rt-2", "at-2")}


def test_a_grant_without_an_access_token_is_never_served_and_due_at_once(house: House, old: Old) -> None:
    old.add({"id": 1, "user_id": "olga", "rt": "rt-1", "at": None, "expires": int(time.time()) + 9999})
    house.worker.migrate(old.plan(clear=True))
    [key] = moved(house).values()
    row = house.row(key)
    assert row["expires_at"] <= row["refreshed_at"] + HOUR
    assert row["wait"] <= timedelta(0)
    assert "RefreshPending" in repr(house.vault.get_many([key])[key])


def test_a_key_of_an_owner_who_is_here_already_is_used(house: House, old: Old) -> None:
    first = house.connect("user-1")
    old.fill(1)
    house.worker.migrate(old.plan())
    assert house.row(moved(house)["1"])["data_key_id"] == house.row(first)["data_key_id"]


# -------------------------------------------------------------------------------------------------------------- by name


@pytest.fixture
def named(house: House, old: Old, tmp_path: Path) -> House:
    """A house whose settings know the migration ``old``."""
    (tmp_path / "url").write_text(old.url)
    lines = ", ".join(f'{field} = "{column}"' for field, column in COLUMNS.items())
    text = (
        f'[old]\nurl_file = "url"\ntable = "{old.name}"\nclear = true\nmap = {{{lines}}}\nset = {{provider = "acme"}}\n'
    )
    (tmp_path / "migrations.toml").write_text(text)
    house.environment["VAULT_MIGRATIONS"] = str(tmp_path / "migrations.toml")
    return house


def test_workers_move_for_a_while_and_go_on_where_they_were(named: House, old: Old) -> None:
    old.fill(1200)
    worker = named.worker
    assert worker.migrate_slice("old") is False, "nobody asked"
    worker.begin_migration("old")
    assert worker.unfinished_migrations() == ["old"]
    assert worker.migrate_slice("old", timedelta(microseconds=1)) is True
    assert len(moved(named)) == 500
    assert named.another_worker().migrate_slice("old", timedelta(microseconds=1)) is True
    assert len(moved(named)) == 1000
    [run] = named.sql("SELECT cursor, counts FROM evergrant.migration_run")
    assert (run["cursor"], run["counts"]["ok"]) == ("i:1000", 1000)
    while worker.migrate_slice("old"):
        pass
    assert (len(moved(named)), worker.unfinished_migrations()) == (1200, [])
    assert set(old.tokens().values()) == {(None, None)}


def test_of_two_runs_of_one_source_the_second_stands_back(named: House, old: Old) -> None:
    old.fill(200)
    other = named.another_worker()
    other.begin_migration("old")
    told = []

    def meanwhile(_: MigrationSummary) -> None:
        told.append(other.migrate_slice("old"))

    assert named.worker.migrate(named.worker.migration("old"), progress=meanwhile).ok == 200
    assert told == [False, False]


def test_the_message_for_workers_holds_a_name_and_nothing_else(named: House, redis_url: str) -> None:
    worker = named.another_worker(redis_url=Secret(redis_url))
    worker.begin_migration("old")
    with Redis.from_url(redis_url) as redis:
        until(lambda: bool(redis.llen("maintenance")))
        [message] = [json.loads(each) for each in cast("list[bytes]", redis.lrange("maintenance", 0, -1))]
    arguments, named_arguments, _ = json.loads(base64.b64decode(message["body"]))
    assert (message["headers"]["task"], arguments, named_arguments) == ("vault.migrate", ["old"], {})


# --------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def run(house: House) -> Callable[..., Result]:
    nothing_else: dict[str, str | None] = {name: None for name in os.environ if name.startswith("VAULT_")}

    def run_it(*words: object) -> Result:
        environ = {**nothing_else, **house.environment}
        return CliRunner(env=environ).invoke(main, [str(word) for word in words])

    return run_it


def described(old: Old) -> list[str]:
    maps = [word for field, column in COLUMNS.items() for word in ("--map", f"{field}={column}")]
    return ["--table", old.name, *maps, "--set", "provider=acme"]


def test_the_command_moves_and_sums_up(run: Callable[..., Result], house: House, old: Old, tmp_path: Path) -> None:
    old.fill(12)
    old.change(5, user_id="")
    (tmp_path / "url").write_text(f"{old.url}\n")
    words = ["migrate", "--source-url-file", tmp_path / "url", *described(old)]
    dry = run("--json", *words, "--dry-run")
    assert (dry.exit_code, json.loads(dry.stdout)["ok"], moved(house)) == (1, 11, {})
    done = run("--json", *words, "--limit", 4)
    assert (done.exit_code, json.loads(done.stdout)["ok"]) == (0, 4)
    done = run("--json", *words, "--clear-source")
    said = json.loads(done.stdout)
    assert done.exit_code == 1
    assert said["errors"] == {"no_owner": {"rows": 1, "keys": ["5"]}}
    assert [said[name] for name in ("total", "ok", "already", "failed", "cleared")] == [12, 7, 4, 1, 11]
    shown = run(*words)
    assert "no_owner" in shown.stdout
    assert "rt-" not in shown.output + done.output + dry.output


def test_the_command_moves_a_file(run: Callable[..., Result], house: House, tmp_path: Path) -> None:
    export = tmp_path / "users.csv"
    export.write_bytes(b"\xef\xbb\xbfuser,rt\nolga,rt-1\nbad\nnina,rt-\xff\nvera,rt-2\n")
    words = ["migrate", export, "--map", "owner=user", "--map", "refresh_token=rt", "--set", "provider=acme"]
    done = run("--json", *words)
    said = json.loads(done.stdout)
    assert (done.exit_code, said["ok"], sorted(said["errors"])) == (1, 2, ["not_text", "unreadable_row"])
    assert {each.owner for each in house.vault.connections()} == {"olga", "vera"}
    refused = run(*words, "--clear-source")
    assert (refused.exit_code, "is not cleared" in refused.stderr) == (2, True)


def test_the_command_does_what_has_a_name_or_asks_for_it(run: Callable[..., Result], named: House, old: Old) -> None:
    old.fill(3)
    assert run("migrate", "--name", "old", "--enqueue").exit_code == 0
    assert named.worker.unfinished_migrations() == ["old"]
    assert moved(named) == {}
    done = run("--json", "migrate", "--name", "old")
    assert json.loads(done.stdout)["cleared"] == 3
    assert run("migrate", "--name", "new").exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        (), ("--name", "x", "--table", "t"), ("users.csv", "--enqueue"), ("--name", "x", "--enqueue", "--dry-run"),
        ("users.csv", "--map", "owner"), ("users.csv", "--map", "owner=a", "--map", "owner=b"),
        ("users.csv", "--source-url-file", "x"), ("users.csv", "--batch", "0"), ("--table", "t"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_words_it_does_not_understand(run: Callable[..., Result], words: tuple[str, ...]) -> None:
    result = run("migrate", *words)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_wrong_maps_are_told_all_at_once(run: Callable[..., Result]) -> None:
    result = run("migrate", "postgresql://me:hunter2@h/d", "--map", "ownr=a")
    assert result.exit_code == 2
    for word in ("no field 'ownr'", "owner is missing", "provider is missing", "name of a table"):
        assert word in result.stderr
    assert "hunter2" not in result.output
