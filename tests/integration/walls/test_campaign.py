"""Tenants ask over HTTP for what is each other's, of a server that has forgotten whose rows are whose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.house import House
from tests.integration.walls.conftest import WalledHouse
from tests.support.unfiltered import filters_gone
from tests.tenants.campaign import Plan, at, served

CALLS = 300


def _say(_: str) -> None: ...


@pytest.mark.parametrize("filtered", [True, False], ids=["filtered", "unfiltered"])
def test_the_database_lets_nothing_through(walled: WalledHouse, filtered: bool) -> None:
    serve = served(database_url=walled.urls["web"])

    @contextmanager
    def forgetful(house: House) -> Iterator[str]:
        with serve(house) as base, filters_gone() as rewritten:
            yield base
            assert len(rewritten) > CALLS / 4

    report = at(walled, Plan(CALLS), _say, serve if filtered else forgetful)
    assert report.leaks == []
    assert report.changed == []
    if filtered:
        assert report.errors == []
