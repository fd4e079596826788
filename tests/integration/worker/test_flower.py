"""Flower shows a running system to those who know the password, and no secret to anybody."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import requests

from tests.demo.flower import USER, Flower
from tests.integration.worker.conftest import ROOT, System, wait_until

PAGES = ("/", "/workers", "/tasks", "/api/workers", "/api/tasks", "/metrics")


@pytest.mark.timeout(120)
def test_flower_asks_for_a_password_and_shows_ids_only(system: System) -> None:
    system.connect(3)
    worker = system.worker()
    access = Flower.new()
    service = system.python("flower", "worker.flower", **access.environment())
    service.start()
    base = f"http://127.0.0.1:{access.port}"
    wait_until(lambda: _answers(base), 40, service.last_words)
    for page in PAGES:
        assert requests.get(base + page, timeout=5).status_code == 401, page
    system.make_due()
    wait_until(lambda: system.due() == 0, 30, worker.last_words)
    known = requests.Session()
    known.auth = (USER, access.password)
    wait_until(lambda: "vault.refresh_scan" in known.get(f"{base}/api/tasks", timeout=5).text, 20, service.last_words)
    assert "worker@" in known.get(f"{base}/api/workers?refresh=1", timeout=10).text
    for page in PAGES:
        assert "cnry-" not in known.get(base + page, timeout=10).text, page


def test_flower_does_not_start_without_a_password() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLOWER_")}
    ended = subprocess.run(
        [sys.executable, "-m", "worker.flower"], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "FLOWER_BASIC_AUTH" in ended.stderr


def _answers(base: str) -> bool:
    try:
        requests.get(base, timeout=1)
    except requests.RequestException:
        return False
    return True
