"""The short form of each bad day; the long ones are ``make chaos``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.outages.campaign import SHORT, recovery
from tests.outages.scene import scene


@pytest.mark.parametrize("name", SHORT)
def test_a_bad_day_costs_no_grant(name: str, database_url: str, redis_url: str, tmp_path: Path) -> None:
    campaign, plan = SHORT[name]
    with scene(database_url, tmp_path, **({"redis_url": redis_url} if campaign is recovery else {})) as at:
        report = campaign(at, plan, lambda _: None)
    assert report.broken == (), report.figures
