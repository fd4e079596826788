"""A large migration, done by a real worker: asked for once, in slices, through the death of whoever does it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tests.integration.worker.conftest import System, wait_until
from vault import Cleanup, Maintenance

ROWS = 2_000
MIGRATION = """
[old]
url_file = "url"
table = "tokens"
clear = true
map = {owner = "owner", refresh_token = "rt", access_token = "at", expires_at = "expires"}
set = {provider = "acme"}
"""


def _old_system(path: Path) -> None:
    ends = int(time.time()) + 36_000
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("CREATE TABLE tokens (id INTEGER PRIMARY KEY, owner TEXT, rt TEXT, at TEXT, expires INTEGER)")
        rows = ((n, f"owner-{n}", f"rt-{n}", f"at-{n}", ends) for n in range(ROWS))
        old.executemany("INSERT INTO tokens VALUES (?, ?, ?, ?, ?)", rows)


def test_a_worker_moves_everything_though_it_is_killed_on_the_way(system: System) -> None:
    path = system.home.path / "old.db"
    _old_system(path)
    (system.home.path / "url").write_text(f"sqlite:///{path}")
    (system.home.path / "migrations.toml").write_text(MIGRATION)
    system.environ["VAULT_MIGRATIONS"] = str(system.home.path / "migrations.toml")
    worker = system.worker()
    operator = Maintenance.from_env(system.environ)
    operator.begin_migration("old")
    wait_until(lambda: _moved(system) > 0, 60, worker.last_words)
    worker.crash()
    assert 0 < _moved(system) < ROWS, "it was killed too late to show anything"
    assert operator.unfinished_migrations() == ["old"]
    again = system.worker("again")
    operator.ring(Cleanup())  # as beat does: whatever message was lost, it is rung for anew
    wait_until(lambda: not operator.unfinished_migrations(), 120, again.last_words)
    operator.close()
    assert _moved(system) == ROWS
    with closing(sqlite3.connect(path)) as old:
        assert old.execute("SELECT count(*) FROM tokens WHERE rt IS NOT NULL OR at IS NOT NULL").fetchone() == (0,)


def _moved(system: System) -> int:
    row = system.database.execute("SELECT count(*) FROM evergrant.migration_row").fetchone()
    return int(row[0]) if row else 0
