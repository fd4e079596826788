"""How one connection is, and how all of them are: told from what refreshes left behind, without asking anybody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from tests.integration.house import House
from vault import ConnectionHealth, HealthSummary, Need, UnknownConnection
from vault.services import standing

HOUR = timedelta(hours=1)


def health(house: House, connection_id: UUID) -> ConnectionHealth:
    return house.vault.connection_health(connection_id)


def refreshed_badly(house: House, connection_id: UUID, fault: str, **members: object) -> ConnectionHealth:
    house.fault(fault, connection_id, **members)
    house.make_due(connection_id)
    house.worker.refresh_scan()
    return health(house, connection_id)


# ------------------------------------------------------------------------------------------------------- one connection


def test_one_that_is_well(house: House) -> None:
    made = house.connect()
    arrived = house.arrivals(made)
    found = health(house, made)
    assert (found.status, found.need, found.reason, found.well) == ("active", Need.NOTHING, None, True)
    assert (found.expired, found.stale, found.late, found.refreshing) == (False, False, timedelta(0), False)
    assert (found.reachable, found.failures, found.provider) == (True, 0, "acme")
    assert found.next_at is not None
    assert found.refreshed_at < found.next_at < found.expires_at
    assert house.arrivals(made) == arrived, "nobody was asked"


def test_one_that_nobody_refreshes(house: House) -> None:
    made = house.connect()
    house.make_due(made)
    assert health(house, made).need is Need.NOTHING, "it is due, which is nothing yet"
    house.pass_time(timedelta(seconds=61), made)
    found = health(house, made)
    assert (found.need, found.well, found.expired) == (Need.RETRY, True, False)
    assert timedelta(seconds=60) < found.late < timedelta(seconds=70)
    house.pass_time(HOUR, made)
    found = health(house, made)
    assert (found.need, found.well, found.expired, found.stale) == (Need.RETRY, False, True, True)


def test_one_whose_provider_asks_for_patience(house: House) -> None:
    found = refreshed_badly(house, house.connect(), "rate_limited", retry_after=3600)
    assert (found.need, found.reason, found.reachable, found.failures) == (Need.RETRY, "http_429", True, 1)
    assert found.well, "its token lives"


def test_one_whose_provider_does_not_answer(house: House) -> None:
    found = refreshed_badly(house, house.connect(), "error_before")
    assert (found.status, found.need, found.reachable) == ("in_doubt", Need.RETRY, False)
    assert found.next_at is not None


def test_one_whose_registration_is_refused(house: House) -> None:
    found = refreshed_badly(house, house.connect(), "error_in_200", error="invalid_client")
    assert (found.need, found.reason, found.reachable) == (Need.OPERATOR, "invalid_client", True)
    assert not found.well


def test_one_whose_consent_is_gone(house: House) -> None:
    found = refreshed_badly(house, house.connect(), "error_in_200", error="invalid_grant")
    assert (found.status, found.need, found.reason) == ("needs_reconnect", Need.RECONNECT, "invalid_grant")
    assert (found.next_at, found.well) == (None, False)


def test_one_whose_consent_has_ended_by_itself(house: House) -> None:
    made = house.connect()
    house.sql("UPDATE evergrant.oauth_grant SET grant_ends_at = now() - interval '1 s'")
    assert health(house, made).need is Need.RECONNECT
    assert health(house, made).grant_ends_at is not None


def test_one_that_kills_its_workers(house: House) -> None:
    made = house.connect()
    house.sql("UPDATE evergrant.oauth_grant SET status = 'quarantined', reason = 'kills_its_worker'")
    found = health(house, made)
    assert (found.need, found.reason, found.reachable, found.well) == (Need.OPERATOR, "kills_its_worker", None, False)


def test_one_that_a_worker_has_in_hand(house: House) -> None:
    made = house.connect()
    house.make_due(made)
    house.sql("UPDATE evergrant.schedule SET lease_until = now() + interval '30 s', next_at = now() - interval '2 min'")
    found = health(house, made)
    assert (found.refreshing, found.late, found.need) == (True, timedelta(0), Need.NOTHING)


def test_one_that_was_disconnected_needs_nothing_and_serves_nothing(house: House) -> None:
    made = house.connect()
    house.vault.disconnect(made)
    found = health(house, made)
    assert (found.status, found.need, found.well, found.reachable) == ("disconnected", Need.NOTHING, False, None)


@pytest.mark.parametrize("unknown", [UUID(int=1), "no id", 17])
def test_one_there_is_not(house: House, unknown: UUID) -> None:
    made = house.connect()
    with pytest.raises(UnknownConnection):
        house.vault.connection_health(unknown)
    with pytest.raises(UnknownConnection):
        house.vault.for_tenant("other").connection_health(made)


# ------------------------------------------------------------------------------------------------------ all connections


@pytest.fixture
def many(house: House, monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """Seven, of which three need nothing, and pages of two."""
    monkeypatch.setattr(standing, "PAGE", 2)
    made = house.connect_many(8)
    statuses = ["needs_reconnect", "needs_reconnect", "quarantined", "in_doubt"]
    for connection_id, status in zip(made, statuses, strict=False):
        change = "UPDATE evergrant.oauth_grant SET status = %s, reason = %s WHERE connection_id = %s"
        house.sql(change, (status, f"because {status}", connection_id))
    house.vault.disconnect(made[7])
    return made


def assert_whole(found: HealthSummary | None) -> None:
    assert found is not None
    assert found.connections == 7
    assert found.needs == {"nothing": 3, "reconnect": 2, "operator": 1, "retry": 1}
    assert found.well == 4
    assert found.reasons == {"because needs_reconnect": 2, "because quarantined": 1, "because in_doubt": 1}
    assert found.began_at is not None
    assert found.ended_at is not None
    assert found.began_at < found.ended_at


def test_all_are_looked_at_and_what_was_found_is_kept_with_its_date(house: House, many: list[UUID]) -> None:
    assert house.worker.statistics().health is None
    steps: list[HealthSummary] = []
    found = house.worker.health_check_all(progress=steps.append)
    assert_whole(found)
    assert [step.connections for step in steps][-1] == 7
    assert len(steps) == 5, "eight are four full pages, and one to see that there are no more"
    assert house.worker.statistics().health == found
    assert many


def test_all_of_one_tenant(house: House, many: list[UUID]) -> None:
    house.sql("UPDATE evergrant.oauth_grant SET tenant = 'other' WHERE connection_id = %s", [many[0]])
    house.sql("UPDATE evergrant.connection SET tenant = 'other' WHERE id = %s", [many[0]])
    assert house.worker.health_check_all("other").needs == {"reconnect": 1}
    assert house.worker.health_check_all("default").connections == 6
    assert house.worker.statistics("other").health is not None
    assert house.worker.statistics().health is None


def test_a_look_goes_on_where_its_budget_ended_whoever_goes_on(house: House, many: list[UUID]) -> None:
    none = timedelta(0)
    seen = [house.another_worker().health_check_all(budget=none) for _ in range(4)]
    assert [found.ended_at for found in seen] == [None] * 4
    assert [found.connections for found in seen] == sorted(found.connections for found in seen)
    assert house.worker.statistics().health is None
    assert_whole(house.worker.health_check_all(budget=none))
    assert many


def test_two_at_once_count_nothing_twice(house: House, many: list[UUID]) -> None:
    other = house.another_worker()
    found = house.worker.health_check_all(progress=_once(lambda: other.health_check_all(anew=True)))
    assert_whole(found)
    assert_whole(house.worker.statistics().health)
    assert many


def _once(act: Callable[[], object]) -> Callable[[object], None]:
    left = [act]

    def called(_: object) -> None:
        if left:
            left.pop()()

    return called


def test_one_that_was_begun_and_left_can_be_begun_anew(house: House, many: list[UUID]) -> None:
    house.worker.health_check_all(budget=timedelta(0))
    house.sql("UPDATE evergrant.health_sweep SET counts = counts || '{\"connections\": 1000}'")
    assert_whole(house.worker.health_check_all(anew=True))
    assert many


def test_one_that_was_begun_anew_and_left_at_once_has_nothing_of_the_one_before(house: House, many: list[UUID]) -> None:
    house.worker.health_check_all(budget=timedelta(0))
    store = house.worker._wiring._conditions
    assert store.begin_sweep(None, store.sweep(None)[0]) is not None
    assert_whole(house.another_worker().health_check_all())
    assert many


def test_workers_look_once_in_a_time_however_often_they_are_asked(house: House, many: list[UUID]) -> None:
    assert not house.worker.unfinished_health_check()
    assert house.worker.health_check_slice(timedelta(0))
    assert house.worker.unfinished_health_check()
    while house.worker.health_check_slice(timedelta(0)):
        pass
    first = house.worker.statistics().health
    assert_whole(first)
    assert not house.worker.health_check_slice()
    assert house.worker.statistics().health == first
    house.sql("UPDATE evergrant.health_sweep SET last_began_at = last_began_at - interval '23 h 59 min'")
    assert not house.worker.health_check_slice(), "it is whole at once"
    again = house.worker.statistics().health
    assert_whole(again)
    assert again != first
    assert many


def test_there_may_be_none(house: House) -> None:
    found = house.worker.health_check_all()
    assert (found.connections, found.needs) == (0, {})
    assert found.ended_at is not None
