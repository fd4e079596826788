"""One scene's processes, one after another: each finishes what the one before has left, rotates, and dies."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import psycopg

from tests.simulator import Steering
from tests.webhooks.plan import Plan
from tests.webhooks.processes import KILLED, WARM_UP, Doom, mother, processes
from tests.webhooks.scene import Hook, Scene

ENOUGH = 3
"""Processes of one number that came through before any has died: there is no such point."""
PRUNE_EVERY = 25
PRUNE = (
    "DELETE FROM evergrant.credential_version v USING evergrant.credential c WHERE c.id = %s AND v.credential_id = c.id"
    " AND v.version < c.version - 60"
)
LIFE_S = 60.0


class Death(NamedTuple):
    """A process that died, from its beginning to its end."""

    point: str
    began_at: float
    ended_at: float


class Chain(threading.Thread):
    """Runs through every failpoint of a scene."""

    def __init__(self, scene: Scene, hook: Hook, plan: Plan, home: Path) -> None:
        super().__init__(name=hook.scene, daemon=True)
        self._scene, self._hook, self._plan = scene, hook, plan
        self._place, self.log = home / f"{hook.scene}.point", home / f"{hook.scene}.log"
        self._simulator = Steering(scene.simulator.base_uri)
        self.deaths: list[Death] = []
        self.through = 0
        """Processes that came to the end of their work."""
        self.problems: list[str] = []
        self.served: dict[str, float] = {}
        """By secret that was replaced: until when it counted."""
        self._versions: dict[int, str] = {}

    @property
    def kills(self) -> Counter[str]:
        """How often a process died at each point."""
        return Counter(death.point for death in self.deaths)

    def run(self) -> None:
        """Go through every point."""
        line, theirs = processes.Pipe()
        arguments = (theirs, dict(self._scene.environment), self._hook.id, self.log)
        process = processes.Process(target=mother, args=arguments, daemon=True)
        process.start()
        try:
            self._go_through(line)
        except EOFError:
            self.problems.append(f"{self._hook.scene}: the mother of all has died")
        finally:
            process.kill()
            process.join(10)

    def _go_through(self, line: Connection) -> None:
        plan = self._plan
        self._one(line, WARM_UP)
        for fatal in count(1, plan.stride):
            died = alive = 0
            while died < plan.kills and (died or alive < ENOUGH) and not self.problems:
                if self._one(line, fatal):
                    died += 1
                else:
                    alive += 1
            if not died:
                break
        self._one(line, 0)

    def _one(self, line: Connection, fatal: int) -> bool:
        """Let one process work; returns whether it died."""
        began_at = time.time()
        line.send(Doom(fatal, self._place, self._plan.overlap, self._plan.undone_life))
        if not line.poll(LIFE_S):
            raise EOFError
        exit_code = line.recv()
        if exit_code == KILLED:
            self.deaths.append(Death(self._place.read_text(), began_at, time.time()))
        elif exit_code == 0:
            self.through += 1
        else:
            self.problems.append(f"{self._hook.scene}: a process ended with {exit_code} at point {fatal}")
        self._look()
        return bool(exit_code == KILLED)

    def _look(self) -> None:
        """Learn which secrets there are, and that the current one is registered; nobody is at work now."""
        vault, hook = self._scene.house.vault, self._hook
        for each in vault.history(hook.id):
            if each.stage in ("current", "previous", "retired") and each.version not in self._versions:
                self._versions[each.version] = vault.credential(hook.id, version=each.version).value.reveal()
            if each.serves_until is not None and each.version in self._versions:
                self.served[self._versions[each.version]] = each.serves_until.timestamp()
        current = self._versions[vault.describe_credential(hook.id).version]
        here = self._registered()
        if hook.of and hook.shape == "stripe" and current not in here:
            self.problems.append(f"{hook.scene}: the current secret's registration is lost")
        if (len(self.deaths) + self.through) % PRUNE_EVERY == 0:
            with psycopg.connect(self._scene.house.database_url, autocommit=True) as database:
                database.execute(PRUNE, (hook.id,))

    def _registered(self) -> set[str]:
        told = self._simulator.hooks(self._scene.far_side)["registered"]
        return {each["secret"] for each in told if self._hook.of in (each["of"], each.get("url"))}

    def left(self) -> list[str]:
        """Say what is not as it should be when all is done."""
        house, hook = self._scene.house, self._hook
        found = []
        if house.sql(
            "SELECT 1 FROM evergrant.credential_rotation WHERE credential_id = %s AND ended_at IS NULL", (hook.id,)
        ):
            found.append("a rotation has not ended")
        steps = "SELECT DISTINCT step FROM evergrant.credential_rotation WHERE credential_id = %s"
        found += [
            f"a rotation ended as {r['step']}"
            for r in house.sql(steps, (hook.id,))
            if r["step"] not in ("done", "failed")
        ]
        stages = Counter(each.stage for each in house.vault.history(hook.id))
        if stages["current"] != 1 or stages["pending"]:
            found.append(f"versions are {dict(stages)}")
        if hook.of and self._registered() != {house.vault.credential(hook.id).value.reveal()}:
            found.append("what is registered at the far side is not the current secret alone")
        return [f"{hook.scene}: {each}" for each in found]
