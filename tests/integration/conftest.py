"""What tests of the whole have in common: a provider for each file, a house for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.house import House
from tests.simulator import SimulatorProcess


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(tmp_path_factory.mktemp("simulator") / "journal.jsonl") as process:
        yield process


@pytest.fixture
def house(database_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[House]:
    built = House(database_url, simulator, tmp_path)
    yield built
    built.close()
