"""Nobody gets, or does, anything with what is another tenant's; and a check that looks at nothing is found out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.house import House
from tests.simulator import SimulatorProcess
from tests.tenants.campaign import CALLS, Plan, at, short
from vault.model import Connection
from vault.store.connections import PostgresConnections


def _say(_: str) -> None: ...


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    with SimulatorProcess(tmp_path / "journal.jsonl") as simulator:
        made = House(database_url, simulator, tmp_path)
        yield made
        made.close()


def test_a_thousand_calls_for_what_is_anothers_come_to_nothing(house: House) -> None:
    report = at(house, short(), _say)
    assert report.leaks == []
    assert report.errors == []
    assert report.changed == []
    assert report.passed
    assert len(report.calls) >= len(CALLS) - 2, "every endpoint that takes an id, and every list"
    assert report.statuses[404] > 300


def test_a_filter_that_is_gone_is_noticed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    real = PostgresConnections.connection

    def careless(self: PostgresConnections, tenant: str, connection_id: object) -> Connection | None:
        for whose in (tenant, *(f"tenant-{number}" for number in range(5))):
            found = real(self, whose, connection_id)  # type: ignore[arg-type]
            if found is not None:
                return found
        return None

    monkeypatch.setattr(PostgresConnections, "connection", careless)
    report = at(house, Plan(150), _say)
    assert report.leaks
    assert not report.passed
