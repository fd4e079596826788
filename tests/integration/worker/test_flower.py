"""Flower shows a running system to those who know the password, and no secret to anybody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.demo.flower import USER, Flower
from tests.integration.worker.conftest import ROOT, Running, wait_until
from vault import Refresh

PAGES = (
    "/", "/workers", "/worker/worker@here", "/tasks", "/tasks/datatable", "/broker", "/metrics", "/api/workers",
    "/api/tasks", "/api/task/types", "/api/queues/length",
)  # fmt: skip


@pytest.mark.timeout(120)
def test_flower_asks_for_a_password_and_shows_ids_only(running: Running) -> None:
    """``celery -A worker flower`` with nothing but a port and a password: on localhost, closed, and read-only."""
    system, worker, ids = running
    access = Flower.new()
    environ = {name: access.environment()[name] for name in ("FLOWER_PORT", "FLOWER_BASIC_AUTH")}
    service = system.python("flower", "celery", "-A", "worker", "flower", **environ)
    service.start()
    base = access.base
    wait_until(lambda: _answers(base), 40, service.last_words)
    for page in PAGES:
        assert requests.get(base + page, timeout=5).status_code == 401, page
    known = requests.Session()
    known.auth = (USER, access.password)
    wait_until(
        lambda: "worker@here" in known.get(f"{base}/api/workers?refresh=1", timeout=10).text, 20, service.last_words
    )

    def shown() -> bool:
        system.vault.enqueue(Refresh(ids[0]))
        return str(ids[0]) in known.get(f"{base}/api/tasks?taskname=vault.refresh", timeout=5).text

    wait_until(shown, 20, lambda: service.last_words() + worker.last_words())
    pages = {page: known.get(base + page, timeout=10) for page in PAGES if page != "/tasks/datatable"}
    assert {answer.status_code for answer in pages.values()} == {200}
    assert "flower_events_total" in pages["/metrics"].text
    for page, answer in pages.items():
        assert "cnry-" not in answer.text, page
    refused = known.post(f"{base}/api/task/send-task/vault.cleanup", json={"args": []}, timeout=5)
    assert refused.status_code in (403, 405), refused.text
    assert _listens_on(access.port) == {"127.0.0.1"}


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


def _listens_on(port: int) -> set[str]:
    """Addresses with a listening socket of that port, as the kernel lists them."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    v6 = [line.split()[1] for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    assert not any(local.endswith(f":{port:04X}") for local in v6)
    found = [local.split(":")[0] for _, local, _, state, *_ in rows if state == "0A" and local.endswith(f":{port:04X}")]
    return {".".join(str(byte) for byte in reversed(bytes.fromhex(address))) for address in found}
