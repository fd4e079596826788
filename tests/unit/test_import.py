"""`import vault` costs a moment and touches nothing: no network, no process, no file but code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

THIRD_PARTIES = """
import sys
sys.dont_write_bytecode = False
import vault
ours = {name for name in sys.modules if name.split(".")[0] == "vault"}
print(" ".join(name for name in sys.modules if name not in ours and not name.startswith(("__main__", "_frozen"))))
"""

WATCHED = """
import importlib, json, sys, time
started = time.process_time()
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
theirs = time.process_time() - started
seen = []
def watch(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.system")):
        seen.append(event)
    writes = event == "open" and isinstance(arguments[1], str) and arguments[1].strip("rbtU")
    changes = event in ("os.mkdir", "os.remove", "os.rename", "os.truncate", "os.putenv")
    if (writes or changes) and "__pycache__" not in str(arguments):
        seen.append(f"{event} {arguments}")
sys.addaudithook(watch)
before, begun = set(sys.modules), time.process_time()
import vault
seconds = time.process_time() - begun
import threading
threads = [thread.name for thread in threading.enumerate()]
late = sorted(name for name in set(sys.modules) - before if name.split(".")[0] != "vault")
print(json.dumps({"seen": seen, "seconds": seconds, "theirs": theirs, "threads": threads, "late": late}))
"""

THEIRS_WHEN_CALM = 0.65
"""Seconds that importing what others wrote takes on the machine the promise was measured on."""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=CHECKOUT, check=True, capture_output=True, text=True, timeout=120
    )
    return done.stdout


@pytest.fixture(scope="module")
def third_parties() -> list[str]:
    """Modules of others that ours import, in the order in which they are imported."""
    return run(THIRD_PARTIES).split()


def watched(third_parties: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(WATCHED, *third_parties))
    assert found["late"] == []
    return found


def test_importing_touches_nothing(third_parties: list[str]) -> None:
    found = watched(third_parties)
    assert found["seen"] == []
    assert found["threads"] == ["MainThread"]


def test_importing_with_everything_it_needs_reaches_out_to_nobody() -> None:
    """Libraries may make a socket to see what the machine can do; nobody connects, binds to the world or looks up."""
    found: dict[str, Any] = json.loads(run(WATCHED))
    reaching = ("socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.sendto", "subprocess.", "os.fork")
    assert not [event for event in found["seen"] if event.startswith(reaching)]


def test_importing_costs_under_a_quarter_of_a_second_beyond_what_others_cost(third_parties: list[str]) -> None:
    """In processor time of a machine on which the others cost what they cost on a calm one: this one may be busy."""
    runs = [watched(third_parties) for _ in range(3)]
    calm = [run["seconds"] * THEIRS_WHEN_CALM / run["theirs"] for run in runs]
    assert min(calm) < 0.250, runs


@pytest.mark.parametrize("heavy", ["celery", "kombu", "alembic", "flower", "boto3", "azure", "hvac"])
def test_importing_does_not_bring_what_only_some_processes_need(third_parties: list[str], heavy: str) -> None:
    assert heavy not in third_parties
