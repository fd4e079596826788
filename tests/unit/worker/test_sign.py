"""The sign of life that probes look at."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from vault import Settings
from worker.probe import main
from worker.sign import READY, SILENCE_S, STARTING, Sign

ENVIRON = {"VAULT_DATABASE_URL": "postgresql://db/x", "VAULT_REDIS_URL": "redis://redis:6379/0"}


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    environ = {**ENVIRON, "VAULT_HOME": str(tmp_path)}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return environ


@pytest.fixture
def sign(environ: dict[str, str]) -> Sign:
    return Sign(Settings.load(environ), "celery@here")


def asked(question: str) -> int:
    return CliRunner().invoke(main, [question, "-n", "celery@here"]).exit_code


def test_a_worker_is_live_from_its_start_and_ready_from_the_queue_on(sign: Sign) -> None:
    assert (asked("live"), asked("ready")) == (1, 1)
    sign.say(STARTING)
    assert (asked("live"), asked("ready")) == (0, 1)
    sign.say(READY)
    assert (asked("live"), asked("ready")) == (0, 0)
    sign.remove()
    assert (asked("live"), asked("ready")) == (1, 1)


def test_a_pulse_that_stopped_is_noticed(sign: Sign) -> None:
    sign.say(READY)
    later = time.time() + SILENCE_S + 2 * 5 + 1
    assert not sign.is_live(later)
    assert not sign.is_ready(later)


def test_a_beat_renews_the_sign(sign: Sign, tmp_path: Path) -> None:
    sign.say(READY)
    (file,) = (tmp_path / "spool" / "workers").iterdir()
    file.touch()
    before = file.stat().st_mtime_ns
    sign.alive()
    assert file.stat().st_mtime_ns >= before
    assert sign.is_ready(time.time())


def test_a_full_disk_stops_nobody(sign: Sign, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the directory should be")
    sign.say(READY)
    sign.alive()
    assert not sign.is_live(time.time())


def test_without_settings_a_probe_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ENVIRON, "VAULT_HOME"):
        monkeypatch.delenv(name, raising=False)
    answer = CliRunner().invoke(main, ["live"])
    assert answer.exit_code == 2
    assert "VAULT_DATABASE_URL" in answer.output
