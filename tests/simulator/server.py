"""Running the simulator: in a thread of this process, or in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.simulator.application import SimulatorApplication
from tests.simulator.control import Steering
from tests.simulator.loop import Loop
from tests.simulator.oracle import Oracle

Providers = dict[str, dict[str, Any]]
_CHECKOUT = Path(__file__).resolve().parents[2]


class Simulator(Steering):
    """A simulator in a thread of this process, for tests.

    with Simulator({"spotify": {"rotation": {"mode": "strict"}}}) as simulator:
        [answer] = simulator.grant("spotify", "alice")
        requests.post(simulator.uri("spotify", "token"), data={…})
        assert simulator.oracle().alive("alice")
    """

    def __init__(
        self,
        providers: Providers | None = None,
        log: Path | None = None,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Start listening; requests are answered once the context is entered.

        Args:
            providers: name to members of `ProviderConfig`; one called `simple` with the defaults if None.
            log: the journal's file; None keeps it in memory.
            seed: decides faults and jitter.
            host: address to listen on.
            port: 0 for any free one.
        """
        self.application = SimulatorApplication({"simple": {}} if providers is None else providers, log, seed)
        self._loop = Loop(self.application, host, port)
        super().__init__(f"http://{self._loop.host}:{self._loop.port}", log)
        self.application.base_uri = self.base_uri
        self._thread = threading.Thread(target=self._loop.run, name="simulator", daemon=True)

    def oracle(self) -> Oracle:
        """An oracle that goes on reading this simulator's journal."""
        return Oracle(self.log or self.application.journal.lines, clock=self.application.now)

    def __enter__(self) -> Simulator:
        """Start answering."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop, and wait until every line of the journal is written."""
        self.close()
        self.stop()
        self._thread.join(10)
        self.application.journal.close()

    def serve(self) -> None:
        """Answer in this very thread until stopped, instead of entering the context."""
        self._loop.run()
        self.application.journal.close()

    def stop(self) -> None:
        """Stop answering soon; callable from any thread and from signal handlers."""
        self._loop.stop()

    def stop_with(self, descriptor: int) -> None:
        """Stop when this file descriptor becomes readable or reaches its end."""
        self._loop.watch(descriptor)


class SimulatorProcess(Steering):
    """A simulator in a process of its own, for benchmarks and chaos; it ends when its parent does."""

    def __init__(self, log: Path, providers: Providers | None = None, seed: int = 0, port: int = 0) -> None:
        """Start the process and wait for its ready line.

        Raises:
            RuntimeError: it did not start; its standard error says why.
        """
        command = [sys.executable, "-m", "tests.simulator", "--port", str(port), "--log", str(log.resolve())]
        command += ["--seed", str(seed), "--until-stdin-closes", "--config", "-"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_CHECKOUT)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(providers or {"simple": {}}).encode() + b"\n")
        self.process.stdin.flush()
        ready = self.process.stdout.readline()
        if not ready:
            raise RuntimeError(f"the simulator ended with status {self.process.wait()}")
        super().__init__(json.loads(ready)["base_uri"], log)

    def kill(self) -> None:
        """End it with SIGKILL, as a machine failure would."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Stop the process and wait for it."""
        super().close()
        self.process.communicate(timeout=10)
