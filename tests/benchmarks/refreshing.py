"""`engine`: refreshes a second through real Celery worker processes, beside the design everybody writes first.

Ours is what `celery -A worker worker` does, with spool, audit row and every check on; beside it
`tests.benchmarks.naive`. Both talk to the same provider process and the same PostgreSQL and Redis servers. Counted from
the first answer stored to the last.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psycopg
from celery import Celery
from cryptography.fernet import Fernet

from tests.benchmarks.measure import Effort, cpu_seconds
from tests.benchmarks.provider import ProviderProcess
from tests.benchmarks.report import Figure, Section, at_least
from tests.benchmarks.stage import PROVIDER, Stage, server
from tests.simulator import SimulatorProcess
from vault import Maintenance, RefreshScan
from vault.testing.servers import EmbeddedRedis

SIMULATED = "simulated"
DRAINS = 2
NAIVE_PROCESSES = {0: 2, 50: 50, 200: 50}
"""For each provider latency in milliseconds, the pool size that did best."""
SHARE_FOR_LATENCIES = 0.5
"""Slow providers take their time; a quick run leaves them out."""
PATIENCE_S = 120
_CHECKOUT = Path(__file__).resolve().parents[2]


class Pace(NamedTuple):
    """What one run came to."""

    per_second: float
    cpu_us: float
    """CPU of all worker processes for one refresh."""


class Ours:
    """`celery -A worker worker`."""

    def __init__(self, stage: Stage, worker: subprocess.Popen[bytes], drains: int) -> None:
        self._connection = stage.connect()
        self._maintenance = Maintenance.from_env(stage.environment)
        self._worker = worker
        self._drains = drains

    def run(self, count: int, provider: str = PROVIDER) -> Pace:
        """Refresh so many connections of a provider."""
        connection = self._connection
        connection.execute(
            "UPDATE evergrant.schedule SET next_at = now() - random() * interval '5 seconds' WHERE connection_id IN "
            "(SELECT connection_id FROM evergrant.schedule WHERE client = %s LIMIT %s)",
            (provider, count),
        )
        connection.execute("VACUUM evergrant.schedule")
        busy, before = cpu_seconds(self._worker.pid), self._audited()
        for _ in range(self._drains):
            self._maintenance.ring(RefreshScan())
        _wait_until(lambda: self._audited() - before >= count)
        row = connection.execute(
            "SELECT count(*), extract(epoch FROM max(at) - min(at))::float FROM evergrant.audit "
            "WHERE id > %s AND event = 'oauth.refreshed'",
            (before,),
        ).fetchone()
        assert row is not None
        return Pace(row[0] / row[1], (cpu_seconds(self._worker.pid) - busy) / row[0] * 1e6)

    def _audited(self) -> int:
        """How many audit rows were ever written: the sequence knows without counting."""
        row = self._connection.execute("SELECT last_value FROM evergrant.audit_id_seq").fetchone()
        assert row is not None
        return int(row[0])


class Naive:
    """`celery -A tests.benchmarks.naive.app worker`; it gets its messages all at once, before the clock starts."""

    _STORED = (
        "SELECT count(*), extract(epoch FROM max(updated_at) - min(updated_at))::float FROM connections "
        "WHERE updated_at > %s"
    )

    def __init__(self, environment: Mapping[str, str], worker: subprocess.Popen[bytes]) -> None:
        self._connection = psycopg.connect(_libpq(environment["NAIVE_DATABASE_URL"]), autocommit=True)
        self._queue = Celery("naive-producer", broker=environment["NAIVE_REDIS_URL"], set_as_current=False)
        self._worker = worker

    def run(self, count: int) -> Pace:
        """Refresh so many connections."""
        ids = self._connection.execute("SELECT id FROM connections ORDER BY random() LIMIT %s", (count,)).fetchall()
        began = (datetime.now(UTC),)
        busy = cpu_seconds(self._worker.pid)
        self._worker.send_signal(signal.SIGSTOP)
        for (connection_id,) in ids:
            self._queue.send_task("naive.refresh", args=[str(connection_id)])
        self._worker.send_signal(signal.SIGCONT)
        _wait_until(lambda: self._stored(began)[0] >= count)
        done, seconds = self._stored(began)
        return Pace(done / seconds, (cpu_seconds(self._worker.pid) - busy) / done * 1e6)

    def _stored(self, since: tuple[datetime]) -> tuple[int, float]:
        row = self._connection.execute(self._STORED, since).fetchone()
        assert row is not None
        return row[0], row[1]


# ----------------------------------------------------------------------------------------------------------- staging


@contextmanager
def _celery(home: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker until the context ends; what it says is in a file."""
    command = [sys.executable, "-m", "celery", *arguments, "--loglevel", "ERROR"]
    with (home / f"{arguments[1]}.log").open("wb") as sink:
        worker = subprocess.Popen(
            command, cwd=_CHECKOUT, env={**os.environ, **environment}, stdout=sink, stderr=subprocess.STDOUT
        )
        try:
            yield worker
        finally:
            worker.terminate()
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def _naive_tables(stage: Stage, token_uri: str, redis_url: str, rows: int) -> dict[str, str]:
    """Make the peer's table; returns the environment of its worker."""
    fernet = Fernet(key := Fernet.generate_key())
    with stage.connect() as connection:
        connection.execute(
            "CREATE TABLE connections (id uuid PRIMARY KEY, access_token bytea NOT NULL, refresh_token bytea NOT NULL, "
            "expires_at timestamptz NOT NULL, updated_at timestamptz)"
        )
        connection.execute("CREATE INDEX ON connections (expires_at)")
        with connection.cursor().copy("COPY connections FROM STDIN") as sink:
            for _ in range(rows):
                access, refresh = fernet.encrypt(b"a" * 220), fernet.encrypt(b"r" * 100)
                sink.write_row((uuid.uuid4(), access, refresh, datetime.now(UTC), None))
        connection.execute("VACUUM ANALYZE connections")
    return {
        "NAIVE_DATABASE_URL": stage.url.replace("postgresql://", "postgresql+psycopg://"),
        "NAIVE_REDIS_URL": redis_url.removesuffix("0") + "1",
        "NAIVE_TOKEN_URI": token_uri,
        "NAIVE_FERNET_KEY": key.decode(),
        "OAUTHLIB_INSECURE_TRANSPORT": "1",
    }


def _libpq(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


def _wait_until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > until:
            raise RuntimeError(f"not done after {PATIENCE_S} s")
        time.sleep(0.05)


# --------------------------------------------------------------------------------------------------------- measuring


def run(effort: Effort) -> list[Section]:
    """Measure."""
    count, few = effort.of(20_000, least=1000), effort.of(1000, least=100)
    with ExitStack() as stack:
        postgres, home = stack.enter_context(server())
        redis = stack.enter_context(EmbeddedRedis.start())
        provider = stack.enter_context(ProviderProcess())
        simulator = stack.enter_context(SimulatorProcess(home / "simulator.log", {SIMULATED: {}}))
        uris = {PROVIDER: provider.token_uri, SIMULATED: simulator.uri(SIMULATED, "token")}
        stage = Stage(postgres, home, token_uris=uris, redis_url=redis.url)
        stage.populate(count)
        answers = simulator.grant_many(SIMULATED, count // 2)
        stage.populate(count // 2, provider=SIMULATED, refresh_tokens=[a["refresh_token"] for a in answers])
        environment = _naive_tables(stage, provider.token_uri, redis.url, few)

        worker = stack.enter_context(
            _celery(stage.home, ("-A", "worker", "worker", "-c", str(DRAINS)), stage.environment)
        )
        ours = Ours(stage, worker, DRAINS)
        ours.run(min(count, 1000))
        figures = []
        for latency, processes in NAIVE_PROCESSES.items():
            if latency and effort.share < SHARE_FOR_LATENCIES:
                continue
            provider.set_latency(latency)
            pool = ("-A", "tests.benchmarks.naive.app", "worker", "-c", str(processes))
            with _celery(stage.home, pool, environment) as naive_worker:
                naive = Naive(environment, naive_worker)
                naive.run(min(few, 100))
                best = _in_turns({"ours": partial(ours.run, count), "naive": partial(naive.run, few)}, rounds=3)
            figures += _figures(latency, processes, best["ours"], best["naive"])
        pace = ours.run(count // 2, SIMULATED)
        figures.append(
            Figure("ours, with the simulator as provider", pace.per_second, "/s", note="the simulator's pace")
        )
    return [
        Section("engine", "Refreshes through Celery worker processes: claimed, sent, sealed, stored, audited", figures)
    ]


def _in_turns(contenders: Mapping[str, Callable[[], Pace]], rounds: int) -> dict[str, Pace]:
    paces: dict[str, list[Pace]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            paces[name].append(contenders[name]())
    return {name: Pace(*map(statistics.median, zip(*each, strict=True))) for name, each in paces.items()}


def _figures(latency: int, processes: int, ours: Pace, naive: Pace) -> list[Figure]:
    ratio = ours.per_second / naive.per_second
    figures = [
        Figure(f"naive, {processes} processes, provider {latency} ms", naive.per_second, "/s"),
        Figure(
            f"ours, {DRAINS} processes, provider {latency} ms", ours.per_second, "/s", ratio, "naive", at_least(30, 15)
        ),
    ]
    if latency == 0:
        less = naive.cpu_us / ours.cpu_us
        figures.append(
            Figure("… CPU of the workers a refresh", ours.cpu_us, "µs", less, "less than naive", at_least(25))
        )
    return figures
