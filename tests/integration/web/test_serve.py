"""``evergrant serve``: a process that serves until it is told to stop, and then tells what it had not told yet."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.integration.house import House
from tests.integration.waiting import until
from tests.integration.web.front import ALL, Client
from vault.cli import EXIT_USAGE, main

CHECKOUT = Path(__file__).resolve().parents[3]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_it_serves_until_it_is_told_to_stop_and_leaves_no_read_untold(house: House) -> None:
    made = house.connect()
    key = house.worker.api_keys.create("test", ALL).secret.reveal()
    port = _free_port()
    command = [sys.executable, "-m", "vault.cli", "serve", "--port", str(port)]
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env={**os.environ, **house.environment, "VAULT_HTTP_ACCESS_LOG": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    client = Client(f"http://127.0.0.1:{port}/api/v1", key)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(answers)
    token = client.get(f"/connections/{made}/token")
    for _ in range(4):
        assert client.get(f"/connections/{made}/token").ok
    client.get("/acme/callback", params={"state": "cnry-state", "code": "cnry-code"})
    client.close()
    process.send_signal(signal.SIGTERM)
    logged, _ = process.communicate(timeout=20)
    assert process.returncode in (0, -signal.SIGTERM), logged
    told = house.sql(
        "SELECT sum((detail->>'reads')::int) AS n FROM evergrant.audit WHERE event = 'credential.retrieved'"
    )
    assert told == [{"n": 5}]
    for secret in (key, token.json()["access_token"], "cnry-state", "cnry-code"):
        assert secret not in logged
    assert "/{provider}/callback" in logged


def test_settings_that_cannot_work_are_told_before_anything_is_served(house: House) -> None:
    result = CliRunner(env={**house.environment, "VAULT_HTTP_RATE_TOKENS": "-1"}).invoke(main, ["serve"])
    assert result.exit_code == EXIT_USAGE
    assert "VAULT_HTTP_RATE_TOKENS" in result.output


def test_without_the_extra_it_says_what_is_missing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vault.cli.serving.find_spec", lambda name: None if name == "fastapi" else object())
    result = CliRunner(env=house.environment).invoke(main, ["serve"])
    assert result.exit_code == EXIT_USAGE
    assert "pip install 'evergrant[web]'" in result.output
