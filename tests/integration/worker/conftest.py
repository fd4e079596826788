"""A whole system in small: a database, a Redis, a provider, and Celery processes as each test wants them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import psycopg
import pytest

from tests.demo.home import Home
from tests.demo.services import Service
from tests.simulator import Oracle, SimulatorProcess
from tests.simulator.client import consent
from tests.support import stack
from vault import Settings, Vault
from vault.testing.servers import EmbeddedRedis
from worker.sign import Sign

PROVIDER = "acme"
SCAN_S = 1.0
STOP_PATIENCE_S = 30.0
ROOT = Path(__file__).resolve().parents[3]


class System:
    """What the tests steer."""

    def __init__(self, home: Home, database_url: str) -> None:
        self.home = home
        self.redis = EmbeddedRedis.start(home.path / "redis")
        self.journal = home.path / "provider.jsonl"
        rotation = {"mode": "strict", "access_token_life": 600}
        self.provider = SimulatorProcess(log=self.journal, providers={PROVIDER: {"rotation": rotation}}, seed=1)
        providers = home.path / "providers.toml"
        uris = {f"{name}_uri": self.provider.uri(PROVIDER, name) for name in ("authorize", "token", "revoke")}
        lines = [f"[{PROVIDER}]", 'rotation = "strict"', *(f"{name} = {json.dumps(uri)}" for name, uri in uris.items())]
        providers.write_text("\n".join(lines))
        self.environ = {
            "VAULT_DATABASE_URL": database_url, "VAULT_REDIS_URL": self.redis.url,
            "VAULT_HOME": str(home.path / "vault"),
            "VAULT_PROVIDERS": str(providers), "VAULT_INSECURE_HOSTS": "127.0.0.1", "VAULT_CLIENT_ACME_ID": "evergrant",
            "VAULT_CLIENT_ACME_SECRET": "cnry-cs-simulator", "VAULT_REDIRECT_URI": "http://127.0.0.1:9/callback",
            "VAULT_SCAN_INTERVAL_S": str(SCAN_S), "VAULT_REQUEST_DEADLINE_S": "5",
        }  # fmt: skip
        self.vault = Vault.from_env(self.environ)
        self.database = psycopg.connect(database_url, autocommit=True)
        self._services: list[Service] = []

    @property
    def oracle(self) -> Oracle:
        """The provider's own record, as of now."""
        return Oracle(self.journal)

    def celery(self, name: str, *arguments: str) -> Service:
        """A Celery process, not started."""
        return self.python(name, "celery", "-A", "worker", *arguments)

    def python(self, name: str, *arguments: str, **more: str) -> Service:
        """Any module as a process, not started."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("VAULT_", "FLOWER_", "CELERY_"))}
        environ = {**inherited, **self.environ, "PYTHONPATH": str(ROOT), "C_FORCE_ROOT": "1", **more}
        service = Service(self.home, name, [sys.executable, "-m", *arguments], environ, patience=STOP_PATIENCE_S)
        self._services.append(service)
        return service

    def worker(self, name: str = "worker", *options: str, app: str = "worker", **more: str) -> Service:
        """A worker of two processes, ready for work."""
        service = self.start_worker(name, *options, app=app, **more)
        wait_until(lambda: service.has_said(b" ready."), 30, service.last_words)
        return service

    def start_worker(self, name: str = "worker", *options: str, app: str = "worker", **more: str) -> Service:
        """The same, just started."""
        defaults = ["--concurrency", "2", "--hostname", f"{name}@here", "--loglevel", "INFO", "--without-mingle"]
        service = self.python(name, "celery", "-A", app, "worker", *defaults, *options, **more)
        service.start()
        return service

    def signs(self, name: str = "worker") -> tuple[bool, bool]:
        """Whether a worker is live, and whether it is ready, as its probes see it."""
        sign = Sign(Settings.load(self.environ), f"{name}@here")
        return sign.is_live(time.time()), sign.is_ready(time.time())

    def connect(self, count: int) -> list[UUID]:
        """Connect owners."""
        ids = []
        for number in range(count):
            start = self.vault.begin(PROVIDER, owner=f"owner-{number}")
            answer = consent(f"{start.url}&login_hint=owner-{number}")
            ids.append(self.vault.complete(state=answer["state"], code=answer["code"]).id)
        return ids

    def make_due(self) -> None:
        """Make everything due now."""
        self.database.execute("UPDATE evergrant.schedule SET next_at = now()")

    def due(self) -> int:
        """How many connections are due."""
        row = self.database.execute("SELECT count(*) FROM evergrant.schedule WHERE next_at <= now()").fetchone()
        return int(row[0]) if row else 0

    def leased(self) -> bool:
        """Whether anything is in a worker's hands."""
        query = "SELECT 1 FROM evergrant.schedule WHERE lease_until > now() LIMIT 1"
        return self.database.execute(query).fetchone() is not None

    def close(self) -> None:
        """Stop everything."""
        for service in self._services:
            service.discard()
        self.database.close()
        self.vault.close()
        self.provider.close()
        self.redis.close()


class Running(NamedTuple):
    """A system, its one worker, and who is connected."""

    system: System
    worker: Service
    ids: list[UUID]


def wait_until(holds: Callable[[], bool], seconds: float, otherwise: Callable[[], str] = str) -> float:
    """Wait until something holds; returns the seconds it took, and fails with what ``otherwise`` says."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            pytest.fail(f"not so within {seconds} s\n{otherwise()}")
        time.sleep(0.05)  # between two looks at it
    return time.monotonic() - began


@pytest.fixture
def system(database_url: str) -> Iterator[System]:
    """A system of this test's own, for tests that break things; no worker runs yet."""
    with _system(database_url) as system:
        yield system


@pytest.fixture(scope="session")
def running(postgres: stack.DatabaseServer, template_database: str) -> Iterator[Running]:
    """A system of ten owners with a worker, for tests that leave it as it is. Each child process ends after a task."""
    with stack.new_database(postgres, template_database) as url, _system(url) as system:
        ids = system.connect(10)
        yield Running(system, system.worker("worker", "--max-tasks-per-child", "1"), ids)


@contextmanager
def _system(database_url: str) -> Iterator[System]:
    with Home() as home:
        system = System(home, database_url)
        try:
            yield system
        finally:
            system.close()
