"""What one worker process holds: its ``Maintenance``, made after the fork and closed before the end."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
import structlog
from celery import signals
from prometheus_client.multiprocess import mark_process_dead

from vault import Maintenance, VaultError

log = structlog.get_logger(__name__)


METRICS = "PROMETHEUS_MULTIPROC_DIR"
"""Where the processes of one worker put their metrics; to be exported before it starts, a directory for each worker."""


class _Process:
    """The one ``Maintenance`` of this process; a pool child makes its own."""

    maintenance: Maintenance | None = None


def maintenance() -> Maintenance:
    """Return this process's ``Maintenance``, made at the first call."""
    if _Process.maintenance is None:
        _Process.maintenance = Maintenance.from_env()
    return _Process.maintenance


@signals.celeryd_init.connect
def check(sender: str, **_: Any) -> None:
    """Before anything starts: are the settings, the schema and the master key what they must be?"""
    try:
        found = Maintenance.from_env()
        kek_id = found.check()
        found.close()
    except VaultError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    log.info("worker.starting", worker=sender, master_key=kek_id)


@signals.worker_process_shutdown.connect
def close(**_: Any) -> None:
    """Let go of connections and of the spool, and tell the metrics that this process is gone."""
    if os.environ.get(METRICS):
        mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]  # prometheus_client has no annotation here
    if _Process.maintenance is not None:
        _Process.maintenance.close()
        _Process.maintenance = None
