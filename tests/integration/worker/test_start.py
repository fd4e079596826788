"""A worker that cannot work says so in words and ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.worker.conftest import ROOT, System

BASIC = {"VAULT_REDIS_URL": "redis://:hunter2@127.0.0.1:1/0"}


def _start(environ: dict[str, str], command: str = "worker") -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("VAULT_")}
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker", command], env={**inherited, **environ, "C_FORCE_ROOT": "1"},
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _assert_readable(ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr + ended.stdout
    assert "hunter2" not in ended.stderr + ended.stdout


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_missing_settings_are_listed_all_at_once(command: str) -> None:
    ended = _start({}, command)
    _assert_readable(ended)
    assert "VAULT_DATABASE_URL" in ended.stderr
    assert "VAULT_REDIS_URL" in ended.stderr


def test_an_unreachable_database_is_named_without_its_password(tmp_path: Path) -> None:
    environ = {**BASIC, "VAULT_DATABASE_URL": "postgresql://app:hunter2@127.0.0.1:1/app", "VAULT_HOME": str(tmp_path)}
    ended = _start(environ)
    _assert_readable(ended)
    assert "127.0.0.1:1/app" in ended.stderr


def test_an_empty_database_names_the_command_that_helps(empty_database_url: str, tmp_path: Path) -> None:
    ended = _start({**BASIC, "VAULT_DATABASE_URL": empty_database_url, "VAULT_HOME": str(tmp_path)})
    _assert_readable(ended)
    assert "evergrant db upgrade" in ended.stderr


@pytest.mark.timeout(60)
def test_another_master_key_than_the_databases_is_refused(system: System) -> None:
    """The keyring file was lost and made anew: nothing could be opened, so the worker does not even begin."""
    system.connect(1)
    shutil.rmtree(system.environ["VAULT_HOME"])
    ended = _start(system.environ)
    _assert_readable(ended)
    assert "key local:" in ended.stderr
