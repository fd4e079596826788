"""Data keys replaced and values sealed anew, beside PostgreSQL doing no more than the writes of it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO, Final, NamedTuple

from tests.benchmarks.keys.writes import Writes
from tests.benchmarks.measure import Effort
from tests.benchmarks.report import Figure, Section, at_least, at_most
from tests.benchmarks.stage import PROVIDER, Stage, server
from vault import settings as vault_settings
from vault.engine.sweep import BATCH, Progress
from vault.store.data_keys import PostgresDataKeys
from vault.wiring import Wiring

ACCESS_BYTES = 2048
ROWS, ROUNDS = 2_000, 7
SHARED_ROWS, SHARED_ROUNDS = 10_000, 3
NONE_SO_OLD: Final = timedelta(days=36_500)
FLAT_OUT = {"VAULT_ROTATION_RATE": "1e9"}
_CHECKOUT = Path(__file__).resolve().parents[3]


def run(effort: Effort) -> list[Section]:
    """Measure."""
    with server() as (postgres, home):
        ours, theirs = Stage(postgres, home), Stage(postgres, home)
        rows = effort.of(ROWS, least=BATCH)
        for stage in (ours, theirs):
            _populate(stage, rows * 4)
        alone = _beside_the_limit(ours, theirs, rows, effort)
        shared = Stage(postgres, home)
        _populate(shared, effort.of(SHARED_ROWS, least=2 * BATCH))
        return [alone, _in_two_processes(shared, effort)]


def _populate(stage: Stage, owners: int) -> None:
    """Connect owners who came in the course of two months, one by one."""
    stage.populate(owners, access_bytes=ACCESS_BYTES)
    with stage.connect() as connection:
        connection.execute("UPDATE evergrant.data_key SET created_at = now() - random() * interval '60 days'")
        connection.execute("VACUUM (FULL, ANALYZE) evergrant.data_key")


def _a_day_later(stage: Stage) -> None:
    """Retire the keys that were replaced, as a day does, and clean up behind them."""
    with stage.connect() as connection:
        connection.execute(
            "UPDATE evergrant.data_key SET state = 'retired', retired_at = now() WHERE state = 'previous'"
        )
        connection.execute("VACUUM ANALYZE evergrant.data_key")
        connection.execute("VACUUM evergrant.oauth_grant")


class Sweeps:
    """A populated database, and rotations of so many of its rows. Each returns the seconds it took."""

    def __init__(self, stage: Stage) -> None:
        self._wiring = Wiring(vault_settings.load({**stage.environment, **FLAT_OUT}))
        self._store = PostgresDataKeys(self._wiring.database)

    def all(self, rows: int) -> float:
        """Replace the oldest data keys, and re-seal what stands under them."""
        return self._timed(
            rows, lambda report: self._wiring.keys.data_key_rotation.run(timedelta(0), report, limit=rows)
        )

    def reseal(self, rows: int) -> float:
        """Re-seal what stands under keys that were replaced before."""
        keyring, above = self._wiring.keys.keyring, self._wiring.keys.keyring.current_tenant_key("default")
        olds = self._store.data_keys_older_than(timedelta(0), rows, None)
        news = [keyring.new_data_key(old.tenant, old.owner, PROVIDER, under=above) for old in olds]
        self._store.replace_data_keys(list(zip(olds, news, strict=True)))
        return self._timed(rows, lambda report: self._wiring.keys.data_key_rotation.run(NONE_SO_OLD, report))

    def rewrap(self, rows: int) -> float:
        """Replace the tenant key, and rewrap every data key there is: returns what so many of them took."""
        reports = list[Progress]()
        began = time.perf_counter()
        self._wiring.keys.tenant_key_rotation.run(timedelta(0), reports.append)
        return (time.perf_counter() - began) * rows / reports[-1].rows

    def close(self) -> None:
        """Close the connections."""
        self._wiring.close()

    @staticmethod
    def _timed(rows: int, act: Callable[[Callable[[Progress], object]], object]) -> float:
        reports = list[Progress]()
        began = time.perf_counter()
        act(reports.append)
        took = time.perf_counter() - began
        if reports[-1].rows != rows:
            raise RuntimeError(f"{reports[-1]} instead of {rows} rows")
        return took


def _beside_the_limit(ours: Stage, theirs: Stage, rows: int, effort: Effort) -> Section:
    sweeps, writes = Sweeps(ours), Writes(theirs, ACCESS_BYTES)
    pairs: Mapping[str, tuple[Callable[[int], float], Callable[[int], float]]] = {
        "data keys replaced and values re-sealed": (sweeps.all, writes.all),
        "values re-sealed": (sweeps.reseal, writes.reseal),
        "data keys under a new tenant key": (sweeps.rewrap, writes.rewrap),
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in pairs}
    for _ in range(effort.of(ROUNDS, least=2)):
        for name, (sweep, write) in pairs.items():
            took[name].append((sweep(rows), write(rows)))
            _a_day_later(ours)
            _a_day_later(theirs)
    sweeps.close()
    writes.close()
    figures = []
    for name, seconds in took.items():
        ratio = statistics.median(limit / ours for ours, limit in seconds)
        mine, limit = (rows / statistics.median(column) for column in zip(*seconds, strict=True))
        goal = None if "tenant" in name else at_least(0.55)
        figures += [
            Figure(f"limit: the writes of {name}", limit, "rows/s"),
            Figure(name, mine, "rows/s", ratio, "the limit", goal),
        ]
    return Section("keys", f"Rotation of 2 KB tokens, one process, batches of {BATCH}", figures)


class Swept(NamedTuple):
    """What one shared sweep came to."""

    per_second: float
    cpu_us: float
    """CPU of all sweepers for one row: what one does in vain because another was quicker shows here."""


def _in_two_processes(stage: Stage, effort: Effort) -> Section:
    alone, shared = list[Swept](), list[Swept]()
    for _ in range(effort.of(SHARED_ROUNDS)):
        for processes, found in ((1, alone), (2, shared)):
            found.append(_swept_by(processes, stage))
            _a_day_later(stage)
    faster = statistics.median(two.per_second / one.per_second for one, two in zip(alone, shared, strict=True))
    dearer = statistics.median(two.cpu_us / one.cpu_us for one, two in zip(alone, shared, strict=True))
    one, two = (Swept(*(statistics.median(c) for c in zip(*found, strict=True))) for found in (alone, shared))
    figures = [
        Figure("one process", one.per_second, "rows/s"),
        Figure("… its CPU a row", one.cpu_us, "µs"),
        Figure("two processes", two.per_second, "rows/s", faster, "one", at_least(1.6)),
        Figure("… their CPU a row", two.cpu_us, "µs", dearer, "one", at_most(1.25)),
    ]
    return Section("keys", "The sweep of the data keys, shared", figures)


def _swept_by(processes: int, stage: Stage) -> Swept:
    """Have every data key replaced by so many processes."""
    sweepers = [_sweeper(stage) for _ in range(processes)]
    for sweeper in sweepers:
        assert _of(sweeper.stdout).readline() == "ready\n"
    began = time.monotonic()
    for sweeper in sweepers:
        _of(sweeper.stdin).write("go\n")
        _of(sweeper.stdin).flush()
    told = [json.loads(_of(sweeper.stdout).readline()) for sweeper in sweepers]
    for sweeper in sweepers:
        sweeper.communicate()
    keys = sum(each["keys"] for each in told)
    took = max(each["ended"] for each in told) - began
    return Swept(keys / took, sum(each["cpu"] for each in told) * 1e6 / keys)


def _sweeper(stage: Stage) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.keys.sweeper"]
    environment = {**os.environ, **stage.environment, **FLAT_OUT}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=_CHECKOUT)


def _of(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
