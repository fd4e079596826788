"""A provider to connect to, and the way there; everything else in a journey goes through the public ``vault``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.house import House
from tests.simulator import SimulatorProcess

LIFE_S = 8.0
"""Of an access token: due for its refresh after half of it, so that nobody has to wait long."""


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(tmp_path_factory.mktemp("simulator") / "journal.jsonl") as process:
        yield process


@pytest.fixture
def house(database_url: str, redis_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[House]:
    """A house where tokens live for a few seconds."""
    built = House(database_url, simulator, tmp_path, redis_url=redis_url, life_s=LIFE_S)
    yield built
    built.close()


@pytest.fixture
def calm_house(database_url: str, redis_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[House]:
    """A house where tokens live for an hour."""
    built = House(database_url, simulator, tmp_path, redis_url=redis_url)
    yield built
    built.close()
