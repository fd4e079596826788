"""When the pulse rings and when it helps: a scan interval is ten seconds here, and looks come every ten seconds."""

from __future__ import annotations

import itertools

import pytest

from worker.watch import LONGEST_PAUSE_S, Advice, Watch

INTERVAL = 10.0
QUIET, RING, HELP = Advice(ring=False, help=False), Advice(ring=True, help=False), Advice(ring=False, help=True)
RING_AND_HELP = Advice(ring=True, help=True)


def looks(watch: Watch, *lateness: float | None) -> list[Advice]:
    """Look once in ten seconds; None: nothing is overdue."""
    return [
        watch.look(INTERVAL * number, 0 if late is None else 5, late or 0.0) for number, late in enumerate(lateness)
    ]


def test_nothing_overdue_nothing_done() -> None:
    assert looks(Watch(INTERVAL), None, None, None) == [QUIET] * 3


def test_what_falls_due_is_rung_for_at_once_each_time() -> None:
    """Rows fall due all the time and each ring is answered: no look goes by without one."""
    assert looks(Watch(INTERVAL), 2.0, 3.0, 1.0, 9.0) == [RING] * 4


def test_a_slow_worker_is_not_flooded() -> None:
    """It works through a backlog, oldest first: lateness shrinks, and one ring was enough for all of it."""
    assert looks(Watch(INTERVAL), 500.0, 450.0, 300.0, 200.0, 100.0, 60.0) == [RING, *[QUIET] * 5]


def test_a_lost_ring_is_repeated_and_then_the_pulse_helps_itself() -> None:
    assert looks(Watch(INTERVAL), 5.0, 15.0, 25.0, 35.0, 45.0) == [RING, QUIET, RING, HELP, RING_AND_HELP]


def test_a_backlog_met_at_the_start_is_given_to_the_workers_first() -> None:
    """Rows an hour late are no reason to help: they may have been waiting for this very worker to start."""
    assert looks(Watch(INTERVAL), 3600.0, 3610.0)[0] == RING
    assert looks(Watch(INTERVAL), 3600.0, 3610.0)[1] == QUIET


def test_rows_that_a_dead_worker_gave_back_are_a_new_finding() -> None:
    """A lease runs out and an older row than any before is due again."""
    watch = Watch(INTERVAL)
    assert looks(watch, 5.0, 45.0, 55.0) == [RING, QUIET, QUIET]


def test_after_a_quiet_time_everything_begins_anew() -> None:
    assert looks(Watch(INTERVAL), 5.0, 15.0, 25.0, None, 5.0, 15.0) == [RING, QUIET, RING, QUIET, RING, QUIET]


def test_help_that_brings_nothing_comes_more_and_more_rarely() -> None:
    """What stays due although it was helped waits for somebody: a closed breaker is not to be tried by each helper."""
    watch = Watch(INTERVAL)
    helped_at = []
    for number in range(400):
        now = number * INTERVAL
        if watch.look(now, 5, now + 1.0).help:
            helped_at.append(now)
            watch.helped(now, refreshed=0)
    pauses = [after - before for before, after in itertools.pairwise(helped_at)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 2 * INTERVAL
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_S)


def test_help_that_helps_comes_again_as_soon_as_it_is_needed() -> None:
    watch = Watch(INTERVAL)
    for _ in range(6):
        watch.helped(0.0, refreshed=0)
    watch.helped(0.0, refreshed=7)
    assert looks(watch, 5.0, 15.0, 25.0, 35.0)[3] == HELP
