"""Metrics over HTTP, of several processes that share a directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import requests

CHECKOUT = Path(__file__).resolve().parents[2]
WORKS = """
from vault.keyring import Keyring
from vault.metrics import kms_decrypt_errors
from tests.support.fake_keys import Rig
rig = Rig()
key = rig.keyring.sealing_key("acme", "ann", "spotify")
for _ in range(8):
    rig.keyring.cached(key.id)
rig.keyring.sealing_key("acme", "bob", "spotify")
kms_decrypt_errors.labels("integrity").inc()
"""


def _samples(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^(evergrant_kms\S+) (\S+)$", text, re.MULTILINE)}


def test_what_several_processes_counted_is_served_together(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", WORKS], env=environment, check=True, timeout=60)
    command = [sys.executable, "-m", "vault.cli", "metrics", "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(command, env=environment, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        address = server.stderr.readline().strip()
        found = _samples(requests.get(address, timeout=10).text)
    finally:
        server.terminate()
        server.wait(20)
    assert found['evergrant_kms_key_cache_total{result="hit"}'] == 2 * 8
    assert found['evergrant_kms_key_cache_total{result="miss"}'] == 2 * 2
    assert found["evergrant_kms_cache_hit_rate"] == 16 / 20
    assert found['evergrant_kms_decrypt_errors_total{cause="integrity"}'] == 2
