"""The schedule of deliveries, and the Python code that is told."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from vault import hooks
from vault.events import JITTER, SCHEDULE, Event, after_failure

SHARES = st.floats(min_value=0, max_value=1, exclude_max=True)
EVENT = Event(UUID(int=1), "default", "ping", None, None, datetime(2026, 1, 1, tzinfo=UTC), '{"data": {"a": 1}}')


def test_the_schedule_is_the_stated_one() -> None:
    seconds = [wait.total_seconds() for wait in SCHEDULE]
    assert seconds == [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]


@settings(deadline=None)
@given(attempt=st.integers(1, len(SCHEDULE) - 1), share=SHARES, wish=st.none() | st.integers(0, 10**7))
def test_a_wait_is_near_the_stated_one_or_what_the_endpoint_wishes(
    attempt: int, share: float, wish: int | None
) -> None:
    stated = SCHEDULE[attempt]
    retry_after = None if wish is None else timedelta(seconds=wish)
    wait = after_failure(attempt, share, retry_after)
    assert wait is not None
    assert wait >= stated * (1 - JITTER)
    if retry_after is None or retry_after <= stated * (1 - JITTER):
        assert wait <= stated * (1 + JITTER)
    else:
        assert min(retry_after, SCHEDULE[-1]) <= wait <= max(retry_after, stated * (1 + JITTER))


def test_the_tenth_attempt_is_the_last() -> None:
    assert after_failure(len(SCHEDULE), 0.5, timedelta(seconds=1)) is None


def test_the_data_of_an_event_are_in_its_body() -> None:
    assert EVENT.data == {"a": 1}


def test_hooks_are_found_by_their_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be imported is told of in the log, and fails whenever it is called; the others work."""
    (tmp_path / "told_here.py").write_text("heard = []\nhook = heard.append\n")
    package = tmp_path / "ours-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: ours\nVersion: 1\n")
    entries = "[evergrant.events]\ngood = told_here:hook\nbroken = no_such_module:hook\n"
    (package / "entry_points.txt").write_text(entries)
    monkeypatch.syspath_prepend(str(tmp_path))
    with capture_logs() as logs:
        found = hooks.installed()
    assert logs == [{"event": "hook.unusable", "hook": "broken", "error": "ModuleNotFoundError", "log_level": "error"}]
    found["good"](EVENT)
    assert sys.modules["told_here"].heard == [EVENT]
    with pytest.raises(ImportError):
        found["broken"](EVENT)
