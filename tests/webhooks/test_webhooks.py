"""The campaign of webhook secrets in its short form: real kills; the long form is ``make chaos ARGS=webhooks``."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tests.webhooks import plan as plans
from tests.webhooks.campaign import play, show


@pytest.mark.timeout(240)
def test_rotations_that_are_killed_cost_nobody_a_delivery(database_url: str, tmp_path: Path) -> None:
    """Whoever dies, whatever is signed with a secret that counts is believed, and in the end one is registered."""
    report = play(plans.short(), database_url, tmp_path, print)
    show(Console(), report)
    assert report.wrongly == []
    assert report.problems == []
    assert report.verified.errors == []
    assert report.passed
