"""`migrate`: moving grants out of SQLite and PostgreSQL, by the size of the batches that share a commit."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from tests.benchmarks.measure import Effort
from tests.benchmarks.report import Figure, Section
from tests.benchmarks.stage import PROVIDER, SERVER, Stage
from vault import Maintenance, Migration, Secret
from vault.testing.servers import EmbeddedPostgres

ROWS = 100_000
ONE_BY_ONE_SHARE = 20
"""A commit for each row takes so much longer that so much fewer rows tell as much."""
TABLE = "oauth_tokens"
COLUMNS = {"owner": "user_id", "refresh_token": "rt", "access_token": "at", "expires_at": "expires", "scopes": "scopes"}
_CREATE = f"CREATE TABLE {TABLE} (id INTEGER PRIMARY KEY, user_id TEXT, rt TEXT, at TEXT, expires BIGINT, scopes TEXT)"


def run(effort: Effort) -> list[Section]:
    """Measure."""
    rows = effort.of(ROWS, least=200)
    few = max(100, rows // ONE_BY_ONE_SHARE)
    with TemporaryDirectory(prefix="evergrant-bench-") as made, _durable() as postgres:
        home = Path(made)
        fill = partial(_filled, expires=int(time.time()) + 3600)
        lite, large = _sqlite(home / "old.db", fill(rows)), _postgres(postgres, fill(rows))
        moved = [
            _moved(postgres, home, "SQLite", lite, batch=10, rows=rows),
            _moved(postgres, home, "PostgreSQL", large, batch=10, rows=rows),
            _moved(postgres, home, "PostgreSQL", large, batch=100, rows=rows),
            _moved(postgres, home, "PostgreSQL", large, batch=1, rows=few, limit=few),
            _moved(postgres, home, "PostgreSQL, proven and cleared", large, batch=10, rows=few, limit=few, clear=True),
        ]
    figures = [figure for pair in moved for figure in pair]
    return [
        Section("migrate", f"Moving {rows:,} grants with two plain tokens each, an owner and data key each", figures)
    ]


def _durable() -> EmbeddedPostgres:
    """A server that waits for its disk, as one of yours does: here commits are what is measured."""
    return EmbeddedPostgres.start(durable=True, options=SERVER)


def _filled(count: int, expires: int) -> list[Sequence[Any]]:
    return [(n, f"user-{n}", f"1//{n:0100d}", f"ya29.{n:0215d}", expires, "read write") for n in range(1, count + 1)]


def _sqlite(file: Path, rows: list[Sequence[Any]]) -> Secret:
    with sqlite3.connect(file) as session:
        session.execute(_CREATE)
        session.executemany(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?, ?)", rows)
    session.close()
    return Secret(f"sqlite:///{file}")


def _postgres(postgres: EmbeddedPostgres, rows: list[Sequence[Any]]) -> Secret:
    with psycopg.connect(postgres.url, autocommit=True) as session:
        session.execute(b"CREATE DATABASE old_system")
    url = postgres.url_for("old_system")
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(_CREATE.encode())
        with session.cursor().copy(f"COPY {TABLE} FROM STDIN".encode()) as sink:
            for row in rows:
                sink.write_row(row)
        session.execute(f"ANALYZE {TABLE}".encode())
    return Secret(url)


def _moved(
    postgres: EmbeddedPostgres, home: Path, name: str, url: Secret, *, batch: int, rows: int, **more: Any
) -> list[Figure]:
    """Move into a database of its own, and then look at it all again, which finds nothing to do."""
    plan = Migration.planned(
        columns=COLUMNS, constants={"provider": PROVIDER}, url=url, table=TABLE, clear=more.get("clear", False)
    )
    worker = Maintenance.from_env(Stage(postgres, home).environment)
    done = worker.migrate(plan, batch=batch, limit=more.get("limit"))
    again = worker.migrate(plan, batch=batch, limit=more.get("limit"), dry_run=True)
    worker.close()
    if done.ok != rows or (not more and again.already != rows):
        raise RuntimeError(f"{done.ok} of {rows} rows moved; {dict(done.errors)}")
    what = f"out of {name}, {batch} {'row' if batch == 1 else 'rows'} a commit"
    figures = [Figure(what, rows / done.seconds, "rows/s", note=f"{rows:,} rows in {done.seconds:.0f} s")]
    if not more:
        figures.append(Figure(f"{what}: a second run", rows / again.seconds, "rows/s", note="nothing to do"))
    return figures
