"""Programs that run beside the demo, each under a keeper of its own, and the supervisor that restarts dead ones."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM
from types import TracebackType
from typing import Final, Self

from tests.demo.home import Home
from vault.testing._process import Keeper, ServerError

POLL: Final = 0.1  # seconds between two looks of the supervisor
METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"


class Service:
    """One program: started, killed, stopped and started again; its output goes to a log in the home.

    Each life has a metrics directory of its own: Celery workers empty theirs when they start, and what a killed process
    has counted must not be lost with it.
    """

    def __init__(
        self, home: Home, name: str, argv: Sequence[str], env: Mapping[str, str], *, patience: float = 5.0
    ) -> None:
        """Make the keeper; nothing runs yet.

        Args:
            home: Where the log and the metrics go.
            name: Of the program, and of its directory.
            argv: Program and arguments.
            env: Its whole environment.
            patience: Seconds between SIGTERM and SIGKILL when it is stopped.
        """
        self.name, self._argv, self._env = name, argv, dict(env)
        self._metrics = home.path / "metrics"
        self._keeper = Keeper(home.path / "services" / name, stop=((SIGTERM, patience),))
        home.outlive(self._keeper.scratch)
        self._turn = threading.Lock()
        self._said_before = 0
        self.wanted = False
        self.starts = 0
        self.pid = 0

    @property
    def log(self) -> Path:
        """Everything it wrote, of all its lives."""
        return self._keeper.home / "log"

    @property
    def running(self) -> bool:
        """Whether the process exists."""
        return self._keeper.pid() is not None

    def start(self) -> None:
        """Start it; from now on the supervisor sees to it that it runs."""
        self.wanted = True
        self.revive()

    def revive(self) -> bool:
        """Start it if it is to run and does not; True if that was the case."""
        with self._turn:
            if not self.wanted or self.running:
                return False
            self.starts += 1
            metrics = self._metrics / f"{self.name}-{self.starts}"
            metrics.mkdir(parents=True)
            self._said_before = self.log.stat().st_size
            self.pid = self._keeper.start(self._argv, {**self._env, METRICS: str(metrics)})
            return True

    def crash(self) -> None:
        """SIGKILL it and all its children at once."""
        self._keeper.crash()

    def freeze(self) -> None:
        """SIGSTOP it and all its children."""
        self._keeper.signal(SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT it and all its children."""
        self._keeper.signal(SIGCONT)

    def finish(self) -> None:
        """Ask it to end, insist if need be; the supervisor will start it again."""
        self._keeper.stop()

    def stop(self) -> None:
        """Let it end and stay so."""
        with self._turn:
            self.wanted = False
        self._keeper.stop()

    def close(self) -> None:
        """Stop it for good."""
        self.wanted = False
        with contextlib.suppress(ServerError):
            self._keeper.close()

    def discard(self) -> None:
        """End it at once and for good."""
        self.wanted = False
        with contextlib.suppress(ServerError):
            self._keeper.crash()
        self.close()

    def has_said(self, words: bytes) -> bool:
        """Whether its log holds these words since it was last started."""
        with self.log.open("rb") as log:
            log.seek(self._said_before)
            return words in log.read()

    def last_words(self, size: int = 800) -> str:
        """The end of its log."""
        return self._keeper.log_tail(size)


class Supervisor:
    """A thread that starts what is wanted and dead, as systemd or Kubernetes would."""

    def __init__(self, services: Sequence[Service]) -> None:
        """Nothing is watched before `start`."""
        self._services = services
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self.restarts = 0

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching; what runs goes on running."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _watch(self) -> None:
        while not self._ended.wait(POLL):
            for service in self._services:
                with contextlib.suppress(ServerError):  # closed at this very moment
                    self.restarts += service.revive()


def run(home: Home, name: str, argv: Sequence[str], env: Mapping[str, str]) -> str:
    """Run a command to its end and return what it wrote.

    Raises:
        ServerError: It ended with another exit code than 0; the message ends with its last words.
    """
    metrics = home.path / "metrics" / f"{name}-{time.monotonic_ns()}"
    metrics.mkdir(parents=True)
    keeper = Keeper(home.path / "services" / name, stop=((SIGTERM, 2.0),))
    home.outlive(keeper.scratch)
    try:
        code = keeper.run(argv, {**env, METRICS: str(metrics)})
        output = (keeper.home / "log").read_text(errors="replace")
    finally:
        keeper.close()
    if code != 0:
        raise ServerError(f"{name} ended with exit code {code}:\n{output[-2000:]}")
    return output
