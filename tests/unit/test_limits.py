"""The gate: as much as the rate allows, nothing in bad times, and one probe before good times begin again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.fake_keys import Clock
from vault.limits.gate import FIRST_PAUSE_S, LONGEST_PAUSE_S, OPERATOR_PAUSE_S, TRIP_AFTER, ProviderGate
from vault.provider import Client, Provider
from vault.secret import Secret

FREE = Provider("free", "", "", max_in_flight=64)
SLOW = Provider("slow", "", "", rate_per_second=10.0)
RARE = Provider("rare", "", "", rate_per_second=0.1)
OURS = Provider("ours", "", "", max_in_flight=64, rate_per_second=10.0, client=Client("a", Secret("s"), Secret("t")))
OTHER = replace(OURS, client=Client("b", Secret("u")))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> ProviderGate:
    return ProviderGate(clock)


def fail(gate: ProviderGate, times: int = 1, provider: Provider = FREE, retry_after: float | None = None) -> None:
    wait = None if retry_after is None else timedelta(seconds=retry_after)
    for _ in range(times):
        gate.failed(provider, operator=False, retry_after=wait)


def open_breaker(gate: ProviderGate) -> None:
    fail(gate, TRIP_AFTER)
    assert gate.room(FREE) == 0


def fail_probe(gate: ProviderGate) -> None:
    assert gate.room(FREE) == 1
    gate.take(FREE, 1)
    fail(gate)


# --------------------------------------------------------------------------------------------------------------- rates


def test_without_a_rate_the_provider_s_own_bound_is_all(gate: ProviderGate) -> None:
    assert gate.room(FREE) == 64
    gate.take(FREE, 64)
    assert gate.room(FREE) == 64


def test_a_rate_is_kept_over_any_time(gate: ProviderGate, clock: Clock) -> None:
    sent = 0
    for _ in range(1000):
        room = gate.room(SLOW)
        gate.take(SLOW, room)
        sent += room
        clock.pass_by(0.05)
    assert 490 <= sent <= 510  # 50 s at ten a second, and a bucket of ten to begin with


def test_a_rest_saves_up_for_one_second_and_no_more(gate: ProviderGate, clock: Clock) -> None:
    gate.take(SLOW, gate.room(SLOW))
    assert gate.room(SLOW) == 0
    clock.pass_by(3600)
    assert gate.room(SLOW) == 10


def test_a_rate_below_one_a_second_still_lets_one_through_in_its_time(gate: ProviderGate, clock: Clock) -> None:
    assert gate.room(RARE) == 1
    gate.take(RARE, 1)
    clock.pass_by(9.9)
    assert gate.room(RARE) == 0
    clock.pass_by(0.2)
    assert gate.room(RARE) == 1


def test_asking_costs_nothing(gate: ProviderGate) -> None:
    assert {gate.room(SLOW) for _ in range(100)} == {10}


# ------------------------------------------------------------------------------------------------------------- breaker


def test_closed_failures_here_and_there_change_nothing(gate: ProviderGate) -> None:
    for _ in range(100):
        fail(gate, TRIP_AFTER - 1)
        gate.succeeded(FREE)
    assert gate.room(FREE) == 64


def test_failures_in_a_row_open_it_for_the_first_pause(gate: ProviderGate, clock: Clock) -> None:
    fail(gate, TRIP_AFTER - 1)
    assert gate.room(FREE) == 64
    fail(gate)
    assert gate.room(FREE) == 0
    clock.pass_by(FIRST_PAUSE_S - 0.1)
    assert gate.room(FREE) == 0
    clock.pass_by(0.2)
    assert gate.room(FREE) == 1


def test_everything_in_flight_failing_at_once_is_one_bad_moment_not_many(gate: ProviderGate, clock: Clock) -> None:
    """With five hundred requests in flight one hiccup brings five hundred failures; the pause is the first one."""
    fail(gate, 500)
    clock.pass_by(FIRST_PAUSE_S + 0.1)
    assert gate.room(FREE) == 1


def test_half_open_one_probe_is_let_through_and_no_other(gate: ProviderGate, clock: Clock) -> None:
    open_breaker(gate)
    clock.pass_by(FIRST_PAUSE_S + 0.1)
    gate.take(FREE, 1)
    assert gate.room(FREE) == 0


def test_the_probe_s_success_closes_it(gate: ProviderGate, clock: Clock) -> None:
    open_breaker(gate)
    clock.pass_by(FIRST_PAUSE_S + 0.1)
    gate.take(FREE, 1)
    gate.succeeded(FREE)
    assert gate.room(FREE) == 64
    fail(gate, TRIP_AFTER - 1)
    assert gate.room(FREE) == 64


def test_each_failed_probe_doubles_the_pause_up_to_the_longest(gate: ProviderGate, clock: Clock) -> None:
    open_breaker(gate)
    pause = FIRST_PAUSE_S
    for _ in range(12):
        clock.pass_by(pause - 0.1)
        assert gate.room(FREE) == 0
        clock.pass_by(0.2)
        fail_probe(gate)
        pause = min(LONGEST_PAUSE_S, pause * 2)
    assert pause == LONGEST_PAUSE_S


def test_after_a_success_the_next_bad_time_begins_with_the_first_pause(gate: ProviderGate, clock: Clock) -> None:
    open_breaker(gate)
    clock.pass_by(FIRST_PAUSE_S + 0.1)
    fail_probe(gate)
    clock.pass_by(LONGEST_PAUSE_S)
    gate.take(FREE, 1)
    gate.succeeded(FREE)
    open_breaker(gate)
    clock.pass_by(FIRST_PAUSE_S + 0.1)
    assert gate.room(FREE) == 1


def test_a_probe_that_nobody_reports_on_does_not_shut_the_provider_out_for_good(
    gate: ProviderGate, clock: Clock
) -> None:
    open_breaker(gate)
    clock.pass_by(FIRST_PAUSE_S + 0.1)
    gate.take(FREE, 1)
    clock.pass_by(LONGEST_PAUSE_S)
    assert gate.room(FREE) == 1


def test_a_refused_registration_is_left_in_peace_for_half_an_hour(gate: ProviderGate, clock: Clock) -> None:
    gate.failed(FREE, operator=True, retry_after=None)
    clock.pass_by(OPERATOR_PAUSE_S - 1)
    assert gate.room(FREE) == 0
    clock.pass_by(2)
    fail_probe(gate)
    assert gate.room(FREE) == 0


def test_the_provider_s_own_word_makes_the_pause_longer_never_shorter(gate: ProviderGate, clock: Clock) -> None:
    fail(gate, TRIP_AFTER, retry_after=100)
    clock.pass_by(99)
    assert gate.room(FREE) == 0
    clock.pass_by(2)
    assert gate.room(FREE) == 1

    gate.succeeded(FREE)
    fail(gate, TRIP_AFTER, retry_after=1)
    clock.pass_by(FIRST_PAUSE_S - 0.1)
    assert gate.room(FREE) == 0


def test_one_provider_s_bad_day_is_nobody_else_s(gate: ProviderGate) -> None:
    open_breaker(gate)
    assert gate.room(SLOW) == 10


# ------------------------------------------------------------------------------------------------------- registrations


def test_a_registration_that_is_refused_is_not_held_against_another(gate: ProviderGate, clock: Clock) -> None:
    gate.failed(OTHER, operator=True, retry_after=None)
    assert gate.room(OTHER) == 0
    assert gate.room(OURS) == 10
    gate.succeeded(OURS)
    assert gate.room(OTHER) == 0


def test_registrations_share_the_rate_of_their_provider(gate: ProviderGate) -> None:
    gate.take(OURS, 6)
    assert gate.room(OTHER) == 4


def test_a_refusal_is_forgotten_with_the_secrets_it_was_about(gate: ProviderGate) -> None:
    gate.failed(OURS, operator=True, retry_after=None)
    turned = replace(OURS, client=Client("a", Secret("t"), Secret("s")))
    assert gate.room(turned) == 0, "the same two, the other one first"
    gate.failed(turned, operator=True, retry_after=None)
    assert gate.room(OURS) == 0
    assert gate.room(replace(OURS, client=Client("a", Secret("new"), Secret("s")))) == 10


def test_a_bad_time_is_not_forgotten_with_a_secret(gate: ProviderGate) -> None:
    fail(gate, TRIP_AFTER, OURS)
    assert gate.room(replace(OURS, client=Client("a", Secret("new")))) == 0


def test_a_pause_is_told_while_there_is_no_room_and_five_minutes_at_most(gate: ProviderGate, clock: Clock) -> None:
    assert gate.pause(FREE) == timedelta(0)
    open_breaker(gate)
    assert gate.pause(FREE) == timedelta(seconds=FIRST_PAUSE_S)
    clock.pass_by(FIRST_PAUSE_S)
    assert (gate.pause(FREE), gate.room(FREE)) == (timedelta(0), 1)
    gate.take(FREE, 1)
    assert gate.pause(FREE) > timedelta(0)
    gate.failed(OURS, operator=True, retry_after=None)
    assert gate.pause(OURS) == timedelta(minutes=5)


def test_a_probe_that_said_nothing_lets_another_go_at_once(gate: ProviderGate, clock: Clock) -> None:
    open_breaker(gate)
    clock.pass_by(FIRST_PAUSE_S + 0.1)
    gate.take(FREE, 1)
    assert gate.room(FREE) == 0
    gate.spared(FREE)
    assert gate.room(FREE) == 1
