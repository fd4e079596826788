"""A program: replaces every data key there is, once it gets a line on its input, and says when it was done.

python -m tests.benchmarks.keys.sweeper < go > done
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta

import structlog

from vault import Maintenance


def main() -> None:
    """Get ready, wait for the word, sweep."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    maintenance = Maintenance.from_env()
    maintenance.check()
    print("ready", flush=True)
    sys.stdin.readline()
    busy = time.process_time()
    keys = maintenance.rotate_data_keys(timedelta(0))
    told = {"keys": keys, "ended": time.monotonic(), "cpu": time.process_time() - busy}
    print(json.dumps(told), flush=True)
    maintenance.close()


if __name__ == "__main__":
    main()
