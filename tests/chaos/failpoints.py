"""Named points at which a worker dies: wrapped around the ports, so that the code under test knows nothing of them.

A process that reaches a point writes its name to a file and is gone by SIGKILL, with a probability from the
environment, for as long as the switch file exists.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vault.engine.tools import Tools

VARIABLE = "EVERGRANT_CHAOS"
BEFORE, AFTER = "before", "after"
POINTS = (
    "before:claim", "after:claim", "before:start", "after:start", "before:answer", "before:append", "after:append",
    "before:settle", "after:settle", "before:done", "before:settle_late", "after:settle_late", "before:condemn",
    "after:condemn", "before:adopt", "after:adopt",
)  # fmt: skip


class Failpoints:
    """Decides whether this process dies here."""

    def __init__(self, switch: Path, deaths: Path, odds: dict[str, float]) -> None:
        self._switch, self._deaths, self._odds = switch, deaths, odds
        self._random = random.Random(os.urandom(8))

    @classmethod
    def from_env(cls) -> Failpoints | None:
        """Read the plan of this process; None: there is none."""
        plan = json.loads(os.environ.get(VARIABLE, "null"))
        return plan and cls(Path(plan["switch"]), Path(plan["deaths"]), plan["odds"])

    def reach(self, name: str) -> None:
        """Die here, or go on."""
        if self._random.random() < self._odds.get(name, 0.0) and self._switch.exists():
            with self._deaths.open("a") as file:
                file.write(f"{name} {os.getpid()}\n")
            os.kill(os.getpid(), signal.SIGKILL)


class _Port:
    """A port whose named methods can be the last thing a process does."""

    def __init__(self, port: Any, points: Failpoints, methods: dict[str, str]) -> None:
        self._port, self._points, self._methods = port, points, methods

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._port, name)
        point = self._methods.get(name)
        return self._wrapped(value, point) if point else value

    def _wrapped(self, call: Callable[..., Any], point: str) -> Callable[..., Any]:
        def reached(*args: Any, **kwargs: Any) -> Any:
            self._points.reach(f"{BEFORE}:{point}")
            result = call(*args, **kwargs)
            self._points.reach(f"{AFTER}:{point}")
            return result

        return reached


class _Transport(_Port):
    """A transport after which a process may die with an answer in its hands."""

    def poll(self, timeout: Any) -> Any:
        ended = self._port.poll(timeout)
        for _ in ended:
            self._points.reach(f"{BEFORE}:answer")
        return ended


def wrapped(tools: Tools) -> Tools:
    """Return the engine's tools with their deaths built in, if this process has a plan."""
    points = Failpoints.from_env()
    if points is None:
        return tools
    store = {name: name for name in ("claim", "settle", "settle_late", "condemn", "adopt")}
    spool = {"append": "append", "done": "done"}
    replaced: Any = {
        "store": _Port(tools.store, points, store),
        "transport": _Transport(tools.transport, points, {"start": "start"}),
        "spool": _Port(tools.spool, points, spool),
    }
    return tools._replace(**replaced)
