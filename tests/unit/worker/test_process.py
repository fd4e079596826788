"""What a worker looks at before it starts: its pool, its metrics, and the names of its servers."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from vault import Secret
from worker import process

DEAD = 2**22 + 1
"""No process has this number: it is above the kernel's highest."""


@pytest.mark.parametrize(("address", "place"), [
    ("postgresql://app:hunter2@db.example:5432/app?sslmode=require", "db.example:5432/app"),
    ("postgresql://app:hun[ter2@a:1,b:2/app", "a:1,b:2/app"),
    ("postgresql:///app?user=u&host=/run/pg&password=hunter2", "/run/pg/app"),
    ("postgresql:///app", "localhost/app"),
    ("redis://:hunter2@[::1]:6379/3", "[::1]:6379/3"),
    ("rediss://redis", "redis"),
])  # fmt: skip
def test_a_server_is_named_without_its_password(address: str, place: str) -> None:
    assert process.place(Secret(address)) == place


def test_metrics_of_dead_processes_are_wiped_and_ours_are_kept(tmp_path: Path) -> None:
    ours, theirs, other = (tmp_path / f"{name}.db" for name in (f"counter_{os.getpid()}", f"counter_{DEAD}", "notes"))
    for file in (ours, theirs, other):
        file.touch()
    process.wipe(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([ours, other])


def test_the_metrics_directory_is_made(tmp_path: Path) -> None:
    process.wipe(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_pool_that_shares_a_process_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        process.prepare(sender=SimpleNamespace(pool_cls="threads"))
    assert ended.value.code == 2
    assert "not in thread" in capsys.readouterr().err


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_pool_of_lonely_processes_is_accepted(pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(process.METRICS, raising=False)
    process.prepare(sender=SimpleNamespace(pool_cls=pool))


def test_an_unusable_metrics_directory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(process.METRICS, str(tmp_path / "file"))
    with pytest.raises(SystemExit):
        process.prepare(sender=SimpleNamespace(pool_cls="prefork"))
    assert process.METRICS in capsys.readouterr().err
