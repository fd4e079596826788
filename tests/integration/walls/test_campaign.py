"""Tenants ask over HTTP for what is each other's, of a server that has forgotten whose rows are whose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.house import House
from tests.integration.walls.house import WalledHouse
from tests.simulator import SimulatorProcess
from tests.tenants.campaign import Plan, at, short

CALLS = 300


def _say(_: str) -> None: ...


@pytest.fixture
def unwalled(database_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[House]:
    built = House(database_url, simulator, tmp_path)
    yield built
    built.close()


@pytest.mark.parametrize("filters", [True, False], ids=["filtered", "unfiltered"])
def test_the_database_lets_nothing_through(walled: WalledHouse, filters: bool) -> None:
    report = at(walled, Plan(CALLS, filters=filters, wall=True), _say)
    assert report.found.leaks == []
    assert report.found.errors == []
    assert report.changed == []
    assert report.passed
    if report.gone is not None:
        assert len(report.gone.rewritten) > CALLS / 4
        assert report.gone.left == set()


def test_without_filters_and_wall_the_same_calls_leak(unwalled: House) -> None:
    """So that nothing leaked elsewhere because nothing was looked at, or because no filter was gone."""
    report = at(unwalled, short()[-1], _say)
    assert report.passed
    assert sum(map(bool, report.found.noticed.values())) > 12
    assert report.found.noticed["GET /statistics"]
    assert "oauth_grant" in report.changed
