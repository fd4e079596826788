"""Everything that runs: PostgreSQL, Redis, a provider, workers, beat; started in order, stopped in reverse."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NoReturn, Self

from tests.demo import services
from tests.demo.home import Home
from tests.demo.services import Service, Supervisor
from tests.simulator import SimulatorProcess
from tests.simulator.config import ProviderConfig
from vault import Maintenance
from vault.testing.servers import EmbeddedPostgres, EmbeddedRedis

CHECKOUT: Final = Path(__file__).resolve().parents[2]
PROVIDER: Final = "acme"
REPLAY_WINDOW: Final = 30.0
REDIRECT_URI: Final = "http://127.0.0.1:9/callback"  # nobody listens there: the client reads the redirect itself
PATIENCE: Final = 10.0  # seconds between SIGTERM and SIGKILL: a worker ends what is in flight first
WORKER_OPTIONS: Final = (
    "-c",
    "2",
    "-l",
    "INFO",
    "--without-mingle",
    "--without-gossip",
)  # neither is needed; up sooner


@dataclass(frozen=True)
class Scale:
    """How an hour of a token's life is squeezed into seconds; the parts keep their proportions.

    A refresh is due at 57 % of the life. What a killed worker had claimed is free again after the lease, 30 % of the
    life later, and is found by the next scan: so a token outlives the death of the worker that was to replace it.
    """

    token_life: float = 15.0
    rotation: Literal["grace", "strict"] = "grace"

    @property
    def scan(self) -> float:
        """Seconds between looks for due rows."""
        return self.token_life / 15

    def simulated(self) -> dict[str, Any]:
        """The provider, as the simulator is told."""
        profile = {"mode": self.rotation, "access_token_life": self.token_life, "replay_window": REPLAY_WINDOW}
        return {"rotation": profile}

    @property
    def latency(self) -> float:
        """The least seconds the provider thinks about an answer once everybody is connected."""
        return self.token_life / 50

    @property
    def jitter(self) -> float:
        """The most seconds it takes longer than that."""
        return self.token_life / 75

    def settings(self) -> dict[str, str]:
        """The times, as the vault is told."""
        life = self.token_life
        return {
            "VAULT_SCAN_INTERVAL_S": f"{self.scan:.2f}",
            "VAULT_REFRESH_MARGIN_S": f"{life * 0.43:.2f}",
            "VAULT_REQUEST_DEADLINE_S": f"{life / 10:.2f}",
            "VAULT_REFRESH_RETRY_DELAY_S": f"{life / 15:.2f}",
        }


class Stack:
    """The running system. Enter it to start the servers; then start the services wanted."""

    def __init__(self, scale: Scale) -> None:
        """Nothing starts before the stack is entered."""
        self.scale = scale
        self._exits = ExitStack()
        self.services: dict[str, Service] = {}
        self.supervisor = Supervisor(())

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            self.home = exits.enter_context(Home())
            self.simulator = exits.enter_context(
                SimulatorProcess(self.home.path / "provider.jsonl", {PROVIDER: self.scale.simulated()}, seed=1)
            )
            self.postgres = exits.enter_context(EmbeddedPostgres.start())
            self.redis = exits.enter_context(EmbeddedRedis.start())
            self.settings = self._settings()
            self._make_schema()
            exits.callback(self._stop_services)
            self._exits = exits.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._exits.close()

    @property
    def env(self) -> dict[str, str]:
        """The environment of every process: ours, without any VAULT_ setting of the person who runs this."""
        foreign = ("VAULT_", "FLOWER_", "CELERY_", services.METRICS)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        path = os.pathsep.join(filter(None, (str(CHECKOUT), inherited.get("PYTHONPATH"))))
        return {**inherited, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **self.settings}

    def run(self, name: str, module: str, *arguments: str) -> str:
        """Run a module as a program to its end; returns what it wrote. Raises ``ServerError``."""
        return services.run(self.home, name, [sys.executable, "-m", module, *arguments], self.env)

    def start(self, name: str, module: str, *arguments: str, env: Mapping[str, str] | None = None) -> Service:
        """Start a module as a service."""
        argv = [sys.executable, "-m", module, *arguments]
        settings = {**self.env, **(env or {})}
        service = self.services[name] = Service(self.home, name, argv, settings, patience=PATIENCE)
        service.start()
        return service

    def start_workers(self, count: int = 2) -> None:
        """Start workers and beat, and what restarts them."""
        for number in range(1, count + 1):
            name = f"worker-{number}"
            self.start(name, "celery", "-A", "worker", "worker", "-n", f"{name}@%h", *WORKER_OPTIONS)
        self.start("beat", "celery", "-A", "worker", "beat", "-l", "INFO")

    def supervise(self) -> None:
        """From now on restart what dies."""
        self.supervisor = Supervisor(list(self.services.values()))
        self.supervisor.start()

    def keep_logs(self) -> str:
        """Leave the home where it is, and say where."""
        self.home.keep()
        return str(self.home.path)

    def last_words(self) -> dict[str, str]:
        """What each service wrote last."""
        words = {name: service.last_words() for name, service in self.services.items()}
        return {name: said for name, said in words.items() if said}

    def exports(self) -> str:
        """The settings, for a shell."""
        return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in self.settings.items())

    @property
    def keyring(self) -> Path:
        """The file with the master keys."""
        return self.home.path / "keyring.json"

    def _make_schema(self) -> None:
        maintenance = Maintenance.from_env(self.settings)
        maintenance.upgrade_schema()
        maintenance.close()

    def _stop_services(self) -> None:
        """Without good-byes: everything they work on goes with them."""
        self.supervisor.close()
        with ThreadPoolExecutor(max(1, len(self.services))) as pool:
            list(pool.map(Service.discard, self.services.values()))

    def _settings(self) -> dict[str, str]:
        config = ProviderConfig()
        providers = self.home.path / "providers.toml"
        endpoints = {f"{name}_uri": self.simulator.uri(PROVIDER, name) for name in ("authorize", "token", "revoke")}
        rows = {**endpoints, "issuer": f"{self.simulator.base_uri}/{PROVIDER}", "rotation": self.scale.rotation}
        lines = [f'{name} = "{value}"' for name, value in rows.items()]
        providers.write_text("\n".join([f"[{PROVIDER}]", *lines, f"replay_window_s = {REPLAY_WINDOW}", ""]))
        return {
            "VAULT_DATABASE_URL": self.postgres.url,
            "VAULT_REDIS_URL": self.redis.url,
            "VAULT_HOME": str(self.home.path),
            "VAULT_KEK_URI": f"local:{self.keyring}",
            "VAULT_PROVIDERS": str(providers),
            "VAULT_INSECURE_HOSTS": "127.0.0.1",
            "VAULT_REDIRECT_URI": REDIRECT_URI,
            f"VAULT_CLIENT_{PROVIDER.upper()}_ID": config.client_id,
            f"VAULT_CLIENT_{PROVIDER.upper()}_SECRET": config.client_secret,
            **self.scale.settings(),
        }


def leave_on_signals() -> None:
    """Let SIGTERM and SIGHUP end this program as Ctrl-C does: with everything stopped that was started."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)


def _leave(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)
