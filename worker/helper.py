"""A process that refreshes what is due when the queue does not: ``evergrant refresh --due``, one at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from typing import IO

COMMAND = ("-m", "vault.cli", "--json", "refresh", "--due")
LIMIT_S = 300.0
"""Far above what it may need: 5 s of claiming, 10 s for answers, 120 s of holding them against a database away."""


class Helper:
    """At most one process at a time."""

    def __init__(self, command: tuple[str, ...] = COMMAND, limit: float = LIMIT_S) -> None:
        self._command = [sys.executable, *command]
        self._limit = limit
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._started = 0.0

    @property
    def at_work(self) -> bool:
        """Whether there is one whose end was not taken in yet."""
        return self._process is not None

    def start(self) -> None:
        """Start one; what it has to complain about goes where our own log goes."""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed when it has been read
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=self._said)  # noqa: S603  # ours
        self._started = time.monotonic()

    def ended(self) -> int | None:
        """Return how many grants it refreshed, once, after it ended; one that does not end is killed."""
        if self._process is None or self._said is None:
            return None
        if self._process.poll() is None:
            if time.monotonic() - self._started > self._limit:
                self._process.kill()  # what it had spooled is brought home by the next scan
            return None
        with self._said as said:
            said.seek(0)
            refreshed = _refreshed(said.read())
        self._process = self._said = None
        return refreshed


def _refreshed(said: bytes) -> int:
    try:
        return int(json.loads(said)["refreshed"])
    except (ValueError, KeyError, TypeError):
        return 0
