"""S5 and S7 for what did not fit: where a late answer goes, when a grant is dead, and how a candidate is taken in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.store.rows import HOUR, Rows, answer, fingerprint, quota, verdict
from vault.claims import Claim, Kept, Verdict
from vault.lineage import Place
from vault.model import Status


def _late(rows: Rows) -> tuple[Claim, Kept]:
    """A claim whose lease has run out, and the answer that came home after all."""
    claim = rows.claim(rows.add())
    rows.expire_lease(claim.connection_id)
    return claim, answer(claim)


def _dead(claim: Claim) -> Verdict:
    return Verdict(
        claim,
        "connection.needs_reconnect",
        Status.NEEDS_RECONNECT,
        "invalid_grant",
        None,
        1,
        unspent=True,
        conclusive=True,
    )


# --------------------------------------------------------------------------------------------------------------- places


def test_a_late_answer_goes_into_the_row_that_still_has_its_parent(rows: Rows) -> None:
    claim, kept = _late(rows)
    assert rows.refreshing.settle_late(kept) is Place.ROW
    grant, schedule = rows.of("oauth_grant", claim.connection_id), rows.of("schedule", claim.connection_id)
    assert (grant["refresh_fp"], grant["version"], grant["status"]) == (kept.refresh_fp, 2, "active")
    assert (schedule["next_at"], schedule["intent_fp"], schedule["attempt"]) == (kept.next_at, None, 0)
    assert schedule["epoch"] > claim.epoch, "whoever claims next must not be fenced by ours"
    assert rows.events(claim.connection_id) == ["oauth.refreshed"]
    assert rows.detail(claim.connection_id)["reason"] == "late"


def test_one_that_ends_trouble_says_so(rows: Rows) -> None:
    claim, kept = _late(rows)
    assert rows.refreshing.settle_late(kept._replace(recovered_from="timeout")) is Place.ROW
    assert rows.detail(claim.connection_id)["recovered_from"] == "timeout"


def test_one_that_is_there_already_is_recognised(rows: Rows) -> None:
    _, kept = _late(rows)
    rows.refreshing.settle_late(kept)
    before = rows.everything()
    assert rows.refreshing.settle_late(kept) is Place.STORED
    assert rows.everything() == before


def test_one_waits_beside_a_row_in_other_hands(rows: Rows) -> None:
    """The holder may be sending the parent at this moment."""
    claim, kept = _late(rows)
    rows.claim()
    grant = rows.of("oauth_grant", claim.connection_id)
    for _ in range(2):
        assert rows.refreshing.settle_late(kept) is Place.CANDIDATE
    assert rows.of("oauth_grant", claim.connection_id) == grant
    assert rows.refreshing.candidates(claim.connection_id, 1) == [kept]
    assert rows.events(claim.connection_id) == ["oauth.candidate_kept"]


def test_one_goes_into_a_row_that_its_finder_holds(rows: Rows) -> None:
    claim, kept = _late(rows)
    holder = rows.claim()
    assert rows.refreshing.settle_late(kept, holding=holder.epoch) is Place.ROW
    assert rows.of("oauth_grant", claim.connection_id)["refresh_fp"] == kept.refresh_fp
    assert rows.of("schedule", claim.connection_id)["epoch"] > holder.epoch


def test_one_waits_beside_a_row_that_its_finder_no_longer_holds(rows: Rows) -> None:
    claim, kept = _late(rows)
    holder = rows.claim()
    rows.expire_lease(claim.connection_id)
    rows.claim()
    assert rows.refreshing.settle_late(kept, holding=holder.epoch) is Place.CANDIDATE


def test_one_that_was_there_and_has_been_spent_since_is_not_kept(rows: Rows) -> None:
    """Its process died between the commit and the mark on its disk, which another process reads much later."""
    claim = rows.claim(rows.add())
    kept = answer(claim)
    rows.refreshing.settle([kept], ())
    rows.sql("UPDATE evergrant.schedule SET next_at = now()")
    rows.refreshing.settle([answer(rows.claim())], ())
    before = rows.everything()
    assert rows.refreshing.settle_late(kept) is Place.STORED
    assert rows.everything() == before


def test_one_of_a_lineage_that_moved_on_is_kept_and_looked_at_soon(rows: Rows) -> None:
    claim, kept = _late(rows)
    rows.refreshing.settle_late(answer(claim))
    assert rows.refreshing.settle_late(kept) is Place.CANDIDATE
    again = rows.claim()
    assert (again.connection_id, again.candidate) == (claim.connection_id, False)


def test_one_for_a_disconnected_connection_is_handed_to_revocation(rows: Rows) -> None:
    claim, kept = _late(rows)
    rows.connections.disconnect("default", claim.connection_id)
    rows.sql("DELETE FROM evergrant.revocation")
    assert rows.refreshing.settle_late(kept) is Place.REVOKE
    waiting = rows.of("revocation", claim.connection_id)
    assert (waiting["refresh_envelope"], waiting["version"]) == (kept.refresh_envelope, kept.version)
    assert (waiting["owner"], waiting["provider"], waiting["data_key_id"]) == ("olga", "acme", kept.data_key_id)
    assert rows.of("oauth_grant", claim.connection_id)["access_envelope"] is None
    assert rows.events(claim.connection_id)[-1] == "oauth.late_answer"


def test_one_of_an_older_consent_is_dropped_and_told_of(rows: Rows) -> None:
    claim, kept = _late(rows)
    rows.connections.connect(rows.grant(connection_id=claim.connection_id, version=2))
    grant = rows.of("oauth_grant", claim.connection_id)
    assert rows.refreshing.settle_late(kept) is Place.DROP
    assert rows.of("oauth_grant", claim.connection_id) == grant
    assert rows.detail(claim.connection_id)["reason"] == "newer_consent"


def test_one_for_a_connection_nobody_knows_is_dropped(rows: Rows) -> None:
    _, kept = _late(rows)
    rows.sql("DELETE FROM evergrant.connection")
    assert rows.refreshing.settle_late(kept) is Place.DROP


def test_one_brings_a_grant_given_up_back_to_life(rows: Rows) -> None:
    claim, kept = _late(rows)
    assert rows.refreshing.condemn(_dead(rows.claim()), client_id="ours", spooled=False)
    assert rows.refreshing.settle_late(kept) is Place.ROW
    assert rows.of("oauth_grant", claim.connection_id)["status"] == "active"
    assert rows.of("schedule", claim.connection_id)["next_at"] == kept.next_at


def test_a_candidate_for_a_grant_given_up_makes_it_claimable_again(rows: Rows) -> None:
    """Or the row would be due for ever and taken by nobody, with a token in our hands that may live."""
    claim, kept = _late(rows)
    rows.refreshing.settle_late(answer(claim))
    assert rows.refreshing.condemn(_dead(rows.claim(claim.connection_id)), client_id="ours", spooled=False)
    assert rows.refreshing.settle_late(kept) is Place.CANDIDATE
    assert rows.claim().status is Status.IN_DOUBT
    assert rows.refreshing.claim([quota()]) == []


def test_scopes_granted_anew_are_noted_also_by_a_late_answer(rows: Rows) -> None:
    claim, kept = _late(rows)
    rows.refreshing.settle_late(kept._replace(scopes="read"))
    assert rows.of("connection", claim.connection_id)["granted_scopes"] == "read"


# -------------------------------------------------------------------------------------------------------------- condemn


def test_a_grant_is_dead_when_nothing_speaks_against_it(rows: Rows) -> None:
    claim = rows.claim(rows.add())
    assert rows.refreshing.condemn(_dead(claim), client_id="ours", spooled=False)
    grant, schedule = rows.of("oauth_grant", claim.connection_id), rows.of("schedule", claim.connection_id)
    assert (grant["status"], grant["reason"]) == ("needs_reconnect", "invalid_grant")
    assert grant["access_envelope"] is not None, "a token that still works is served"
    assert (schedule["next_at"], schedule["lease_until"].timestamp()) == (None, 0)
    assert rows.events(claim.connection_id) == ["connection.needs_reconnect"]
    evidence = rows.detail(claim.connection_id)
    assert (evidence["reason"], evidence["refresh"]) == ("invalid_grant", grant["refresh_fp"].hex())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE evergrant.oauth_grant SET refresh_fp = '\\x77'",
        "UPDATE evergrant.oauth_grant SET refresh_fp = NULL",
        "UPDATE evergrant.oauth_grant SET version = version + 1",
        "UPDATE evergrant.oauth_grant SET consent = consent + 1",
        "UPDATE evergrant.schedule SET epoch = epoch + 1",
        "DELETE FROM evergrant.oauth_grant",
    ],
    ids=["another token", "no token", "another version", "another consent", "another epoch", "no row"],
)
def test_a_rejection_proves_nothing_about_a_row_that_has_changed(rows: Rows, change: str) -> None:
    claim = rows.claim(rows.add())
    rows.sql(change)
    before = rows.everything()
    assert not rows.refreshing.condemn(_dead(claim), client_id="ours", spooled=False)
    assert rows.everything() == before


def test_a_rejection_proves_nothing_while_another_answer_is_in_our_hands(rows: Rows) -> None:
    claim, kept = _late(rows)
    holder = rows.claim()
    assert not rows.refreshing.condemn(_dead(holder), client_id="ours", spooled=True)
    rows.refreshing.settle_late(kept)
    assert not rows.refreshing.condemn(_dead(holder), client_id="ours", spooled=False)
    assert rows.of("oauth_grant", claim.connection_id)["status"] == "active"


def test_a_rejection_proves_nothing_when_another_client_asked(rows: Rows) -> None:
    claim = rows.claim(rows.add())
    assert not rows.refreshing.condemn(_dead(claim), client_id="of another registration", spooled=False)


def test_condemning_twice_tells_it_once(rows: Rows) -> None:
    """The outcome of a COMMIT can be unknown; then it is simply done again."""
    claim = rows.claim(rows.add())
    for _ in range(2):
        assert rows.refreshing.condemn(_dead(claim), client_id="ours", spooled=False)
    assert rows.events(claim.connection_id) == ["connection.needs_reconnect"]


# ------------------------------------------------------------------------------------------------------------ adoption


def _with_candidate(rows: Rows) -> tuple[Claim, Kept]:
    """A row in our hands, and the candidate beside it."""
    _, kept = _late(rows)
    holder = rows.claim()
    rows.refreshing.settle_late(kept)
    return holder, kept


def test_a_candidate_is_put_into_the_row_in_our_hands(rows: Rows) -> None:
    holder, kept = _with_candidate(rows)
    resealed = kept._replace(access_envelope=b"anew", parent_version=holder.version, scopes="read")
    assert rows.refreshing.adopt(holder, resealed)
    grant, schedule = rows.of("oauth_grant", kept.connection_id), rows.of("schedule", kept.connection_id)
    assert (grant["refresh_fp"], grant["access_envelope"], grant["status"]) == (kept.refresh_fp, b"anew", "active")
    assert (schedule["next_at"], schedule["intent_fp"]) == (kept.next_at, None)
    assert rows.refreshing.candidates(kept.connection_id, 1) == []
    assert rows.events(kept.connection_id)[-1] == "oauth.candidate_adopted"
    assert rows.of("connection", kept.connection_id)["granted_scopes"] == "read"


@pytest.mark.parametrize("changes", [{"epoch": 99}, {"consent": 2}, {"version": 5}], ids=str)
def test_a_candidate_is_not_put_into_a_row_that_is_not_ours(rows: Rows, changes: dict[str, Any]) -> None:
    holder, kept = _with_candidate(rows)
    before = rows.everything()
    assert not rows.refreshing.adopt(holder._replace(**changes), kept)
    assert rows.everything() == before


def test_candidates_come_newest_first_and_only_of_the_consent_asked_for(rows: Rows) -> None:
    claim, kept = _late(rows)
    rows.claim()
    older = kept._replace(refresh_fp=fingerprint(), sent_at=kept.sent_at - HOUR)
    for each in (older, kept):
        rows.refreshing.settle_late(each)
    assert rows.refreshing.candidates(claim.connection_id, 1) == [kept, older]
    assert rows.refreshing.candidates(claim.connection_id, 2) == []


def test_an_end_or_rejection_that_left_no_doubt_is_no_reason_to_forget_a_candidate(rows: Rows) -> None:
    holder, kept = _with_candidate(rows)
    rows.refreshing.settle([], [verdict(holder, wait=HOUR)])
    assert rows.refreshing.candidates(kept.connection_id, 1) == [kept]


def _beside_its_candidate(rows: Rows) -> tuple[Claim, Kept]:
    """A claim, and an answer to it of which a copy has already become a candidate."""
    claim = rows.claim(rows.add())
    kept = answer(claim)
    candidate = kept._replace(epoch=claim.epoch - 1)
    rows.refreshing.settle_late(candidate)
    assert rows.refreshing.candidates(kept.connection_id, 1) == [candidate]
    return claim, kept


def test_what_is_stored_in_time_is_no_candidate_any_more(rows: Rows) -> None:
    _, kept = _beside_its_candidate(rows)
    assert rows.refreshing.settle([kept], []).stored == {kept.connection_id}
    assert rows.refreshing.candidates(kept.connection_id, 1) == []


def test_what_is_stored_late_is_no_candidate_any_more(rows: Rows) -> None:
    claim, kept = _beside_its_candidate(rows)
    rows.expire_lease(claim.connection_id)
    assert rows.refreshing.settle_late(kept) is Place.ROW
    assert rows.refreshing.candidates(kept.connection_id, 1) == []
