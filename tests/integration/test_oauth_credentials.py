"""The two kinds that are a grant's, seen as credentials; and grants that an app got elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.integration.house import House
from tests.simulator import SimulatorProcess
from vault import (
    ConnectRefused,
    InvalidCredential,
    ReconnectRequired,
    Status,
    UnknownConnection,
    UnknownCredential,
    UnknownProvider,
    Vault,
)

DAY = timedelta(days=1)
KINDS = ("oauth_access_token", "oauth_refresh_token")


def both(house: House, connection_id: UUID) -> list[UUID]:
    return [each.id for each in house.vault.credentials(connection=connection_id)]


def read_events(house: House) -> list[dict[str, Any]]:
    found = house.sql("SELECT detail FROM evergrant.audit WHERE event = 'credential.retrieved' ORDER BY id")
    return [row["detail"] for row in found]


# ------------------------------------------------------------------------------------------------------------- views


def test_a_connection_is_two_credentials_whose_ids_follow_from_its_own(house: House) -> None:
    vault = house.vault
    each = house.connect(labels={"team": "blue"})
    access, refresh = both(house, each)
    assert access == each
    assert vault.credential(access, reason="to look").value == vault.get(each).access_token
    shown = vault.describe_credential(refresh)
    assert (shown.kind, shown.owner, shown.provider, shown.connection_id) == (KINDS[1], "olga", "acme", each)
    assert (shown.tags, shown.state, shown.facts["status"]) == ({"team": "blue"}, "active", "active")
    assert shown.export_name == f"integration-default-acme-oauth_refresh_token-{each}"
    row = house.row(each)
    assert vault.describe_credential(access).expires_at == row["expires_at"]
    assert [(v.version, v.stage) for v in vault.history(refresh)] == [(row["version"], "current")]


def test_a_refresh_token_can_be_read_and_the_audit_says_so(house: House) -> None:
    each = house.connect()
    access, refresh = both(house, each)
    found = house.vault.credential(refresh, reason="moving out")
    assert found.value.reveal() == list(house.oracle.lineage(house.account(each), house.far_side))[-1]
    house.vault.credential(access)
    said = {"credential_id": str(refresh), "kind": KINDS[1], "provider": "acme", "version": 1, "reason": "moving out"}
    assert read_events(house)[0] == said
    assert [row["kind"] for row in read_events(house)] == [KINDS[1], KINDS[0]]
    assert found.value.reveal() not in repr(found) + repr(read_events(house))


def test_after_a_refresh_the_ids_are_the_same_and_the_values_others(house: House) -> None:
    each = house.connect()
    access, refresh = both(house, each)
    before = [house.vault.credential(one).value for one in (access, refresh)]
    house.make_due(each)
    house.worker.refresh_scan()
    after = [house.vault.credential(one) for one in (access, refresh)]
    assert [found.version.version for found in after] == [2, 2]
    assert all(old != new.value for old, new in zip(before, after, strict=True))
    with pytest.raises(UnknownCredential, match="version"):
        house.vault.credential(refresh, version=1)
    with pytest.raises(UnknownCredential):
        house.vault.credential(access, version=1)


def test_they_are_listed_among_all_others_page_by_page_in_the_order_of_ids(house: House) -> None:
    vault = house.vault
    connections = house.connect_many(4)
    stored = {vault.store_api_key(f"sk-{number}", tags={"team": "blue"}) for number in range(4)}
    everything, last = [], None
    while page := vault.credentials(after=last, limit=3):
        everything += page
        last = page[-1].id
    ids = [each.id for each in everything]
    assert all(one < other for one, other in pairwise(ids))
    assert set(ids) == stored | {one for each in connections for one in both(house, each)}
    assert [each.id for each in vault.credentials(kind=KINDS[0])] == sorted(connections)
    assert {each.connection_id for each in vault.credentials(kind=KINDS[1])} == set(connections)
    assert {each.id for each in vault.credentials(tags={"team": "blue"})} == stored
    assert {each.id for each in vault.credentials(kind="api_key")} == stored
    assert len(vault.credentials(owner="owner 1", provider="acme")) == 2
    assert vault.credentials(provider="acme", state="deleted") == []


def test_labels_are_their_tags(house: House) -> None:
    each = house.connect(labels={"team": "red", "seat": "7"})
    house.connect("ann", labels={"team": "blue"})
    assert both(house, each) == [one.id for one in house.vault.credentials(tags={"team": "red"})]


def test_another_tenant_sees_none_of_it(house: House) -> None:
    refresh = both(house, each := house.connect())[1]
    other = house.vault.for_tenant("umbra")
    for one in (each, refresh, uuid4()):
        for call in (other.credential, other.describe_credential, other.history):
            with pytest.raises(UnknownCredential):
                call(one)
    assert other.credentials() == other.list_expiring(10_000) == other.check_rotation_required() == []


def test_what_was_disconnected_is_destroyed_and_what_is_dead_says_so(house: House) -> None:
    gone, dead = house.connect(), house.connect("ann")
    views = both(house, gone)
    house.vault.disconnect(gone)
    assert [house.vault.describe_credential(one).state for one in views] == ["destroyed", "destroyed"]
    assert {each.id for each in house.vault.credentials(state="destroyed")} == set(views)
    with pytest.raises(UnknownCredential):
        house.vault.credential(views[1])
    with pytest.raises(ReconnectRequired):
        house.vault.credential(gone)
    house.sql("UPDATE evergrant.oauth_grant SET status = 'needs_reconnect' WHERE connection_id = %s", (dead,))
    assert house.vault.describe_credential(dead).facts["status"] == "needs_reconnect"


REFUSED: dict[str, Callable[[Vault, UUID], object]] = {
    "put": lambda v, c: v.put(c, "mine"),
    "roll back": lambda v, c: v.roll_back(c),
    "rotate": lambda v, c: v.rotate(c),
    "change": lambda v, c: v.change_credential(c, name="mine"),
    "undelete": lambda v, c: v.undelete_credential(c),
}


@pytest.mark.parametrize("act", REFUSED)
def test_what_looks_after_them_is_the_connection(house: House, act: str) -> None:
    for one in both(house, house.connect()):
        with pytest.raises(UnknownCredential):
            REFUSED[act](house.vault, one)
        assert house.vault.delete_credentials(one) == house.vault.destroy_credentials(one) == set()
        assert house.vault.credential(one).value.reveal()


def test_a_consent_that_ends_is_among_what_ends_soon(house: House) -> None:
    vault = house.vault
    late, soon, endless = house.connect_many(3)
    key = vault.store_api_key("sk", expires_at=datetime.now(UTC) + 12 * DAY)
    for each, days in ((late, 25), (soon, 5)):
        house.sql(
            "UPDATE evergrant.oauth_grant SET grant_ends_at = now() + %s WHERE connection_id = %s", (days * DAY, each)
        )
    assert [each.id for each in vault.list_expiring()] == [both(house, soon)[1], key, both(house, late)[1]]
    assert [each.id for each in vault.list_expiring(7)] == [both(house, soon)[1]]
    house.sql("UPDATE evergrant.oauth_grant SET grant_ends_at = now() + interval '90 days'")
    assert [each.id for each in vault.list_expiring()] == [key], "refreshes have put the ends off"
    assert vault.describe_credential(endless).expires_at is not None


def test_a_refresh_token_that_no_refresh_replaces_is_past_its_age_after_ninety_days(
    database_url: str, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    for rotation, expected in (("none", 1), ("strict", 0)):
        house = House(database_url, simulator, tmp_path, rotation=rotation)
        each = house.connect(rotation)
        house.sql("UPDATE evergrant.connection SET connected_at = now() - interval '91 days'")
        found = [one for one in house.vault.check_rotation_required() if one.owner == rotation]
        assert [one.id for one in found] == both(house, each)[1:] * expected
        house.sql("UPDATE evergrant.connection SET connected_at = now() - interval '89 days'")
        assert [one for one in house.vault.check_rotation_required() if one.owner == rotation] == []
        house.close()


# ---------------------------------------------------------------------------------------------------------- store_oauth


def handed_over(house: House, **changes: Any) -> Any:
    """A grant that another system got from the provider, and gives up."""
    other = house.connect("ann")
    lost = house.vault.credential(both(house, other)[1]).value
    access = house.vault.get(other).access_token
    given = {"owner": "olga", "access_token": access, "refresh_token": lost, **changes}
    house.sql("DELETE FROM evergrant.connection WHERE id = %s", (other,))
    return house.vault.store_oauth("acme", **given)


def test_a_grant_that_was_got_elsewhere_is_served_and_refreshed(house: House) -> None:
    ends_at = datetime.now(UTC) + timedelta(minutes=50)
    made = handed_over(
        house, expires_at=ends_at, scopes=("read", "write"), account="account-1", tags={"from": "elsewhere"},
        metadata={"instance_url": "https://eu"},
    )  # fmt: skip
    vault = house.vault
    shown = vault.connection(made.connection)
    assert (shown.status, shown.owner, shown.account, shown.labels) == (
        Status.ACTIVE, "olga", "account-1", {"from": "elsewhere"},
    )  # fmt: skip
    assert shown.granted_scopes == ("read", "write")
    assert vault.metadata(made.connection) == {"instance_url": "https://eu"}
    assert abs(shown.expires_at - ends_at) < timedelta(seconds=2) if shown.expires_at else False
    before = vault.get(made.connection).access_token
    assert (made.access_token, both(house, made.connection)) == (made.connection, [*made[1:]])
    house.make_due(made.connection)
    assert house.worker.refresh_scan().refreshed == 1
    assert vault.get(made.connection).access_token != before
    assert house.audit(made.connection)[0]["event"] == "oauth.refreshed"


def test_a_refresh_token_alone_is_refreshed_at_once(house: House) -> None:
    made = handed_over(house, access_token=None)
    assert house.worker.refresh_scan().refreshed == 1
    assert house.vault.get(made.connection).access_token.reveal()


def test_an_access_token_whose_end_nobody_knows_is_refreshed_at_once(house: House) -> None:
    made = handed_over(house)
    assert house.worker.refresh_scan().refreshed == 1
    assert house.vault.get(made.connection)


def test_an_access_token_alone_is_served_while_it_lives(house: House) -> None:
    made = house.vault.store_oauth(
        "acme", owner="olga", access_token="at-1", expires_at=datetime.now(UTC) + timedelta(hours=2)
    )
    assert house.vault.get(made.connection).access_token.reveal() == "at-1"
    assert [each.kind for each in house.vault.credentials(connection=made.connection)] == [KINDS[0]]
    for call in (house.vault.credential, house.vault.describe_credential):
        with pytest.raises(UnknownCredential):
            call(made.refresh_token)


def test_it_takes_the_place_of_a_dead_one(house: House) -> None:
    each = house.connect()
    house.sql("UPDATE evergrant.oauth_grant SET status = 'needs_reconnect', reason = 'invalid_grant'")
    made = handed_over(house, connection=each)
    assert made.connection == each
    assert house.state(each) == ("active", None)
    assert "connection.reconnected" in house.events(each)


BAD: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "no token": (InvalidCredential, {"access_token": None}),
    "a token with a line break": (InvalidCredential, {"access_token": "at-secret\n"}),
    "an empty token": (InvalidCredential, {"refresh_token": ""}),
    "a token that is not ASCII": (InvalidCredential, {"refresh_token": "rt-sécret"}),
    "an end in the year 10000": (
        InvalidCredential,
        {"expires_at": datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-1)))},
    ),
    "no time zone": (InvalidCredential, {"expires_at": datetime(2030, 1, 1)}),  # noqa: DTZ001  # the point
    "a provider nobody knows": (UnknownProvider, {"provider": "nowhere"}),
    "a connection nobody knows": (UnknownConnection, {"connection": uuid4()}),
    "metadata that is no text": (ValueError, {"metadata": {"a": 1}}),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_kept_is_refused_and_nothing_is(house: House, name: str) -> None:
    error, changes = BAD[name]
    given = {"provider": "acme", "owner": "olga", "access_token": "at-secret", **changes}
    with pytest.raises(error) as refusal:
        house.vault.store_oauth(given.pop("provider"), **given)
    assert "cret" not in str(refusal.value).replace("acme", "")
    assert house.vault.connections() == []


def test_another_owners_connection_is_not_replaced(house: House) -> None:
    with pytest.raises(ConnectRefused, match="owner"):
        house.vault.store_oauth("acme", owner="ann", access_token="at", connection=house.connect())
