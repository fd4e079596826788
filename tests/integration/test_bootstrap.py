"""``deploy/bootstrap.sh``: what it does is done once, and an interrupted run is not taken for a finished one.

It runs here on a copy with a uv that only notes what it was asked for; what the real one installs, each test run shows.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALL_ALL = ["venv", "pip install", "pip install"]  # the environment, the lock, this checkout

UV = f"""#!/bin/sh
echo "$@" >>"$UV_NOTES"
[ ! -e "$UV_NOTES.hang" ] || [ "$1" = venv ] || sleep 60
[ ! -e "$UV_NOTES.fail" ] || [ "$1" = venv ] || exit 1
if [ "$1" = venv ]; then mkdir -p .venv/bin && ln -s '{sys.executable}' .venv/bin/python; fi
"""


class Checkout:
    """A copy of what the script reads, and the notes of the uv it finds."""

    def __init__(self, root: Path, tools: Path) -> None:
        self.root, self.notes = root, tools / "notes"
        (root / "deploy").mkdir(parents=True)
        for name in ("deploy/bootstrap.sh", "deploy/requirements.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, root / name)
        tools.mkdir()
        (tools / "uv").write_text(UV)
        (tools / "uv").chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "UV_NOTES": str(self.notes)}

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["deploy/bootstrap.sh"],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def setup(self) -> str:
        process = self.start()
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
        return said

    def asked(self) -> list[str]:
        """What uv was asked for since the last time, without the details."""
        notes = self.notes.read_text() if self.notes.exists() else ""
        self.notes.unlink(missing_ok=True)
        return [" ".join(line.split()[: 2 if line.startswith("pip") else 1]) for line in notes.splitlines()]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout", tmp_path / "tools")


def test_the_second_run_finds_nothing_to_do_and_asks_nobody(checkout: Checkout) -> None:
    assert "installing" in checkout.setup()
    assert checkout.asked() == INSTALL_ALL
    assert checkout.setup() == "setup: nothing to do, .venv is up to date\n"
    assert checkout.asked() == []
    assert sorted(path.name for path in checkout.root.iterdir()) == [".venv", "deploy", "pyproject.toml"]


def test_hashes_are_demanded_of_everything_but_the_checkout_itself(checkout: Checkout) -> None:
    checkout.setup()
    _, lock, ourselves = checkout.notes.read_text().splitlines()
    assert "--require-hashes -r deploy/requirements.lock" in lock
    assert "--no-deps --no-build-isolation --editable ." in ourselves


def test_a_changed_lock_is_installed_into_the_same_environment(checkout: Checkout) -> None:
    checkout.setup()
    checkout.asked()
    with (checkout.root / "deploy/requirements.lock").open("a") as lock:
        lock.write("one-more==1.0\n")
    checkout.setup()
    assert checkout.asked() == INSTALL_ALL[1:]


def test_settings_of_tools_are_read_when_they_run_and_cost_no_setup(checkout: Checkout) -> None:
    checkout.setup()
    checkout.asked()
    project = checkout.root / "pyproject.toml"
    project.write_text(project.read_text().replace("line-length = 120", "line-length = 121"))
    assert "nothing to do" in checkout.setup()
    project.write_text(project.read_text().replace('version = "', 'version = "9.'))
    assert "installing" in checkout.setup()


def test_an_environment_cannot_be_moved(checkout: Checkout) -> None:
    checkout.setup()
    checkout.root = checkout.root.rename(checkout.root.with_name("elsewhere"))
    assert "installing" in checkout.setup()


def test_an_interrupted_run_is_done_again_from_the_beginning(checkout: Checkout) -> None:
    hang = checkout.notes.with_name("notes.hang")
    hang.touch()
    process = checkout.start()
    deadline = time.monotonic() + 20
    while not (checkout.notes.exists() and "pip install" in checkout.notes.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    hang.unlink()
    checkout.asked()
    assert "installing" in checkout.setup()
    assert checkout.asked() == INSTALL_ALL


def test_two_at_once_take_turns(checkout: Checkout) -> None:
    said = sorted(process.communicate(timeout=60)[0] for process in (checkout.start(), checkout.start()))
    assert checkout.asked() == INSTALL_ALL
    assert any("installing" in words for words in said)


def test_what_cannot_be_installed_fails_and_is_tried_again(checkout: Checkout) -> None:
    fail = checkout.notes.with_name("notes.fail")
    fail.touch()
    checkout.environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}  # pip cannot either, and knows it at once
    process = checkout.start()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "setup: uv could not; trying pip" in said
    assert "setup: the packages could not be installed" in said
    fail.unlink()
    assert "done" in checkout.setup()


def test_a_machine_without_python_and_uv_is_told_so(checkout: Checkout, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for tool in ("awk", "cat", "cksum", "dirname", "env", "grep", "mkdir", "rm", "sh", "sleep"):
        (few / tool).symlink_to(str(shutil.which(tool)))
    checkout.environment["PATH"] = str(few)
    process = checkout.start()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no Python 3.11 or newer found" in said
    assert not (checkout.root / ".venv").exists()
