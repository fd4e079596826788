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

from tests.chaos.failpoints import Failpoints
from tests.rotation import deaths
from tests.rotation.reading import Readers, Reading
from vault import Maintenance, VaultError
from vault.cli import main

KILLED = -signal.SIGKILL
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


class Doom(NamedTuple):
    """How a process may die by itself."""

    switch: Path
    deaths: Path
    odds: Mapping[str, float]


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
    begun: list[bool] = []

    def reach(name: str) -> None:
        if not begun:
            begun.append(True)
            line.send("begun")
        points.reach(name)

    deaths.build_in(reach)
    main(words)


def command_until(line: Connection, environment: Mapping[str, str], words: Sequence[str], log: Path, last: int) -> None:
    """Run a command that dies at the ``last``-th point it reaches; if it comes through, say how many there are."""
    _begin(environment, log)
    reached: list[str] = []

    def reach(name: str) -> None:
        reached.append(name)
        if len(reached) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    deaths.build_in(reach)
    main(words, standalone_mode=False)
    line.send(reached)


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
