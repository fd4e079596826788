"""The sweeper: makes the temporary home, and removes it when the demo is gone, however it went.

Started by `home.Home` as `python -I -S _sweeper.py`, never imported. Each line it is sent is the scratch directory of a
keeper that must have finished first, or `keep`. The end of its input is the end of the demo.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

PATIENCE = 30.0  # seconds granted to the keepers of a killed demo to stop their processes
POLL = 0.05


def main() -> None:
    """Make the directory, wait for the end, clean up."""
    home = Path(tempfile.mkdtemp(prefix="evergrant-demo-"))
    print(home, flush=True)
    keepers, keep = [], False
    for line in sys.stdin:
        keep = keep or line.strip() == "keep"
        if line.startswith("/"):
            keepers.append(Path(line.strip()))
    deadline = time.monotonic() + PATIENCE
    while any(path.exists() for path in keepers) and time.monotonic() < deadline:
        time.sleep(POLL)
    while not keep and home.exists() and time.monotonic() < deadline:  # somebody may still be writing
        shutil.rmtree(home, ignore_errors=True)
        time.sleep(POLL)


if __name__ == "__main__":
    main()
