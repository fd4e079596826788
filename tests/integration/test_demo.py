"""`make demo` ends well only when all is well, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(300)  # some twenty processes start in each test: a busy machine takes its time
SHORT = ("--owners", "40", "--seconds", "6", "--token-life", "6")
GONE_WAIT = 30.0  # seconds: what was killed with the demo may be granted half of them to end


@contextmanager
def demo(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, running; killed at the end of the test if it still is."""
    command = [sys.executable, "-m", "tests.demo", *arguments]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def outcome(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run it to its end: exit code, document, what it said."""
    with demo("--json", *SHORT, *arguments) as process:
        answer, said = process.communicate()
    assert answer, said
    return process.returncode, json.loads(answer), said


def descendants_with_workers(demo_pid: int) -> list[psutil.Process]:
    """Wait until the demo has workers, and return everything that it has started by then."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = psutil.Process(demo_pid).children(recursive=True)
        if sum("worker" in arguments(process) for process in found) >= 2:
            return found
        time.sleep(0.05)
    raise AssertionError("the demo has not started its workers within a minute")


def arguments(process: psutil.Process) -> list[str]:
    """The words of its command line; none when it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def home_of(processes: list[psutil.Process]) -> Path:
    """The demo's directory, as its keepers were told."""
    homes = {json.loads(words[-1])["home"] for process in processes if (words := arguments(process))[-1:] > ["{"]}
    [home] = {Path(home).parents[1] for home in homes if home}
    return home


def test_a_short_demo_survives_every_fault_and_has_counted_everything() -> None:
    code, document, said = outcome()

    assert (code, document["ok"]) == (0, True), said
    connections, refreshes, tokens = document["connections"], document["refreshes"], document["tokens"]
    assert (connections["connected"], connections["alive"], connections["lost"]) == (40, 40, 0)
    assert refreshes["stored"] >= 2 * 40
    assert refreshes["died_with_worker"] > 0
    assert tokens["served"] > tokens["api_accepted"] > 0
    assert 0 < tokens["p50_ms"] <= tokens["p99_ms"] <= tokens["max_ms"]
    assert document["kms_calls"]["total"] >= 2 * connections["tenants"]
    assert not Path(document.get("logs", "/nowhere")).exists()


def test_a_demo_that_lost_a_connection_says_which_and_fails() -> None:
    """The owner withdraws consent at the provider: nothing a vault does can keep that grant alive."""
    code, document, said = outcome("--calm", "--seconds", "0", "--withdraw", "1")
    shutil.rmtree(document["logs"])

    assert (code, document["ok"]) == (1, False)
    assert (document["connections"]["lost"], document["connections"]["alive"]) == (1, 39)
    assert document["connections"]["lost_owners"] == ["owner-0000"]
    assert document["connections"]["status"] == {"active": 39, "needs_reconnect": 1}
    assert "none lost: 1 lost" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_demo_leaves_neither_processes_nor_files(number: signal.Signals) -> None:
    with demo(*SHORT) as process:
        started = descendants_with_workers(process.pid)
        home = home_of(started)
        assert home.is_dir()
        process.send_signal(number)
        assert process.wait(GONE_WAIT) == (130 if number is signal.SIGINT else -number)

    _, alive = psutil.wait_procs(started, timeout=GONE_WAIT)
    assert not alive
    assert not home.exists()
