"""Installs what ``package-lock.json`` says, once for each state of that file, beside the virtual environment."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).parent
CACHE = Path(sys.prefix) / "peers"
FILES = ("package.json", "package-lock.json", ".npmrc")
PATIENCE_S = 100.0


def node() -> str:
    """Where Node is. Skips without it; where CI is set, fails: there these tests are not to go missing unnoticed."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        _cannot("Node and npm are not on PATH: a real authorization server cannot be started")
    return found


def installed() -> Path:
    """A directory with everything that the lock file names; several test processes may ask at once."""
    node()
    digest = sha256(b"".join((HERE / name).read_bytes() for name in FILES)).hexdigest()[:16]
    place = CACHE / digest
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            _install(place)
    return place


def _install(place: Path) -> None:
    """Install beside the place and move it there when it is whole."""
    begun = place.with_suffix(".begun")
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir()
    for name in FILES:
        shutil.copy(HERE / name, begun / name)
    try:
        subprocess.run(["npm", "ci"], cwd=begun, check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    except subprocess.CalledProcessError as error:
        _cannot(f"npm ci failed: {error.stderr[-500:]}")
    except subprocess.TimeoutExpired:
        _cannot(f"npm ci did not end within {PATIENCE_S:.0f} s")
    begun.rename(place)


def _cannot(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
