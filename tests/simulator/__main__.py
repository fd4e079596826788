"""`python -m tests.simulator --port 0 --log PATH`: prints one JSON line when ready, serves until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import resource
import signal
import sys
from pathlib import Path

from tests.simulator.server import Providers, Simulator


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--log", type=Path, help="journal, JSON lines, appended to; in memory if absent")
    parser.add_argument("--seed", type=int, default=0, help="decides faults and jitter (default: %(default)s)")
    parser.add_argument("--config", help="providers as JSON, or the name of a JSON file, or - for one line of stdin")
    parser.add_argument("--until-stdin-closes", action="store_true", help="also end when standard input does")
    arguments = parser.parse_args()
    _allow_many_sockets()
    _tame_garbage_collection()
    simulator = Simulator(_providers(arguments.config), arguments.log, arguments.seed, arguments.host, arguments.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: simulator.stop())
    if arguments.until_stdin_closes:
        simulator.stop_with(sys.stdin.fileno())
    ready = {"base_uri": simulator.base_uri, "pid": os.getpid(), "log": arguments.log and str(arguments.log)}
    print(json.dumps(ready), flush=True)
    simulator.serve()


def _providers(text: str | None) -> Providers:
    if text is None:
        return {"simple": {}}
    if text == "-":
        text = sys.stdin.buffer.readline().decode()
    elif not text.lstrip().startswith("{"):
        text = Path(text).read_text()
    providers: Providers = json.loads(text)
    return providers


def _allow_many_sockets() -> None:
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 16) if hard > 0 else 1 << 16, hard))


def _tame_garbage_collection() -> None:
    gc.freeze()
    gc.set_threshold(200_000, 50, 1_000)  # what a request makes stays or dies by reference count


if __name__ == "__main__":
    main()
