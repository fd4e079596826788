"""Killed wherever it hurts, then run once more: each row once, nothing lost, nothing cleared that does not stand."""

from __future__ import annotations

import multiprocessing
import random
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import movers
from tests.integration.house import House
from vault import Migration, Secret

KILLED = -signal.SIGKILL
TABLE = "tokens"
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([movers.__name__])


class Old:
    """Another system's table, in a SQLite file."""

    def __init__(self, file: Path, rows: int) -> None:
        self.url, self.rows = f"sqlite:///{file}", rows
        self._session = sqlite3.connect(file, isolation_level=None)
        self._session.execute(f"CREATE TABLE {TABLE} (id INTEGER PRIMARY KEY, user_id TEXT, rt TEXT, at TEXT)")
        filled = [(n, f"user-{n}", f"rt-{n}", f"at-{n}") for n in range(1, rows + 1)]
        self._session.executemany(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?)", filled)

    def cleared(self) -> set[str]:
        return {str(row[0]) for row in self._session.execute(f"SELECT id FROM {TABLE} WHERE rt IS NULL AND at IS NULL")}

    def whole(self) -> set[str]:
        return {str(row[0]) for row in self._session.execute(
            f"SELECT id FROM {TABLE} WHERE rt = 'rt-' || id AND at = 'at-' || id")}  # fmt: skip

    def close(self) -> None:
        self._session.close()


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Old]:
    made = Old(tmp_path / "old.db", 150)
    yield made
    made.close()


def run(house: House, old: Old, point: str = "", at: int = 0, *, kill_after: float | None = None) -> int | None:
    """Move in a process of its own; returns how it ended."""
    process = _processes.Process(target=movers.move, args=(dict(house.environment), old.url, TABLE, point, at))
    process.start()
    process.join(60 if kill_after is None else kill_after)
    if process.is_alive():
        process.kill()
        process.join(60)
    return process.exitcode


def check(house: House, old: Old) -> None:
    """What is cleared stands here, sealed and openable; nothing is both gone there and missing here."""
    rows = house.sql("SELECT key, connection_id FROM evergrant.migration_row")
    moved = {row["key"]: row["connection_id"] for row in rows}
    assert old.cleared() | old.whole() == {str(n) for n in range(1, old.rows + 1)}
    assert old.cleared() <= set(moved)
    with house.worker._wiring.migrating(house_plan(old), tenant=None, provider=None) as migrating:
        stored = migrating._store.stored(list(moved.values()))
        assert set(stored) == set(moved.values())
        for key, connection_id in moved.items():
            tokens = migrating._prover._tokens(connection_id, stored[connection_id])
            assert tokens is not None
            assert [each.reveal() for each in tokens if each] == [f"at-{key}", f"rt-{key}"]


def house_plan(old: Old) -> Migration:
    return Migration.planned(columns=movers.COLUMNS, constants={"provider": "acme"}, url=Secret(old.url), table=TABLE)


def check_whole(house: House, old: Old) -> None:
    """Everything was moved, once, with all its rows, and cleared."""
    check(house, old)
    assert len(old.cleared()) == old.rows
    for table in ("migration_row", "connection", "oauth_grant", "schedule"):
        assert house.sql(f"SELECT count(*) AS n FROM evergrant.{table}") == [{"n": old.rows}]
    told = house.sql("SELECT count(*) AS n FROM evergrant.audit WHERE event = 'migration.adopted'")
    assert told == [{"n": old.rows}]
    assert house.sql("SELECT count(*) AS n, count(DISTINCT owner) AS m FROM evergrant.data_key WHERE purpose = 'grant'"
                     )[0]["n"] == old.rows  # fmt: skip


def test_killed_at_every_point_in_turn_the_last_run_ends_it(house: House, old: Old) -> None:
    """Fourteen deaths, each on a batch the one before left behind."""
    for number, (name, side) in enumerate((name, side) for name in movers.POINTS for side in movers.SIDES):
        assert run(house, old, f"{side}:{name}", 1 + number % 2) == KILLED
        check(house, old)
    assert 0 < len(old.cleared()) < old.rows, "some of them got on before they died"
    assert run(house, old) == 0
    check_whole(house, old)


def test_killed_at_any_moment_the_last_run_ends_it(house: House, old: Old) -> None:
    """By somebody who does not look; eight times, and then not."""
    moments = random.Random(8)
    ends = [run(house, old, kill_after=moments.uniform(0.1, 1.0)) for _ in range(8)]
    assert KILLED in ends
    check(house, old)
    assert run(house, old) == 0
    check_whole(house, old)
