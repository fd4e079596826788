"""The owner's end of a keeper: start it, give it orders, let it go. See ``_keeper.py`` for the other end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

KEEPER = Path(__file__).resolve().with_name("_keeper.py")
CLOSE_WAIT = 30.0  # seconds the keeper may take to stop its server; longer than all its own patience


class ServerError(RuntimeError):
    """An embedded server could not be found, started or reached; the message says what was tried and what to do."""


class Keeper:
    """A companion process that runs one server and ends it when this process ends, however it ends."""

    def __init__(self, home: Path | None, stop: Sequence[tuple[signal.Signals, float]]) -> None:
        """Start the companion.

        Args:
            home: Directory of the server's files, made when missing, held under a lock; None for a temporary one.
            stop: Signals that ask the server to end, each with the seconds it may take.

        Raises:
            ServerError: The home cannot be made, or another process uses it.
        """
        spec = {"home": None if home is None else str(home.absolute()), "stop": [(int(s), wait) for s, wait in stop]}
        self._turn = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter on our own file
            [sys.executable, "-I", "-S", str(KEEPER), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            start_new_session=True,  # Ctrl-C is for us; the keeper ends when we do
        )
        # With PIPE both exist; the types of Popen cannot say so.
        self._orders, self._answers = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        self.close = weakref.finalize(self, _let_go, self._process, self._orders, self._answers, os.getpid())
        _keepers.add(self)
        answer = self._answer()
        self.home = Path(answer["home"])
        self.scratch = Path(answer["scratch"])

    def run(self, argv: Sequence[str | Path], env: Mapping[str, str]) -> int:
        """Run a short command in the home to its end; the answer is its exit code, its output is in the log."""
        code: int = self._order(do="run", argv=[str(word) for word in argv], env=dict(env))["code"]
        return code

    def start(self, argv: Sequence[str | Path], env: Mapping[str, str]) -> int:
        """Start the server in the home; the answer is its pid. It may take a while until it is ready."""
        pid: int = self._order(do="start", argv=[str(word) for word in argv], env=dict(env))["pid"]
        return pid

    def stop(self) -> None:
        """Ask the server to end, insist if need be. All its processes are gone afterwards."""
        self._order(do="stop")

    def crash(self) -> None:
        """SIGKILL the server and its children at once. All are gone afterwards."""
        self._order(do="crash")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and its children."""
        self._order(do="signal", number=int(number))

    def pid(self) -> int | None:
        """The server's process id, or None when it is not running."""
        pid: int | None = self._order(do="status")["pid"]
        return pid

    def log_tail(self, size: int = 2000) -> str:
        """The last characters of what the server had to say."""
        with contextlib.suppress(OSError):
            return (self.home / "log").read_text(errors="replace")[-size:].strip()
        return ""

    def _order(self, **order: Any) -> dict[str, Any]:
        with self._turn:
            try:
                self._orders.write(json.dumps(order).encode() + b"\n")
                return self._answer()
            except (OSError, ValueError) as error:
                raise ServerError("the embedded server is closed: start a new one") from error
            except KeyboardInterrupt:
                self.close()  # an answer we did not wait for would be taken for the answer to the next order
                raise

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its keeper process ended unexpectedly"}
        if "error" in answer:
            self.close()
            raise ServerError(f"embedded server: {answer['error']}")
        return answer

    def _abandon(self) -> None:
        self._orders.close()
        self._answers.close()


def _let_go(process: "subprocess.Popen[bytes]", orders: IO[bytes], answers: IO[bytes], owner: int) -> None:
    """Close the pipe, which tells the keeper to clean up and end, and wait until it has."""
    if os.getpid() != owner:
        return
    with contextlib.suppress(OSError):
        orders.close()
    try:
        process.wait(CLOSE_WAIT)
    finally:
        answers.close()


def _abandon_all() -> None:
    """In a forked child: drop the pipes, or the keeper would wait for the end of this process as well."""
    for keeper in list(_keepers):
        keeper._abandon()


_keepers: "weakref.WeakSet[Keeper]" = weakref.WeakSet()
os.register_at_fork(after_in_child=_abandon_all)
