"""What happens to connections, and what is told of it: each fact once, with its reason, in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.integration.house import House
from tests.integration.store.rows import Rows, answer, verdict
from tests.simulator import SimulatorProcess
from vault import EventType
from vault.model import Status
from vault.store.telling import record_ending


@pytest.fixture
def build(database_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[Callable[..., House]]:
    built: list[House] = []

    def make(**arguments: Any) -> House:
        built.append(House(database_url, simulator, tmp_path, **arguments))
        return built[-1]

    yield make
    for house in built:
        house.close()


def told(house: House, connection_id: UUID | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Types and data of events, oldest first."""
    found = house.worker.events.events(connection_id=connection_id)
    return [(each.type, dict(each.data)) for each in reversed(found)]


def types(house: House, connection_id: UUID | None = None) -> list[str]:
    return [kind for kind, _ in told(house, connection_id)]


def test_a_life_as_its_admin_hears_of_it(build: Callable[..., House]) -> None:
    """Refreshes are not told of; a dead grant, its new consent and its end are, once each."""
    house = build()
    each, other = house.connect(), house.connect("nina")
    house.make_due(each, other)
    assert house.worker.refresh_scan().news is False
    assert told(house) == []
    house.simulator.kill_account(house.far_side, house.account(each))
    house.make_due(each, other)
    assert house.worker.refresh_scan().news is True
    [(kind, data)] = told(house)
    assert kind == "connection.needs_reconnect"
    assert data == {
        "connection_id": str(each), "owner": "olga", "provider": "acme", "account": None, "reason": "invalid_grant",
    }  # fmt: skip
    assert house.worker.refresh_scan().news is False
    house.connect("olga", reconnect=each)
    house.connect("olga", reconnect=each)
    [_, (kind, data)] = told(house)
    assert kind == "connection.recovered"
    assert data["recovered_from"] == "connection.needs_reconnect"
    house.vault.disconnect(each)
    house.vault.disconnect(each)
    house.connect("olga", reconnect=each)
    house.vault.disconnect(each)
    lived = ["connection.needs_reconnect", "connection.recovered"]
    assert types(house, each) == [*lived, "connection.disconnected", "connection.disconnected"]
    assert types(house, other) == []
    for body in house.sql("SELECT body FROM evergrant.event"):
        assert "cnry-" not in body["body"], "no event holds a secret"


def test_shredding_an_owner_tells_of_their_connections(build: Callable[..., House]) -> None:
    house = build()
    each, before = house.connect(), house.connect()
    house.vault.disconnect(before)
    house.worker.keys.shred_owner("olga")
    assert [(kind, data["reason"]) for kind, data in told(house, each)] == [("connection.disconnected", "shredded")]
    assert types(house, before) == ["connection.disconnected"]


# ------------------------------------------------------------------------------------------------- statements by batch


@pytest.fixture
def rows(database_url: str) -> Iterator[Rows]:
    built = Rows(database_url)
    yield built
    built.close()


def of(rows: Rows) -> list[tuple[str, UUID]]:
    found = rows.sql("SELECT type, connection_id FROM evergrant.event ORDER BY created_at, connection_id")
    return [(row["type"], row["connection_id"]) for row in found]


def test_in_one_batch_those_in_quarantine_are_told_of_and_the_others_are_not(rows: Rows) -> None:
    ids = rows.add_many(4)
    claims = [rows.claim(each) for each in ids]
    poison = {"event": "connection.quarantined", "status": Status.QUARANTINED, "reason": "kills_its_worker"}
    rows.refreshing.settle((), [verdict(claims[0], **poison), verdict(claims[1]), verdict(claims[2], **poison)])
    assert of(rows) == [("connection.quarantined", each) for each in sorted([ids[0], ids[2]])]
    [event] = rows.sql("SELECT * FROM evergrant.event WHERE connection_id = %s", (ids[0],))
    body = json.loads(event["body"])
    assert (body["id"], body["data"]["reason"]) == (str(event["id"]), "kills_its_worker")
    rows.refreshing.settle((), [verdict(claims[0], **poison)])
    assert len(of(rows)) == 2, "a verdict that comes twice tells nothing new"
    rows.sql("UPDATE evergrant.oauth_grant SET status = 'in_doubt', reason = 'another'")
    rows.refreshing.settle((), [verdict(claims[0], **poison)])
    assert len(of(rows)) == 2, "nor does one that comes back before anything was refreshed"


def test_a_refresh_that_ends_what_was_told_of_is_told_once_and_others_are_not(rows: Rows) -> None:
    poison = {"event": "connection.quarantined", "status": Status.QUARANTINED, "reason": "kills_its_worker"}
    told_of, quiet = rows.add_many(2)
    rows.refreshing.settle((), [verdict(rows.claim(told_of), **poison)])
    rows.sql("UPDATE evergrant.schedule SET next_at = now(), attempt = 0")
    for _ in range(2):
        kept = [answer(rows.claim(each), recovered_from="a trouble") for each in (told_of, quiet)]
        assert rows.refreshing.settle(kept, ()).stored == {told_of, quiet}
        rows.sql("UPDATE evergrant.schedule SET next_at = now()")
    assert of(rows) == [("connection.quarantined", told_of), ("connection.recovered", told_of)]


def test_a_claim_condemned_by_several_is_told_of_once(rows: Rows) -> None:
    each = rows.add()
    claim = rows.claim(each)
    dead = verdict(
        claim, event="connection.needs_reconnect", status=Status.NEEDS_RECONNECT, reason="invalid_grant", wait=None,
        conclusive=True,
    )  # fmt: skip
    stores = [rows.another_store() for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda store: store.condemn(dead, client_id="ours", spooled=False), stores))
    assert of(rows) == [("connection.needs_reconnect", each)]


def test_consents_that_end_soon_are_told_of_once_for_each_warning(rows: Rows) -> None:
    ending, endless = rows.add(grant_life=timedelta(days=20)), rows.add()
    for days in (30, 30, 7, 30):
        with rows.database.begin() as transaction:
            record_ending(transaction, [ending, endless], days)
    assert of(rows) == [(EventType.GRANT_ENDING, ending)] * 2
    found = rows.sql("SELECT body::json->'data' AS data FROM evergrant.event ORDER BY created_at")
    assert [row["data"]["days"] for row in found] == [30, 7]
