"""The campaign of rotations in its short form: real kills; the long form is ``make chaos ARGS=rotation``."""

from __future__ import annotations

import pytest
from rich.console import Console

from tests.rotation import plan as plans
from tests.rotation.campaign import run
from tests.rotation.display import show


@pytest.mark.timeout(240)
def test_rotations_that_are_killed_cost_nobody_a_token() -> None:
    """Whatever is killed, every token is read all the while, and at the end no old key is needed for anything."""
    report = run(plans.short(), print)
    show(Console(), report)
    verdict = report.verdict
    assert report.enough
    assert (verdict.undecryptable, verdict.wrong, verdict.wrong_reads) == (0, 0, 0)
    assert report.reading.failed == {}
    assert report.killing.failed == {}, report.log
    assert set(report.left.values()) == {0}
    assert report.audited
    assert report.passed
