"""Deliverers killed at any moment: every event arrives, each the same whenever it does, and each can be verified."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import outbox


@pytest.mark.timeout(180)
def test_nothing_is_lost_and_nothing_comes_in_two_versions(database_url: str, tmp_path: Path) -> None:
    plan = outbox.short()
    report = outbox.carry_out(plan, database_url, tmp_path, print)
    assert report.passed, report
    assert report.rotations == 1
    assert report.requests >= plan.kills * plan.told * plan.endpoints
