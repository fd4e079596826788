"""What one worker process holds: its ``Maintenance``, made after the fork and closed before the end.

Celery's main process checks before anything starts that work is possible, and keeps nothing of that open: whatever a
process opens before it forks is shared with its children.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
import structlog
from celery import signals
from celery.concurrency import get_implementation
from prometheus_client.multiprocess import mark_process_dead

from vault import Maintenance, Secret, VaultError
from worker import logs

log = structlog.get_logger(__name__)

METRICS = "PROMETHEUS_MULTIPROC_DIR"
"""Where the processes of one worker put their metrics; to be exported before it starts, a directory for each worker."""
GC_THRESHOLD = 50_000
"""New objects between two searches for cycles."""
POOLS = ("prefork", "solo")
"""Pools in which a process works on one task at a time, as ``Maintenance`` wants it."""


class _Process:
    """The one ``Maintenance`` of this process; a pool child makes its own."""

    maintenance: Maintenance | None = None


def maintenance() -> Maintenance:
    """Return this process's ``Maintenance``, made at the first call."""
    if _Process.maintenance is None:
        # What is imported stays. A refresh makes hundreds of objects and no cycle, so looking for cycles is for rare
        # accidents, not for every few refreshes, where it took a twentieth of all CPU time.
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 20)
        _Process.maintenance = Maintenance.from_env()
    return _Process.maintenance


@signals.celeryd_init.connect
def check(sender: str, **_: Any) -> None:
    """Before anything starts: are the settings, the schema and the master key what they must be?"""
    logs.configure()
    try:
        found = Maintenance.from_env()
        try:
            kek_id = found.check()
        finally:
            found.close()
    except VaultError as error:
        _refuse(str(error))
    settings = found.settings
    click.echo(
        f"Evergrant worker {sender}: master key {kek_id}, "
        f"database {place(settings.database_url)}, redis {place(settings.redis_url)}"
    )


@signals.worker_init.connect
def prepare(sender: Any, **_: Any) -> None:
    """Refuse pools that would share one ``Maintenance``; forget the metrics of processes that are gone."""
    pool = get_implementation(sender.pool_cls).__module__.rpartition(".")[2]
    if pool not in POOLS:
        _refuse(f"Evergrant's worker runs in the pools {' and '.join(POOLS)}, not in {pool}: leave out --pool")
    directory = os.environ.get(METRICS)
    if directory:
        try:
            wipe(Path(directory))
        except OSError as error:
            _refuse(f"{METRICS}: {directory} cannot be used ({error.strerror})")


def wipe(directory: Path) -> None:
    """Remove the metrics of dead processes from a directory, which is made if there is none. Raises ``OSError``.

    Those of the living stay: our own files are open since the first import of a metric.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not _lives(int(pid)):
            file.unlink(missing_ok=True)


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def close(**_: Any) -> None:
    """Let go of connections and of the spool, and tell the metrics that this process is gone."""
    if os.environ.get(METRICS):
        mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]  # prometheus_client has no annotation here
    if _Process.maintenance is not None:
        _Process.maintenance.close()
        _Process.maintenance = None


_URL = re.compile(r"[^:]*://(?:[^/?#]*@)?(?P<hosts>[^/?#@]*)(?P<path>/[^?#]*)?(?:\?(?:.*&)?host=(?P<host>[^&]*))?.*")


def place(address: Secret) -> str:
    """Name a server and what is used there, without user and password."""
    found = _URL.fullmatch(address.reveal())
    return f"{found['hosts'] or found['host'] or 'localhost'}{found['path'] or ''}" if found else "?"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _refuse(message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(2)
