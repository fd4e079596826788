"""A worker that cannot work says so in words and ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.worker.conftest import ROOT, Running
from vault import Vault
from worker.process import check

PROVIDER = """
[acme]
authorize_uri = "https://acme.example/authorize"
token_uri = "https://acme.example/token"
"""
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


def test_missing_settings_are_listed_all_at_once() -> None:
    """By the real program, which has not even asked for its broker then."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("VAULT_")}
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker", "worker"], env={**inherited, "C_FORCE_ROOT": "1"},
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr + ended.stdout
    assert "VAULT_DATABASE_URL" in ended.stderr
    assert "VAULT_REDIS_URL" in ended.stderr


def test_an_unreachable_database_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {**BASIC, "VAULT_DATABASE_URL": "postgresql://app:hunter2@127.0.0.1:1/app", "VAULT_HOME": str(tmp_path)}
    told = _refusal(environ, monkeypatch, capsys)
    assert "127.0.0.1:1/app" in told
    assert "hunter2" not in told


def test_an_empty_database_names_the_command_that_helps(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {**BASIC, "VAULT_DATABASE_URL": empty_database_url, "VAULT_HOME": str(tmp_path)}
    assert "evergrant db upgrade" in _refusal(environ, monkeypatch, capsys)


def test_another_master_key_than_the_databases_is_refused(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The keyring file was lost and made anew: nothing could be opened, so the worker does not even begin."""
    (tmp_path / "p.toml").write_text(PROVIDER)
    environ = {
        **BASIC, "VAULT_DATABASE_URL": database_url, "VAULT_HOME": str(tmp_path / "vault"),
        "VAULT_PROVIDERS": str(tmp_path / "p.toml"), "VAULT_CLIENT_ACME_ID": "us",
        "VAULT_REDIRECT_URI": "https://us.example/callback",
    }  # fmt: skip
    with closing(Vault.from_env(environ)) as vault:
        vault.begin("acme", owner="o")  # makes the tenant's key
    shutil.rmtree(tmp_path / "vault")
    assert "key local:" in _refusal(environ, monkeypatch, capsys)


def test_the_start_line_names_key_and_servers_without_passwords(running: Running) -> None:
    system, worker, _ = running
    (line,) = [each for each in worker.log.read_text().splitlines() if each.startswith("Evergrant worker")]
    database, broker = (system.environ[f"VAULT_{name}_URL"] for name in ("DATABASE", "REDIS"))
    assert "worker@here: master key local:primary#" in line
    assert f"/{urlsplit(database).path.removeprefix('/')}" in line
    assert urlsplit(broker).netloc.rpartition("@")[2] in line
    assert "redis://" not in line
    assert "postgresql://" not in line


def test_a_worker_is_live_and_ready(running: Running) -> None:
    assert running.system.signs() == (True, True)


def _refusal(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        check("worker@here")
    assert ended.value.code == 2
    return capsys.readouterr().err
