"""The public API is typed: an application written against it passes mypy --strict, and its mistakes do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PROGRAM = CHECKOUT / "tests" / "typing_api.py"


def mypy(program: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy as an application's author does: from another directory, without our configuration."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={directory / 'cache'}"]
    environ = {**os.environ, "MYPYPATH": str(CHECKOUT)}
    return subprocess.run(
        [*command, str(program)], cwd=directory, env=environ, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory outside of the checkout, with a cache of its own."""
    return tmp_path_factory.mktemp("application")


@pytest.mark.timeout(600)
def test_an_application_passes_mypy_strict_and_its_mistakes_are_found(elsewhere: Path) -> None:
    program = elsewhere / "application.py"
    program.write_text(PROGRAM.read_text())
    done = mypy(program, elsewhere)
    assert done.stdout == "Success: no issues found in 1 source file\n", done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_a_mistake_more_is_told(elsewhere: Path) -> None:
    """So that the test above cannot pass because mypy sees ``Any`` everywhere."""
    program = elsewhere / "mistaken.py"
    program.write_text("from vault import Vault\n\nVault.from_env().get('id').headers()['Authorization'] + 1\n")
    done = mypy(program, elsewhere)
    assert done.returncode == 1
    assert 'Unsupported operand types for + ("str" and "int")' in done.stdout


def test_the_package_says_that_it_is_typed() -> None:
    assert (CHECKOUT / "vault" / "py.typed").is_file()
