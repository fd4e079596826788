"""What a connection needs, judged from what is known of it."""

from __future__ import annotations

import pytest

from vault import HealthSummary, Need, Status
from vault.standing.condition import REASONS_KEPT, ConditionRow, need, reachable, well

WELL = ConditionRow(Status.ACTIVE, None, failing=False, expired=False, late=False, over=False)


def row(**changes: object) -> ConditionRow:
    return WELL._replace(**changes)  # type: ignore[arg-type]  # by name, as tests write them


@pytest.mark.parametrize(
    ("known", "needed", "is_well", "answered"),
    [
        (row(), Need.NOTHING, True, True),
        (row(reason="http_429"), Need.NOTHING, True, True),  # it was; nothing has failed since
        (row(expired=True), Need.NOTHING, False, True),
        (row(late=True), Need.RETRY, True, True),
        (row(over=True), Need.RECONNECT, False, True),
        (row(failing=True, reason="http_429"), Need.RETRY, True, True),
        (row(failing=True, reason="connect"), Need.RETRY, True, False),
        (row(failing=True, reason="http_503"), Need.RETRY, True, False),
        (row(failing=True, reason="http_503", expired=True), Need.RETRY, False, False),
        (row(failing=True, reason="certificate"), Need.OPERATOR, False, False),
        (row(failing=True, reason="invalid_client"), Need.OPERATOR, False, True),
        (row(failing=True, reason="KeyUnavailable"), Need.OPERATOR, False, None),
        (row(failing=True, reason="client_changed"), Need.OPERATOR, False, None),
        (row(failing=True), Need.RETRY, True, True),
        (row(status=Status.IN_DOUBT, reason="timeout"), Need.RETRY, True, False),
        (row(status=Status.IN_DOUBT, reason="answer_lost"), Need.RETRY, True, True),
        (row(status=Status.QUARANTINED, reason="kills_its_worker"), Need.OPERATOR, False, None),
        (row(status=Status.NEEDS_RECONNECT, reason="invalid_grant"), Need.RECONNECT, False, True),
        (row(status=Status.DISCONNECTED, reason="disconnected", over=True), Need.NOTHING, False, None),
    ],
    ids=str,
)
def test_a_connection_is_judged(known: ConditionRow, needed: Need, answered: bool | None, *, is_well: bool) -> None:
    assert (need(known), well(known), reachable(known)) == (needed, is_well, answered)


def test_pages_are_added_up_without_those_whose_owners_have_left() -> None:
    found = HealthSummary().with_rows([(row(), 3), (row(status=Status.DISCONNECTED), 5)])
    found = found.with_rows([(row(failing=True, reason="http_503", expired=True), 2), (row(late=True), 1), (row(), 1)])
    assert (found.connections, found.well, found.expired, found.late) == (7, 5, 2, 1)
    assert found.needs == {"nothing": 4, "retry": 3}
    assert found.reasons == {"http_503": 2, "late": 1}


def test_of_ever_so_many_reasons_the_most_frequent_are_kept() -> None:
    rows = [(row(failing=True, reason=f"code {n}"), n) for n in range(1, 2 * REASONS_KEPT)]
    found = HealthSummary().with_rows(rows)
    assert len(found.reasons) == REASONS_KEPT
    assert max(found.reasons.values()) == 2 * REASONS_KEPT - 1
