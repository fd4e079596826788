"""Connections and the flows that make and end them: every change whole, and none beside a newer one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.integration.store.rows import HOUR, Rows, answer, quota, verdict
from vault.claims import Settled
from vault.lineage import Place
from vault.model import Connection, Status
from vault.ports import ConnectAttempt

ZERO = timedelta(0)
NOTHING = Settled(frozenset(), frozenset())
LIFE = timedelta(minutes=10)


def _attempt(rows: Rows, digest: bytes = b"digest") -> ConnectAttempt:
    return ConnectAttempt(
        digest, "default", "olga", "acme", "https://app/cb", "/next", "read", b"browser", uuid4(), False, rows.key().id,
        b"sealed", {"plan": "gold"}, b"sealed too",
    )  # fmt: skip


def test_an_attempt_is_taken_once(rows: Rows) -> None:
    attempt = _attempt(rows)
    rows.connections.save_attempt(attempt, LIFE)
    assert rows.connections.take_attempt("default", b"of nobody") is None
    assert rows.connections.take_attempt("another tenant", b"digest") is None
    assert rows.connections.take_attempt("default", b"digest") == attempt
    assert rows.connections.take_attempt("default", b"digest") is None


def test_an_attempt_is_not_taken_when_its_time_is_over(rows: Rows) -> None:
    rows.connections.save_attempt(_attempt(rows), ZERO)
    assert rows.connections.take_attempt("default", b"digest") is None


def test_connecting_makes_every_row_at_once(rows: Rows) -> None:
    grant = rows.grant(account="olga@acme", labels={"plan": "gold"}, granted_scopes="read", grant_life=24 * HOUR)
    made = rows.connections.connect(grant)
    assert made is not None
    assert (made.id, made.owner, made.account, made.status) == (grant.connection_id, "olga", "olga@acme", Status.ACTIVE)
    assert (made.labels, made.missing_scopes) == ({"plan": "gold"}, ("write",))
    assert made.expires_at is not None
    assert made.grant_ends_at is not None
    assert made.expires_at - made.connected_at == HOUR
    assert made.grant_ends_at - made.connected_at == 24 * HOUR
    schedule = rows.of("schedule", made.id)
    assert (schedule["next_at"], schedule["urgent"]) == (made.connected_at + HOUR / 2, False)
    assert made == rows.connections.connection("default", made.id)
    [audit] = rows.all("audit", made.id)
    assert (audit["event"], audit["detail"]["version"]) == ("connection.connected", 1)


def test_a_reconnect_takes_the_place_of_the_old_consent(rows: Rows) -> None:
    each = rows.add(labels={"plan": "gold"})
    rows.refreshing.settle([], [verdict(rows.claim(each), failures=4, unspent=False)])
    old = rows.of("schedule", each)
    fresh = rows.grant(connection_id=each, version=2, granted_scopes="read")
    made = rows.connections.connect(fresh)
    assert made is not None
    assert (made.id, made.status, made.granted_scopes) == (each, Status.ACTIVE, ("read",))
    grant, schedule = rows.of("oauth_grant", each), rows.of("schedule", each)
    assert (grant["consent"], grant["version"], grant["refresh_fp"]) == (2, 2, fresh.refresh_fp)
    assert (schedule["epoch"], schedule["failures"], schedule["intent_fp"]) == (old["epoch"] + 1, 0, None)
    assert rows.events(each)[-1] == "connection.reconnected"


@pytest.mark.parametrize("ended", ["needs_reconnect", "disconnected"])
def test_a_reconnect_revives_what_had_ended(rows: Rows, ended: str) -> None:
    each = rows.add(due=None)
    rows.connections.disconnect("default", each)
    rows.sql("UPDATE evergrant.oauth_grant SET status = %s", (ended,))
    version = rows.connections.grant_version(each)
    assert version is not None
    assert rows.connections.connect(rows.grant(connection_id=each, version=version + 1))
    assert rows.of("oauth_grant", each)["status"] == "active"
    assert rows.of("schedule", each)["next_at"] > rows.now()


def test_a_reconnect_wins_over_a_refresh_in_flight(rows: Rows) -> None:
    claim = rows.claim(rows.add())
    fresh = rows.grant(connection_id=claim.connection_id, version=2)
    rows.connections.connect(fresh)
    assert rows.refreshing.settle([answer(claim)], [verdict(claim)]) == NOTHING
    assert rows.refreshing.settle_late(answer(claim)) is Place.DROP
    assert rows.of("oauth_grant", claim.connection_id)["refresh_fp"] == fresh.refresh_fp


def test_a_reconnect_sealed_for_a_version_that_is_taken_changes_nothing(rows: Rows) -> None:
    """A refresh was quicker: the new consent is sealed anew for the next version, not lost."""
    claim = rows.claim(rows.add())
    rows.refreshing.settle([answer(claim)], [])
    before = rows.everything()
    assert rows.connections.connect(rows.grant(connection_id=claim.connection_id, version=2)) is None
    assert rows.everything() == before
    assert rows.connections.grant_version(claim.connection_id) == 2
    assert rows.connections.connect(rows.grant(connection_id=claim.connection_id, version=3)) is not None


def test_a_reconnect_forgets_candidates_of_the_old_consent(rows: Rows) -> None:
    late = rows.claim(rows.add())
    rows.expire_lease(late.connection_id)
    rows.claim()
    rows.refreshing.settle_late(answer(late))
    rows.connections.connect(rows.grant(connection_id=late.connection_id, version=2))
    assert rows.all("candidate", late.connection_id) == []


# ----------------------------------------------------------------------------------------------------------- disconnect


def test_disconnecting_takes_the_secrets_away_and_hands_the_token_to_revocation(rows: Rows) -> None:
    grant = rows.grant()
    rows.connections.connect(grant)
    assert rows.connections.disconnect("default", grant.connection_id)
    row, schedule = rows.of("oauth_grant", grant.connection_id), rows.of("schedule", grant.connection_id)
    assert (row["status"], row["version"]) == ("disconnected", 2)
    assert (row["access_envelope"], row["refresh_envelope"], row["refresh_fp"]) == (None, None, None)
    assert schedule["next_at"] is None
    waiting = rows.of("revocation", grant.connection_id)
    assert (waiting["refresh_envelope"], waiting["version"]) == (grant.refresh_envelope, 1)
    assert (waiting["tenant"], waiting["owner"], waiting["provider"]) == ("default", "olga", "acme")
    assert rows.events(grant.connection_id) == ["connection.disconnected"]


def test_disconnecting_twice_tells_it_once(rows: Rows) -> None:
    each = rows.add()
    assert rows.connections.disconnect("default", each)
    assert rows.connections.disconnect("default", each)
    assert rows.events(each) == ["connection.disconnected"]
    assert len(rows.all("revocation", each)) == 1


def test_disconnecting_hands_candidates_to_revocation_too(rows: Rows) -> None:
    """The row's own token may be spent long since; the candidate is the one that lives."""
    late = rows.claim(rows.add())
    rows.expire_lease(late.connection_id)
    rows.claim()
    kept = answer(late)
    rows.refreshing.settle_late(kept)
    rows.connections.disconnect("default", late.connection_id)
    waiting = {row["refresh_envelope"]: row for row in rows.all("revocation", late.connection_id)}
    assert set(waiting) == {late.refresh_envelope, kept.refresh_envelope}
    assert waiting[kept.refresh_envelope]["version"] == kept.version
    assert rows.all("candidate", late.connection_id) == []


def test_a_refresh_in_flight_cannot_undo_a_disconnect(rows: Rows) -> None:
    claim = rows.claim(rows.add())
    rows.connections.disconnect("default", claim.connection_id)
    assert rows.refreshing.settle([answer(claim)], [verdict(claim)]) == NOTHING
    assert rows.of("oauth_grant", claim.connection_id)["status"] == "disconnected"
    assert rows.of("schedule", claim.connection_id)["next_at"] is None


# ------------------------------------------------------------------------------------------------------------------ ask


def test_asking_makes_a_healthy_connection_due_now_and_urgent(rows: Rows) -> None:
    each = rows.add(due=HOUR)
    assert rows.connections.ask("default", each, insist=False) == ZERO
    claim = rows.claim()
    assert (claim.connection_id, claim.urgent) == (each, True)


def test_asking_never_puts_off_what_is_due(rows: Rows) -> None:
    each = rows.add(due=timedelta(minutes=-5))
    before = rows.of("schedule", each)["next_at"]
    assert rows.connections.ask("default", each, insist=False) == ZERO
    assert rows.of("schedule", each)["next_at"] == before


def _back_off(rows: Rows, each: UUID) -> None:
    rows.refreshing.settle([], [verdict(rows.claim(each), wait=HOUR, failures=2)])


def _quarantine(rows: Rows, each: UUID) -> None:
    end = verdict(rows.claim(each), wait=HOUR, failures=0, status=Status.QUARANTINED, reason="kills_its_worker")
    rows.refreshing.settle([], [end])


@pytest.mark.parametrize("unwell", [_back_off, _quarantine], ids=["backing off", "quarantined"])
def test_a_connection_that_is_unwell_keeps_its_pace_unless_the_caller_insists(
    rows: Rows, unwell: Callable[[Rows, UUID], None]
) -> None:
    each = rows.add()
    unwell(rows, each)
    wait = rows.connections.ask("default", each, insist=False)
    assert wait is not None
    assert timedelta(minutes=59) < wait <= HOUR
    assert rows.refreshing.claim([quota()]) == []
    assert rows.connections.ask("default", each, insist=True) == ZERO
    assert rows.of("schedule", each)["next_at"] <= rows.now()


def test_there_is_nothing_to_ask_of_a_connection_that_has_ended(rows: Rows) -> None:
    each = rows.add()
    rows.connections.disconnect("default", each)
    assert rows.connections.ask("default", each, insist=True) is None
    assert rows.connections.ask("default", uuid4(), insist=True) is None


# -------------------------------------------------------------------------------------------------------------- tenants


def test_a_tenant_sees_and_touches_its_own_connections_only(rows: Rows) -> None:
    ours, theirs = rows.add(due=HOUR), rows.add(due=HOUR, tenant="umbra")
    before = rows.of("schedule", theirs)
    assert rows.connections.connection("default", theirs) is None
    assert [c.id for c in _list(rows, "umbra")] == [theirs]
    assert [c.id for c in _list(rows, "default")] == [ours]
    assert rows.connections.ask("default", theirs, insist=True) is None
    assert not rows.connections.disconnect("default", theirs)
    assert rows.of("schedule", theirs) == before
    assert rows.of("oauth_grant", theirs)["status"] == "active"


def _list(rows: Rows, tenant: str, **filters: Any) -> list[Connection]:
    wanted = {"owner": None, "provider": None, "status": None, "after": None, "limit": 100, "further": False, **filters}
    return rows.connections.connections(tenant, **wanted)


def test_connections_are_listed_by_id_in_pages_and_by_what_they_are(rows: Rows) -> None:
    ids = sorted([rows.add(due=None), rows.add("umbra", due=None), rows.add(owner="nina", due=None)])
    pages = [_list(rows, "default", limit=2), _list(rows, "default", after=ids[1])]
    assert [[c.id for c in page] for page in pages] == [ids[:2], ids[2:]]
    assert [c.owner for c in _list(rows, "default", owner="nina")] == ["nina"]
    assert [c.provider for c in _list(rows, "default", provider="umbra")] == ["umbra"]
    rows.connections.disconnect("default", ids[0])
    assert [c.id for c in _list(rows, "default", status="disconnected")] == [ids[0]]
