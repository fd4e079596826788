"""The processes of a campaign, forked from a server that has imported everything: one costs hundredths of a second."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import sqlalchemy as sa

from tests.chaos.failpoints import Failpoints
from tests.rotation import deaths
from tests.rotation.reading import Readers, Reading
from vault import Maintenance, VaultError
from vault.cli import main

KILLED = -signal.SIGKILL
WIDTH = 48
"""Of the name of a point, where it is written down."""
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


class Doom(NamedTuple):
    """How a process may die by itself, and where it writes down how far it has come."""

    switch: Path
    deaths: Path
    odds: Mapping[str, float]
    place: Path


class Running(NamedTuple):
    """A process, and what it can be heard and told by."""

    process: BaseProcess
    line: Connection

    def stop(self) -> Any:
        """Have it end, and return what came of it."""
        self.line.send("stop")
        result = self.line.recv()
        self.process.join(60)
        return result

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.join(60)


def start(target: Callable[..., None], *args: Any) -> Running:
    """Start one of the below."""
    ours, theirs = _processes.Pipe()
    process = _processes.Process(target=target, args=(theirs, *args), daemon=True)
    process.start()
    theirs.close()
    return Running(process, ours)


def command(line: Connection, environment: Mapping[str, str], words: Sequence[str], log: Path, doom: Doom) -> None:
    """Run a command of ``evergrant``, and say when it comes to work; it may die at a named point."""
    _begin(environment, log)
    points = Failpoints(doom.switch, doom.deaths, dict(doom.odds))
    place, begun = os.open(doom.place, os.O_WRONLY | os.O_CREAT, 0o600), False

    def reach(name: str) -> None:
        nonlocal begun
        os.pwrite(place, name.ljust(WIDTH).encode(), 0)
        if not begun:
            begun = True
            line.send("begun")
        points.reach(name)

    deaths.build_in(reach)
    main(words)


def dying(line: Connection, environment: Mapping[str, str], work: str, fatal: int) -> None:
    """Do one of ``RUNS``, and die at the ``fatal``-th point reached, having said which that is.

    Points are where a call of a store that has written is about to commit, and where it has just ended. Who dies
    anywhere else leaves what one who died at the point before has left.
    """
    reached, within, written = 0, "", False

    def die_here(point: str) -> None:
        nonlocal reached
        reached += 1
        if reached == fatal:
            line.send(point)
            os.kill(os.getpid(), signal.SIGKILL)

    def reach(point: str) -> None:
        nonlocal within, written
        when, _, within = point.partition(":")
        if when == "after" and written:
            written = False
            die_here(point)

    def executed(_: sa.Connection, __: object, statement: str, *___: object) -> None:
        nonlocal written
        written = written or not statement.lstrip().startswith("SELECT")

    def about_to_commit(_: sa.Connection) -> None:
        if written:
            die_here(f"uncommitted:{within}")

    worker = Maintenance.from_env(environment)
    deaths.build_in(reach)
    sa.event.listen(sa.Engine, "after_cursor_execute", executed)
    sa.event.listen(sa.Engine, "commit", about_to_commit)
    RUNS[work](worker)
    line.send("")


RUNS: Mapping[str, Callable[[Maintenance], int]] = {
    "rewrap": lambda worker: worker.rewrap(),
    "rotate tenant keys": lambda worker: worker.rotate_tenant_keys(timedelta(0)),
    "rotate data keys": lambda worker: worker.rotate_data_keys(timedelta(0)),
}


def reader(line: Connection, environment: Mapping[str, str], known: dict[UUID, tuple[str, str]], rate: int) -> None:
    """Read tokens until told to stop; gives a ``Reading``."""
    readers = Readers(environment, known, rate)
    readers.start()
    line.send("begun")
    line.recv()
    result: Reading = readers.close()
    line.send(result)


def refresher(line: Connection, environment: Mapping[str, str], ids: Sequence[UUID], rate: int) -> None:
    """Make rows due and refresh them, as a worker does, until told to stop; gives what the scans came to."""
    done, choose, pause = Counter[str](), random.Random(3), 0.5
    worker = Maintenance.from_env(environment)
    due = "UPDATE evergrant.schedule SET next_at = now() WHERE connection_id = ANY(%s)"
    with psycopg.connect(environment["VAULT_DATABASE_URL"], autocommit=True) as database:
        line.send("begun")
        while not line.poll(pause):
            database.execute(due, (choose.sample(ids, max(1, int(rate * pause))),))
            _scan(worker, done)
    time.sleep(0.1)
    _scan(worker, done)
    worker.close()
    line.send(done)


def _scan(worker: Maintenance, done: Counter[str]) -> None:
    try:
        tally = worker.refresh_scan(timedelta(seconds=0.5))
    except VaultError as error:
        done[type(error).__name__] += 1
    else:
        done.update(tally.outcomes, refreshed=tally.refreshed)


def _begin(environment: Mapping[str, str], log: Path) -> None:
    os.environ.update(environment)
    with suppress(OSError):
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
