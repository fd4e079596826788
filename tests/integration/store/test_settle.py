"""S5 and S6, the common case: answers by lineage, ends by epoch, each with its audit row, many in one go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.integration.store.rows import HOUR, Rows, answer, fingerprint, quota, verdict
from vault.claims import Settled
from vault.model import Status

ZERO = timedelta(0)
NOTHING = Settled(frozenset(), frozenset())


def test_an_answer_takes_the_place_of_its_parent(rows: Rows) -> None:
    claim = rows.claim(rows.add())
    kept = answer(claim, grant_ends_at=claim.claimed_at + 24 * HOUR, token_type="MAC")
    assert rows.refreshing.settle([kept], []) == Settled(frozenset({claim.connection_id}), frozenset())
    grant = rows.of("oauth_grant", claim.connection_id)
    assert (grant["status"], grant["reason"], grant["version"], grant["consent"]) == ("active", None, 2, 1)
    for field in ("refresh_fp", "access_envelope", "refresh_envelope", "token_type", "expires_at", "grant_ends_at"):
        assert grant[field] == getattr(kept, field)
    assert (grant["data_key_id"], grant["refreshed_at"]) == (kept.data_key_id, kept.sent_at)
    assert kept.next_at < grant["stale_at"] < kept.expires_at
    schedule = rows.of("schedule", claim.connection_id)
    assert (schedule["next_at"], schedule["lease_until"].timestamp(), schedule["urgent"]) == (kept.next_at, 0, False)
    assert (schedule["attempt"], schedule["failures"], schedule["intent_fp"], schedule["intent_at"]) == (
        0,
        0,
        None,
        None,
    )


def test_it_leaves_one_audit_row_with_its_lineage_and_nothing_secret(rows: Rows) -> None:
    claim = rows.claim(rows.add())
    kept = answer(claim)
    rows.refreshing.settle([kept], [])
    assert rows.events(claim.connection_id) == ["oauth.refreshed"]
    lineage = {"parent": kept.parent_fp.hex(), "refresh": kept.refresh_fp.hex()}
    assert rows.detail(claim.connection_id) == {"epoch": claim.epoch, "version": 2, **lineage}


def test_an_answer_that_ends_trouble_says_so(rows: Rows) -> None:
    claim = rows.claim(rows.add())
    rows.refreshing.settle([answer(claim, recovered_from="http_503")], [])
    assert rows.detail(claim.connection_id)["recovered_from"] == "http_503"


def test_scopes_granted_anew_are_noted_and_silence_leaves_the_old_ones(rows: Rows) -> None:
    said, silent = rows.add(), rows.add()
    claims = {c.connection_id: c for c in rows.refreshing.claim([quota()])}
    rows.refreshing.settle([answer(claims[said], scopes="read"), answer(claims[silent])], [])
    assert rows.of("connection", said)["granted_scopes"] == "read"
    assert rows.of("connection", silent)["granted_scopes"] == "read write"


@pytest.mark.parametrize(
    "changes",
    [
        {"parent_fp": fingerprint()},
        {"parent_version": 7},
        {"consent": 2},
        {"epoch": 1},
        {"epoch": 9},
    ],
    ids=["another parent", "another version", "another consent", "an older epoch", "a newer epoch"],
)
def test_an_answer_that_does_not_fit_changes_no_grant(rows: Rows, changes: dict[str, Any]) -> None:
    claim = rows.claim(rows.add())
    before = rows.of("oauth_grant", claim.connection_id)
    assert rows.refreshing.settle([answer(claim, **changes)], []).stored == set()
    assert rows.of("oauth_grant", claim.connection_id) == before
    assert rows.events(claim.connection_id) == []


def test_a_lease_that_was_lost_is_left_to_whom_it_belongs(rows: Rows) -> None:
    late = rows.claim(rows.add())
    rows.expire_lease(late.connection_id)
    holder = rows.claim()
    before = rows.of("schedule", late.connection_id)
    assert rows.refreshing.settle([answer(late)], []).stored == set()
    assert rows.refreshing.settle([], [verdict(late)]).ended == set()
    assert rows.of("schedule", late.connection_id) == before
    assert rows.refreshing.settle([answer(holder)], []).stored == {late.connection_id}


def test_an_answer_for_a_disconnected_connection_is_not_stored(rows: Rows) -> None:
    claim = rows.claim(rows.add())
    rows.connections.disconnect("default", claim.connection_id)
    assert rows.refreshing.settle([answer(claim)], [verdict(claim)]) == NOTHING
    assert rows.of("oauth_grant", claim.connection_id)["access_envelope"] is None


def test_storing_the_same_answer_again_changes_nothing(rows: Rows) -> None:
    """The outcome of a COMMIT can be unknown; then it is simply done again."""
    kept = answer(rows.claim(rows.add()))
    rows.refreshing.settle([kept], [])
    before = rows.of("oauth_grant", kept.connection_id)
    assert rows.refreshing.settle([kept], []).stored == set()
    assert rows.of("oauth_grant", kept.connection_id) == before
    assert rows.events(kept.connection_id) == ["oauth.refreshed"]


def test_a_batch_stores_what_fits_and_tells_what_did_not(rows: Rows) -> None:
    rows.add_many(50)
    claims = rows.refreshing.claim([quota()])
    unfit: dict[int, dict[str, Any]] = {3: {"parent_fp": fingerprint()}, 17: {"epoch": 99}, 30: {"consent": 4}}
    kept = [answer(claim, **unfit.get(place, {})) for place, claim in enumerate(claims[:40])]
    settled = rows.refreshing.settle(kept, [verdict(claim) for claim in claims[40:]])
    assert settled.stored == {k.connection_id for place, k in enumerate(kept) if place not in unfit}
    assert settled.ended == {c.connection_id for c in claims[40:]}
    stored = "SELECT count(*) FROM evergrant.audit WHERE event = 'oauth.refreshed'"
    assert rows.sql(stored)[0]["count"] == 37


# ---------------------------------------------------------------------------------------------------------------- ends


def test_an_end_puts_the_row_off_and_says_why_once(rows: Rows) -> None:
    claim = rows.claim(rows.add())
    assert rows.refreshing.settle([], [verdict(claim, failures=3)]) == Settled(
        frozenset(), frozenset({claim.connection_id})
    )
    schedule, grant = rows.of("schedule", claim.connection_id), rows.of("oauth_grant", claim.connection_id)
    assert timedelta(seconds=55) < schedule["next_at"] - rows.now() <= timedelta(minutes=1)
    assert (schedule["failures"], schedule["attempt"], schedule["lease_until"].timestamp()) == (3, 0, 0)
    assert (grant["status"], grant["reason"], grant["version"]) == ("active", "http_429", 1)
    assert rows.events(claim.connection_id) == ["oauth.postponed"]
    told = {"epoch": claim.epoch, "reason": "http_429", "failures": 3, "refresh": grant["refresh_fp"].hex()}
    assert rows.detail(claim.connection_id) == told


def test_an_end_not_worth_a_word_leaves_no_audit_row(rows: Rows) -> None:
    claim = rows.claim(rows.add())
    rows.refreshing.settle([], [verdict(claim, event="")])
    assert rows.events(claim.connection_id) == []


def test_an_end_makes_the_row_due_at_once_when_a_candidate_came_meanwhile(rows: Rows) -> None:
    late = rows.claim(rows.add())
    rows.expire_lease(late.connection_id)
    holder = rows.claim()
    rows.refreshing.settle_late(answer(late))
    rows.refreshing.settle([], [verdict(holder, wait=HOUR)])
    assert rows.claim().candidate


def test_an_end_is_about_the_consent_it_was_claimed_under(rows: Rows) -> None:
    claim = rows.claim(rows.add())
    rows.connections.connect(rows.grant(connection_id=claim.connection_id, version=2))
    rows.refreshing.settle([], [verdict(claim, status=Status.IN_DOUBT, reason="timeout")])
    assert rows.of("oauth_grant", claim.connection_id)["status"] == "active"


# ------------------------------------------------------------------------------------------------- cost, and crashes


def test_refreshing_updates_grants_in_place(own_rows: Rows) -> None:
    """Heap-only updates: no index is touched, and pages are cleaned in passing instead of growing."""
    ids, batches = own_rows.add_many(600), 24
    own_rows.sql(
        "UPDATE evergrant.schedule SET next_at = now() - random() * interval '1 h'"
    )  # neighbours fall due apart
    for _ in range(batches):
        claims = own_rows.refreshing.claim([quota(rows=60)])
        own_rows.refreshing.settle([answer(c, next_at=own_rows.now() - timedelta(minutes=1)) for c in claims], [])
    own_rows.refreshing.close()  # a session that ends tells its numbers
    told = "SELECT FROM pg_stat_user_tables WHERE relname = 'oauth_grant' AND n_tup_upd >= %s"
    own_rows.until(told, (batches * 60,))
    found = _updates(own_rows)
    assert found["all"] == batches * 60 > len(ids)
    assert found["in_place"] / found["all"] >= 0.95, found


def _updates(rows: Rows) -> dict[str, int]:
    [found] = rows.sql(
        "SELECT n_tup_upd AS \"all\", n_tup_hot_upd AS in_place FROM pg_stat_user_tables WHERE relname = 'oauth_grant'"
    )
    return found
