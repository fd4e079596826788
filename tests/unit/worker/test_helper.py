"""The helper's process: one at a time, its word taken, its time bounded."""

from __future__ import annotations

import pytest

from tests.integration.waiting import until
from worker.helper import Helper


def ends(helper: Helper) -> int:
    found: list[int | None] = [None]

    def ended() -> bool:
        found.append(helper.ended())
        return found[-1] is not None

    until(ended)
    return found[-1] or 0


@pytest.mark.parametrize(("says", "refreshed"), [
    ('{"claimed": 5, "refreshed": 3}', 3), ("no answer", 0), ("", 0), ("[]", 0),
])  # fmt: skip
def test_it_says_how_many_it_refreshed_once(says: str, refreshed: int) -> None:
    helper = Helper(("-c", f"print('''{says}''')"))
    helper.start()
    assert helper.at_work
    assert ends(helper) == refreshed
    assert helper.ended() is None
    assert not helper.at_work


def test_one_that_does_not_end_is_killed() -> None:
    helper = Helper(("-c", "import signal; signal.pause()"), limit=0.2)
    helper.start()
    assert ends(helper) == 0
