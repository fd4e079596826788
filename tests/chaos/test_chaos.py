"""The chaos campaign in its short form: real kills, real outages, a minute; the long form is ``make chaos``."""

from __future__ import annotations

import pytest

from tests.chaos import plan as plans
from tests.chaos.campaign import run


@pytest.mark.timeout(240)
@pytest.mark.parametrize("rotation", [plans.ROOMY, plans.STRICT], ids=lambda rotation: str(rotation["mode"]))
def test_nothing_is_lost_that_could_be_kept(rotation: dict[str, object]) -> None:
    """Whatever is killed, a provider with grace loses nothing; a strict one only answers that were never stored."""
    report = run(plans.short(rotation), print)
    assert report.findings.problems == []
    assert report.unsettled == []
    assert report.leaks == []
    assert report.passed
    assert report.findings.refreshes > 0
    assert report.kills > 0
    assert report.monitored > 0
    assert report.shown > 0
    assert report.served > 0
    assert report.served_dead == 0
