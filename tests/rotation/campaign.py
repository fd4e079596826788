"""Runs one campaign from the first key to the verdict."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.stage import server
from tests.rotation.judge import Verdict, judge
from tests.rotation.killing import Killing
from tests.rotation.plan import ADD_KEK, FINISH, REWRAP, ROTATE, ROTATE_TENANT_KEYS, Plan
from tests.rotation.processes import Running, reader, refresher, start
from tests.rotation.reading import Reading
from tests.rotation.scene import Scene
from vault import DestructionRefused, Maintenance

CHECKOUT = Path(__file__).resolve().parents[2]
RETIRING = ("keys", "rotate-tenant-keys", "--older-than-days", "30")
Say = Callable[[str], object]


@dataclass
class Report:
    """What a campaign came to."""

    plan: Plan
    killing: Killing
    enough: bool
    """Whether as many were killed as was planned."""
    deaths: Counter[str]
    reading: Reading
    refreshing: Counter[str]
    verdict: Verdict
    left: dict[str, int]
    """What the proof queries count; all of it must be 0."""
    made: dict[str, int]
    """Keys there were, and what became of them."""
    audited: bool
    """Whether ``evergrant keys verify`` passed at the end."""
    seconds: float
    log: list[str] = field(default_factory=list)
    """What the commands said, if something was found."""

    @property
    def passed(self) -> bool:
        """Whether nothing was found that must not be."""
        verdict, nothing = self.verdict, not any(self.left.values())
        well = self.audited and nothing and not (self.killing.failed or self.reading.failed)
        kept = verdict.values == 2 * self.plan.connections and not (verdict.undecryptable or verdict.wrong)
        worked = self.refreshing["refreshed"] > 0 and self.reading.reads > 0
        ended = self.made.get("data keys", 0) > 0
        return self.enough and well and kept and worked and ended and not verdict.wrong_reads

    @property
    def took(self) -> tuple[float, float, float]:
        """Milliseconds a read took: the median, the 99th hundredth, the longest."""
        hundredths = statistics.quantiles(self.reading.took, n=100)
        return hundredths[49] * 1000, hundredths[98] * 1000, max(self.reading.took) * 1000


def run(plan: Plan, say: Say) -> Report:
    """Run a campaign; ``say`` is told how far it is."""
    with ExitStack() as stack:
        postgres, home = stack.enter_context(server())
        scene = Scene(plan, postgres, home)
        stack.callback(scene.close)
        say(f"{plan.name}: {len(scene.grants)} connections under {plan.tenants} tenants")
        began = time.monotonic()
        killing = Killing(plan, scene.environment, home)
        known = {grant.id: (grant.tenant, grant.access_token) for grant in scene.grants}
        reading = _started(stack, start(reader, scene.environment, known, plan.reads_per_second))
        refreshing = _started(stack, start(refresher, scene.environment, list(known), plan.refreshes_per_second))
        with _told(say, plan, killing):
            enough = killing.run()
        say(f"{plan.name}: {killing.kills.total()} killed; now undisturbed")
        refreshed = _finish(scene, killing, refreshing)
        made = _end_old_keys(scene, killing)
        read: Reading = reading.stop()
        seconds = time.monotonic() - began
        say(f"{plan.name}: looking at every value")
        verdict, audited, left = judge(scene, read.changes), _verified(scene), _left(scene)
        report = Report(
            plan, killing, enough, killing.at_points(), read, refreshed, verdict, left, made, audited, seconds
        )
        if not report.passed:
            report.log = killing.log.read_text(errors="replace").splitlines()
        return report


def _started(stack: ExitStack, running: Running) -> Running:
    stack.callback(running.kill)
    running.line.recv()
    return running


@contextmanager
def _told(say: Say, plan: Plan, killing: Killing) -> Iterator[None]:
    """Say how far it is, every ten seconds."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(10):
            say(f"{plan.name}: {killing.kills.total()} killed, {killing.finished.total()} came to their end")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _finish(scene: Scene, killing: Killing, refreshing: Running) -> Counter[str]:
    """Rotate everything once undisturbed, and, when nothing is refreshed any more, re-seal what refreshes left."""
    for words in (ADD_KEK, REWRAP, ROTATE_TENANT_KEYS, ROTATE):
        killing.undisturbed(*words)
    done: Counter[str] = refreshing.stop()
    killing.undisturbed(*FINISH)
    killing.undisturbed(*REWRAP)
    return done


def _end_old_keys(scene: Scene, killing: Killing) -> dict[str, int]:
    """Retire, destroy and remove every key that is said to be needed no more: what needs one after all will not open.

    A day passes for the keys, after which no answer under a replaced one can be on its way.
    """
    with scene.stage.connect() as database:
        for table in ("data_key", "tenant_key"):
            database.execute(f"UPDATE evergrant.{table} SET replaced_at = replaced_at - interval '26 h'".encode())
    killing.undisturbed(*FINISH)
    killing.undisturbed(*RETIRING)
    worker = Maintenance.from_env(scene.environment)
    keys = worker.keys
    keys.verify()
    former = [name for name, in_use in keys.local_keks().items() if not in_use]
    try:
        ended = keys.destroy(datetime.now(UTC))
        for name in former:
            keys.remove_local_kek(name)
    except DestructionRefused as refusal:  # the verdict will say why
        return {str(refusal): 0}
    finally:
        worker.close()
    return {"data keys": ended.data_keys, "tenant keys": ended.tenant_keys, "master keys": len(former)}


def _left(scene: Scene) -> dict[str, int]:
    worker = Maintenance.from_env(scene.environment)
    left = {
        "tenant keys under former master keys": worker.keys.under_former_keks(),
        "rows under replaced data keys": worker.keys.under_replaced_data_keys(),
    }
    worker.close()
    query = (
        b"SELECT count(*) FROM evergrant.data_key d JOIN evergrant.tenant_key t ON t.id = d.tenant_key_id"
        b" WHERE t.state <> 'current' AND d.state <> 'destroyed'"
    )
    with scene.stage.connect() as database:
        row = database.execute(query).fetchone()
    left["data keys under replaced tenant keys"] = row[0] if row else -1
    return left


def _verified(scene: Scene) -> bool:
    """Whether every value opens, as an operator would ask: by the command line, in a process of its own."""
    words = [sys.executable, "-m", "vault.cli", "keys", "verify"]
    environment = {**os.environ, **scene.environment}
    return subprocess.run(words, cwd=CHECKOUT, env=environment, capture_output=True, check=False).returncode == 0
