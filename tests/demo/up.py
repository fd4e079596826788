"""`make up`: the whole stack running for a person until Ctrl-C; `make flower`: Flower alone, for a stack that runs elsewhere."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
import time
from pathlib import Path
from typing import Final

from tests.demo.display import console
from tests.demo.evidence import Books
from tests.demo.services import Service
from tests.demo.stack import PROVIDER, Scale, Stack, leave_on_signals
from vault import ConfigurationError, Settings
from vault.testing.servers import ServerError

FLOWER_PORT: Final = 5555
FLOWER_USER: Final = "evergrant"
TICK: Final = 0.5


def main() -> int:
    """Run until Ctrl-C; returns the exit code."""
    given = _arguments()
    leave_on_signals()
    out = console()
    try:
        if given.only_flower:
            run_flower()
        with out.status("starting …"), Stack(Scale(token_life=given.token_life)) as stack:
            password = secrets.token_urlsafe(12)
            port = free_port()
            owners = ["--owners", str(given.owners), "--out", str(stack.home.path / "connections.jsonl")]
            stack.run("owners", "tests.demo.owners", *owners)
            stack.start_workers()
            stack.start("flower", "celery", "-A", "worker", "flower", env=flower_env(port, password))
            stack.supervise()
            print(_where_to_look(stack, port, password))
            _keep_running(stack)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
    except (ServerError, ConfigurationError) as error:
        print(f"up: {error}", file=sys.stderr)
        return 1
    return 0
