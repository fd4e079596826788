"""What is done to the stack: each act is short, and undone by the stack itself or at the end of the act."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import psutil
import redis

from tests.chaos.stack import MAX_BEATS, Stack
from tests.demo.services import Service

FREEZE_S = 8.0
"""Past the lease of six seconds."""


class Acts:
    """Does things to a stack and counts them."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self._stack = stack
        self._random = random.Random(seed)
        self._frozen: list[tuple[float, psutil.Process]] = []
        self.done: Counter[str] = Counter()
        self._acts: dict[str, Callable[[], bool]] = {
            "kill_child": self._kill_child, "kill_main": self._kill_main, "freeze_child": self._freeze_child,
            "flush": self._flush, "redis_down": self._redis_down, "redis_frozen": self._redis_frozen,
            "postgres_crash": self._postgres_crash, "beats": self._beats,
        }  # fmt: skip

    def one(self) -> None:
        """Do one act by weight, and wake what has been frozen for long enough."""
        self.thaw(before=time.monotonic())
        weights = self._stack.plan.acts
        if weights:
            name = self._random.choices(list(weights), list(weights.values()))[0]
            self.done[name] += self._acts[name]()

    def thaw(self, before: float = float("inf")) -> None:
        """Wake children whose time is over."""
        for until, child in [entry for entry in self._frozen if entry[0] <= before]:
            self._frozen.remove((until, child))
            if child.is_running():
                child.send_signal(signal.SIGCONT)

    @property
    def kills(self) -> int:
        """Processes killed, by us and at named points."""
        return self.done["kill_child"] + self.done["kill_main"] + self.deaths_at_points().total()

    def deaths_at_points(self) -> Counter[str]:
        """How often a process died at each named point."""
        if not self._stack.deaths.exists():
            return Counter()
        return Counter(line.split()[0] for line in self._stack.deaths.read_text().splitlines())

    def _ready(self) -> Service | None:
        """A worker whose pool is up: Celery gives up one whose first children die, and then only starting is tested."""
        ready = [worker for worker in self._stack.workers if worker.running and worker.has_said(b" ready.")]
        return self._random.choice(ready) if ready else None

    def _child(self) -> psutil.Process | None:
        """A pool process of some worker; none while workers are starting."""
        worker = self._ready()
        if worker is None:
            return None
        try:
            children = [c for c in psutil.Process(worker.pid).children() if c.status() != psutil.STATUS_ZOMBIE]
        except psutil.Error:
            return None
        return self._random.choice(children) if children else None

    def _kill_child(self) -> bool:
        child = self._child()
        if child is None:
            return False
        os.kill(child.pid, signal.SIGKILL)
        return True

    def _kill_main(self) -> bool:
        worker = self._ready()
        if worker is None:
            return False
        worker.crash()
        return True

    def _freeze_child(self) -> bool:
        child = self._child()
        if child is None:
            return False
        child.send_signal(signal.SIGSTOP)
        self._frozen.append((time.monotonic() + FREEZE_S, child))
        return True

    def _flush(self) -> bool:
        with redis.Redis.from_url(self._stack.redis.url, socket_timeout=2) as client:
            client.flushall()
        return True

    def _redis_down(self) -> bool:
        self._stack.redis.crash()
        time.sleep(self._random.uniform(0.5, 3.0))  # the outage itself
        self._stack.redis.restart()
        return True

    def _redis_frozen(self) -> bool:
        self._stack.redis.freeze()
        time.sleep(self._random.uniform(0.5, 3.0))  # the outage itself
        self._stack.redis.thaw()
        return True

    def _postgres_crash(self) -> bool:
        self._stack.postgres.crash()
        time.sleep(self._random.uniform(0.1, 1.0))  # the outage itself
        self._stack.postgres.restart()
        return True

    def _beats(self) -> bool:
        """Run none, one, or three."""
        wanted = self._random.choice([0, 1, MAX_BEATS])
        for number, beat in enumerate(self._stack.beats):
            if number < wanted and not beat.wanted:
                beat.start()
            elif number >= wanted and beat.wanted:
                beat.stop()
        return True
