"""What a campaign runs against: real PostgreSQL and Redis, the provider simulator, real Celery processes."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.chaos.failpoints import VARIABLE
from tests.chaos.plan import Plan
from tests.demo.flower import Flower
from tests.demo.home import Home
from tests.demo.services import Service, Supervisor
from tests.simulator import SimulatorProcess
from vault import Maintenance, Vault
from vault.testing.servers import EmbeddedPostgres, EmbeddedRedis

PROVIDER = "acme"
MAX_BEATS = 3
REDIRECT = "http://127.0.0.1:9/callback"


class Stack:
    """Everything, started; closing it stops everything."""

    def __init__(self, plan: Plan, home: Home) -> None:
        self.plan, self.home = plan, home
        self.switch, self.deaths = home.path / "failpoints.on", home.path / "deaths"
        self.postgres = EmbeddedPostgres.start(home.path / "pg", durable=True)
        self.redis = EmbeddedRedis.start(home.path / "redis")
        rotation = {**plan.rotation, "access_token_life": plan.token_life}
        self.journal = home.path / "provider.jsonl"
        self.provider = SimulatorProcess(log=self.journal, providers={PROVIDER: {"rotation": rotation}}, seed=1)
        self.environ = self._environ()
        maintenance = Maintenance.from_env(self.environ)
        maintenance.upgrade_schema()
        maintenance.close()
        self.vault = Vault.from_env(self.environ)
        self.workers = [self._celery(f"worker-{n}", "tests.chaos.worker", self._worker(n)) for n in range(plan.workers)]
        self.beats = [self._celery(f"beat-{n}", "worker", self._beat(n)) for n in range(MAX_BEATS)]
        self.flower = Flower.new()
        self.watcher = self._program("flower", ["worker.flower"], self.flower.environment())
        self.supervisor = Supervisor([*self.workers, *self.beats, self.watcher])

    def _environ(self) -> dict[str, str]:
        rotation = self.plan.rotation
        uris = {f"{name}_uri": self.provider.uri(PROVIDER, name) for name in ("authorize", "token", "revoke")}
        table = {
            **uris, "rotation": rotation["mode"],
            "replay_window_s": rotation.get("replay_window", 0.0),
        }  # fmt: skip
        providers = self.home.path / "providers.toml"
        lines = [f"[{PROVIDER}]", *(f"{name} = {json.dumps(value)}" for name, value in table.items())]
        providers.write_text("\n".join(lines))
        return {
            "VAULT_DATABASE_URL": self.postgres.url, "VAULT_REDIS_URL": self.redis.url,
            "VAULT_HOME": str(self.home.path / "vault"), "VAULT_PROVIDERS": str(providers),
            "VAULT_INSECURE_HOSTS": "127.0.0.1", "VAULT_CLIENT_ACME_ID": "evergrant",
            "VAULT_CLIENT_ACME_SECRET": "cnry-cs-simulator", "VAULT_REDIRECT_URI": REDIRECT,
            "VAULT_SCAN_INTERVAL_S": "1", "VAULT_REQUEST_DEADLINE_S": "2", "VAULT_REFRESH_RETRY_DELAY_S": "1",
            "VAULT_REFRESH_RETRY_CAP_S": "4", "VAULT_QUARANTINE_WAIT_S": "5", "VAULT_HEALTH_INTERVAL_S": "5",
            "VAULT_CLEANUP_INTERVAL_S": "5", "VAULT_GET_DEADLINE_S": "1",
        }  # fmt: skip

    def _celery(self, name: str, app: str, arguments: list[str]) -> Service:
        chaos = {"switch": str(self.switch), "deaths": str(self.deaths), "odds": self.plan.odds}
        return self._program(name, ["celery", "-A", app, *arguments], {VARIABLE: json.dumps(chaos)})

    def _program(self, name: str, module: list[str], more: dict[str, str]) -> Service:
        root = Path(__file__).resolve().parents[2]
        environ = {**os.environ, **self.environ, **more, "PYTHONPATH": str(root), "C_FORCE_ROOT": "1"}
        return Service(self.home, name, [sys.executable, "-m", *module], environ, patience=20.0)

    def _worker(self, number: int) -> list[str]:
        return ["worker", "--concurrency", "2", "--hostname", f"w{number}@%h", "--loglevel", "INFO"]

    def _beat(self, number: int) -> list[str]:
        return ["beat", "--schedule", str(self.home.path / f"beat-{number}.db"), "--pidfile=", "--loglevel", "INFO"]

    def __enter__(self) -> Self:
        for service in (*self.workers, *self.beats[: self.plan.beats], self.watcher):
            service.start()
        self.supervisor.start()
        return self

    def rest(self) -> None:
        """Let every Celery process end in good order: what is looked at next does not move any more."""
        self.supervisor.close()
        for services in (self.beats, (*self.workers, self.watcher)):
            with ThreadPoolExecutor() as hands:  # each takes its time, and needs nobody else for it
                list(hands.map(Service.stop, services))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.supervisor.close()
        for service in (*self.workers, *self.beats, self.watcher):
            service.close()
        self.vault.close()
        self.provider.close()
        self.redis.close()
        self.postgres.close()
