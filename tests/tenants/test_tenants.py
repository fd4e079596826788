"""Nobody gets, or does, anything with what is another tenant's; and a check that looks at nothing is found out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.house import House
from tests.simulator import SimulatorProcess
from tests.support.unfiltered import Gone
from tests.tenants.calls import CALLS
from tests.tenants.campaign import Found, Plan, Report, at, short
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
    report = at(house, short()[0], _say)
    assert report.found.leaks == []
    assert report.found.errors == []
    assert report.changed == []
    assert report.passed
    assert len(report.found.calls) >= len(CALLS) - 2, "every endpoint that takes an id, and every list"
    assert report.found.statuses[404] > 300


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
    assert report.found.leaks
    assert not report.passed


FILTERS, WALL, CONTROL = Plan(2), Plan(2, filters=False, wall=True), Plan(2, filters=False)
CALM = Found(calls=Counter(a=2))
LEAKY = replace(CALM, leaks=["GET /: holds what is another's"])
ODD = replace(CALM, errors=["GET /: 500"])
GONE = Gone(["SELECT 1"], set())


@pytest.mark.parametrize(
    ("plan", "found", "changed", "gone", "passed"),
    [
        (FILTERS, CALM, [], None, True),
        (FILTERS, Found(calls=Counter(a=1)), [], None, False),
        (FILTERS, LEAKY, [], None, False),
        (FILTERS, ODD, [], None, False),
        (FILTERS, CALM, ["oauth_grant"], None, False),
        (WALL, CALM, [], GONE, True),
        (WALL, LEAKY, [], GONE, False),
        (WALL, ODD, [], GONE, False),
        (WALL, CALM, [], Gone([], set()), False),
        (WALL, CALM, [], Gone(["SELECT 1"], {"SELECT 2 WHERE tenant = 'a'"}), False),
        (CONTROL, LEAKY, ["oauth_grant"], GONE, True),
        (CONTROL, CALM, ["oauth_grant"], GONE, False),
        (CONTROL, LEAKY, [], Gone([], set()), False),
    ],
)
def test_who_gets_nothing_passes_and_a_control_passes_when_somebody_does(
    plan: Plan, found: Found, changed: list[str], gone: Gone | None, passed: bool
) -> None:
    assert Report(plan, 1.0, found, changed, gone).passed is passed
