"""Keeps Celery 5.7.0 from tripping over a pool process that died while the connection to Redis was lost.

When the connection is back, Celery has its event loop watch every process of the pool again. One that has just died is
not watched any more, and has no descriptor to be watched by; handing the loop none ends the worker. Such a process is
left alone here: its death was noticed, and the pool replaces it.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from celery.concurrency.asynpool import AsynPool

AFFECTED = "5.7.0"
METHOD = "_track_child_process"
_unguarded = getattr(AsynPool, METHOD)


def _guarded(pool: Any, process: Any, hub: Any) -> None:
    if getattr(process, "_sentinel_poll", hub) is not None:  # never watched yet, or being watched
        _unguarded(pool, process, hub)


def install() -> None:
    """Guard the affected version; others are left alone."""
    if version("celery") == AFFECTED:
        setattr(AsynPool, METHOD, _guarded)
