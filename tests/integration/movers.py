"""Processes that move grants and come to grief at a named point, or whenever somebody kills them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from vault import Maintenance, Migration, Secret
from vault.sources.sql import SqlSource
from vault.store.migration import PostgresMigration

POINTS: Mapping[str, tuple[type, str]] = {
    "known": (PostgresMigration, "known"),
    "keys": (PostgresMigration, "add_data_keys"),
    "adopt": (PostgresMigration, "adopt"),
    "stored": (PostgresMigration, "stored"),
    "clear": (SqlSource, "clear"),
    "cleared": (PostgresMigration, "cleared"),
    "read": (SqlSource, "batch"),
}
SIDES = ("before", "after")
COLUMNS = {"owner": "user_id", "refresh_token": "rt", "access_token": "at"}


def move(environment: Mapping[str, str], url: str, table: str, point: str = "", at: int = 0) -> None:
    """Move and clear; die before or after the ``at``-th call of a point, if one is named."""
    if point:
        side, _, name = point.partition(":")
        owner, method = POINTS[name]
        setattr(owner, method, _deadly(getattr(owner, method), side, at))
    plan = Migration.planned(
        columns=COLUMNS, constants={"provider": "acme"}, url=Secret(url), table=table, clear=True
    )  # fmt: skip
    worker = Maintenance.from_env(environment)
    done = worker.migrate(plan, batch=1)  # ten are read at once
    worker.close()
    assert done.failed == 0, done.errors


def _deadly(call: Callable[..., Any], side: str, at: int) -> Callable[..., Any]:
    left = [at]

    def reached(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and side == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*args, **kwargs)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return reached
