"""Each rotation, killed at every point it reaches, on real PostgreSQL: everything opens, and the next run finishes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.house import House
from tests.rotation.plan import REWRAP, ROTATE, ROTATE_TENANT_KEYS
from tests.rotation.processes import KILLED, command_until, start
from tests.simulator import SimulatorProcess
from tests.simulator.client import consent
from vault import Vault

VALUES = 3 * 2 + 1
"""Two tokens of each connection, and one's metadata."""


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    """Three owners under two tenants; every run starts with a fresh keyring, and reads no more than it needs."""
    with SimulatorProcess(tmp_path / "journal.jsonl") as simulator:
        built = House(database_url, simulator, tmp_path, VAULT_ROTATION_RATE="1000000")
        built.connect("olga", metadata={"a": "b"})
        built.connect("nina")
        connect(built.vault.for_tenant("umbra"), "per")
        yield built
        built.close()


def connect(vault: Vault, owner: str) -> None:
    start_of_flow = vault.begin("acme", owner=owner)
    answer = consent(start_of_flow.url)
    vault.complete(state=answer["state"], code=answer["code"], issuer=answer.get("iss"))
