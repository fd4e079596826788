"""The temporary directory of one demo, which goes when the demo goes, also by `kill -9`."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

SWEEPER = Path(__file__).resolve().with_name("_sweeper.py")
SWEEP_WAIT = 70.0  # seconds; longer than the sweeper's own patience


class Home:
    """A directory and the companion process that removes it."""

    def __init__(self) -> None:
        """Have the directory made."""
        self._sweeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SWEEPER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            text=True,
            bufsize=1,
            start_new_session=True,  # Ctrl-C is for us; the sweeper ends when we do
        )
        self._orders, answers = cast("IO[str]", self._sweeper.stdin), cast("IO[str]", self._sweeper.stdout)
        with answers:
            self.path = Path(answers.readline().strip())
        self.kept = False

    def outlive(self, scratch: Path) -> None:
        """Do not remove the home before this directory is gone, which its keeper removes at its end."""
        self._orders.write(f"{scratch}\n")

    def keep(self) -> None:
        """Leave the directory where it is, for somebody to read the logs."""
        self.kept = True
        self._orders.write("keep\n")

    def close(self) -> None:
        """Have the directory removed, unless it is to be kept."""
        with contextlib.suppress(OSError):
            self._orders.write("done\n")
            self._orders.close()
        self._sweeper.wait(SWEEP_WAIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
