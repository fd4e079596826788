"""The refresh protocol, checked as a model: two workers, every crash point, every provider, whatever can go missing.

The decisions are those of ``vault.policy``, the very functions the engine and the store call; around them the model
does what the store's transactions, the spool, the network, the provider and the owner do. A failure tells the shortest
story that leads to it, one line for each thing that happens.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model.explore import explore
from tests.model.rules import Rules
from tests.model.settings import IDEMPOTENT, NARROW, STRICT, UNTIL_USED, WORLDS, grace
from tests.model.state import Faults
from tests.model.world import Setting


@pytest.mark.parametrize("setting", WORLDS.values(), ids=WORLDS)
def test_no_two_mishaps_break_a_promise(setting: Setting) -> None:
    """Crashes, pauses, lost answers and disks, commits of unknown outcome, the owner, the provider: any two of them."""
    _holds(setting)


@pytest.mark.parametrize("setting", NARROW.values(), ids=NARROW)
def test_one_lost_answer_fits_into_any_replay_window_there_is(setting: Setting) -> None:
    """A provider that takes the old token again for some seconds loses nothing by one crash or one lost answer."""
    _holds(setting)


def test_a_claim_ahead_of_time_is_found_in_time_when_its_worker_dies() -> None:
    """Somebody asks for a token long before it is due, and the worker dies over it: the doubt is found at once."""
    _holds(Setting(grace(1800), Faults(2, crash=1, asked=1, unsure=1), forgiving=True))


def test_a_spool_on_a_machine_that_is_away_costs_nothing_else() -> None:
    """Each worker has a disk of its own: what lies there comes home with its machine, and harms nothing meanwhile."""
    _holds(Setting(STRICT, Faults(2, crash=1, pause=1, lost=1), shared_disk=False))


def test_a_machine_that_comes_back_with_answers_long_spent_harms_nothing() -> None:
    """It died between the commit and the mark in its spool; the row has been refreshed twice since."""
    _holds(Setting(STRICT, Faults(2, crash=1, lost=1), rounds=3, shared_disk=False))


def test_an_owner_who_changes_his_mind_twice_is_obeyed() -> None:
    """Reconnect and disconnect, in any order, while a worker has an answer in its hands."""
    _holds(Setting(IDEMPOTENT, Faults(3, pause=1, owner=2), rounds=1, forgiving=True))


def test_a_request_that_arrives_long_after_its_sender_gave_up_does_no_harm() -> None:
    """Until its lease is over it may still be processed; the old answer is given again."""
    _holds(Setting(IDEMPOTENT, Faults(2, crash=1, lost=1, pause=1), forgiving=True, lingering=True))


def test_a_request_that_arrives_late_does_not_supersede_what_is_stored() -> None:
    """Where the newest answer kills the one before, a retry must not race the request it replaces."""
    _holds(Setting(UNTIL_USED, Faults(1, lost=1), forgiving=True, lingering=True))


def test_three_crashes_within_a_long_window_lose_nothing() -> None:
    """Even a connection that seems to kill its workers is tried once more while the old token is still good."""
    _holds(Setting(grace(1800), Faults(3, crash=3), rounds=1, forgiving=True))


def test_patience_does_not_outlast_the_window() -> None:
    """A doubt is resolved inside the window, also when the provider asks for patience or is away in between."""
    _holds(Setting(grace(90), Faults(2, crash=1, refused=1), forgiving=True))


def test_two_crashes_in_a_row_outlast_a_window_of_one_lease() -> None:
    """The promise has an edge, and this is it: a window that holds one lease holds one crash, not two."""
    report = explore(Setting(grace(45), Faults(2, crash=2), forgiving=True))
    assert report.violation is not None
    assert report.violation.invariant == "I5"


def test_equal_stories_are_told_equally() -> None:
    """The shortest story of a violation is found again, with its steps in order and its workers named."""
    broken = replace(Rules(), heeds_spool=False)
    report = explore(Setting(STRICT, Faults(1, pause=1)), broken)
    assert report.violation is not None
    assert report.story[0] == "  1. A claims T0"
    assert any("A is paused" in line for line in report.story)
    assert any("B sends T0" in line for line in report.story)


def _holds(setting: Setting) -> None:
    report = explore(setting)
    print(report)
    if report.violation is not None:
        pytest.fail(str(report), pytrace=False)
