"""The sweeper: makes the temporary home, and removes it when the demo is gone, however it went.

Started by `home.Home` as `python -I -S _sweeper.py`, never imported. Each line it is sent is the scratch directory of a
keeper that must have finished first, or `keep`, or `done` before a good end. The end of its input is the end of the
demo; without `done` it was killed, and a keeper it had just started may still make a directory in the home.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

PATIENCE = 60.0  # seconds granted to the keepers of a killed demo to stop their processes
LINGER = 3.0  # seconds after a kill in which somebody may come late
POLL = 0.05


def main() -> None:
    """Make the directory, wait for the end, clean up."""
    home = Path(tempfile.mkdtemp(prefix="evergrant-demo-"))
    print(home, flush=True)
    lines = [line.strip() for line in sys.stdin]
    deadline = time.monotonic() + PATIENCE
    while any(Path(line).exists() for line in lines if line.startswith("/")) and time.monotonic() < deadline:
        time.sleep(POLL)
    linger = time.monotonic() + (0.0 if "done" in lines else LINGER)
    while "keep" not in lines and (home.exists() or time.monotonic() < linger):
        shutil.rmtree(home, ignore_errors=True)
        time.sleep(POLL)
        if time.monotonic() > deadline + LINGER:
            break


if __name__ == "__main__":
    main()
