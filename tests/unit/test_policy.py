"""The decisions: when a refresh is due, how long things may take, and what follows each end of a request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from vault import lineage, policy
from vault.claims import Claim, DataKeyRecord, Kept, Lineage, Verdict
from vault.lineage import Place
from vault.model import Answer, Status
from vault.outcome import Ambiguous, Dead, Misconfigured, NotSent, Outcome, Refreshed, StepNeeded, Throttled, Unknown
from vault.policy import RefreshPolicy, Step
from vault.provider import Provider, Rotation
from vault.secret import Secret

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
ZERO, SECOND, MINUTE, HOUR = timedelta(0), timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
TICK = timedelta(microseconds=1)
POLICY = RefreshPolicy()
PLAIN = Provider("acme", "", "")


def provider(rotation: Rotation = Rotation.STRICT, window: timedelta = ZERO, **more: Any) -> Provider:
    return Provider("acme", "", "", rotation=rotation, replay_window=window, **more)


def claim(**changes: Any) -> Claim:
    """A row that is due: a token of one hour with six minutes left."""
    key = DataKeyRecord(UUID(int=2), "acme", "ann", "acme", "grant", "current", UUID(int=3), b"")
    row = Claim(
        connection_id=UUID(int=1),
        tenant="acme",
        owner="ann",
        provider="acme",
        client="acme",
        client_id="client",
        consent=1,
        status=Status.ACTIVE,
        reason=None,
        version=4,
        parent_fp=b"fp",
        refresh_envelope=b"EG",
        expires_at=NOW + 6 * MINUTE,
        refreshed_at=NOW - 54 * MINUTE,
        grant_ends_at=None,
        data_key=key,
        epoch=9,
        attempt=1,
        failures=0,
        doubt_since=None,
        candidate=False,
        claimed_at=NOW,
        lease_until=NOW + 30 * SECOND,
        due_at=NOW,
        urgent=False,
    )
    return row._replace(**changes)


def after(outcome: Outcome, taken: Claim | None = None, by: Provider = PLAIN, share: float = 0.5) -> Verdict:
    return policy.after_outcome(POLICY, by, taken or claim(), outcome, NOW, share)


lives = st.timedeltas(SECOND, timedelta(days=3650))
shares = st.floats(0, 1, exclude_max=True)
durations = st.timedeltas(SECOND, timedelta(days=30))

# ------------------------------------------------------------------------------------------------------------ when due


@given(lives, shares, st.timedeltas(ZERO, timedelta(days=30)))
@example(HOUR, 0.0, ZERO)
@example(timedelta(minutes=10), 0.99, timedelta(minutes=9, seconds=30))  # Exact Online
def test_a_refresh_is_due_in_time_and_never_too_early(life: timedelta, share: float, earliest: timedelta) -> None:
    due = policy.refresh_in(POLICY, provider(earliest_refresh=earliest), life, share)
    assert due >= life / 2
    assert due >= earliest
    if earliest <= life / 2:  # else the provider's bound may be all there is
        assert due <= life * 0.9 + TICK
        assert due <= max(life - 5 * MINUTE, life / 2)


@given(lives, shares)
def test_jitter_moves_it_by_a_tenth_at_most(life: timedelta, share: float) -> None:
    latest = policy.refresh_in(POLICY, PLAIN, life, 0.0)
    assert latest * 0.9 - TICK <= policy.refresh_in(POLICY, PLAIN, life, share) <= latest


@given(lives, st.floats(0.01, 1), st.timedeltas(TICK, timedelta(days=366)), shares)
def test_no_setting_makes_it_due_in_the_first_half_nor_after_the_end(
    life: timedelta, threshold: float, margin: timedelta, share: float
) -> None:
    due = policy.refresh_in(RefreshPolicy(threshold=threshold, margin=margin), PLAIN, life, share)
    assert life / 2 <= due <= life


@pytest.mark.parametrize(
    ("life", "latest", "soonest"),
    [
        (HOUR, 54 * MINUTE, 51.6 * MINUTE),
        (8 * HOUR, 7.2 * HOUR, 6.88 * HOUR),
        (10 * MINUTE, 5 * MINUTE, 5 * MINUTE),
        (20 * MINUTE, 15 * MINUTE, 14.5 * MINUTE),
    ],
)
def test_the_instants_of_common_lives(life: timedelta, latest: timedelta, soonest: timedelta) -> None:
    assert policy.refresh_in(POLICY, PLAIN, life, 0.0) == latest
    assert abs(policy.refresh_in(POLICY, PLAIN, life, 1.0) - soonest) <= SECOND


@given(lives, shares)
def test_a_caller_is_content_with_what_a_refresh_in_time_would_leave(life: timedelta, min_ttl: float) -> None:
    assert policy.is_long_enough(life, life, timedelta(days=4000))
    assert not policy.is_long_enough(life, life / 2, life / 2)
    assert not policy.is_long_enough(life, ZERO, ZERO)
    assert policy.is_long_enough(life, TICK, ZERO)


# -------------------------------------------------------------------------------------------------------------- timing


@given(st.timedeltas(timedelta(milliseconds=1), HOUR), st.sampled_from(Rotation), st.timedeltas(ZERO, HOUR), durations)
def test_a_lease_outlasts_three_requests(
    deadline: timedelta, rotation: Rotation, window: timedelta, scan: timedelta
) -> None:
    limits = policy.timing(RefreshPolicy(deadline=deadline, scan=scan), provider(rotation, window))
    assert limits.lease >= 3 * limits.deadline
    assert ZERO < limits.deadline <= deadline


@given(st.timedeltas(TICK, HOUR), st.timedeltas(timedelta(seconds=10), HOUR), st.timedeltas(TICK, 5 * SECOND))
def test_a_lost_answer_can_be_asked_for_again_within_the_window(
    deadline: timedelta, window: timedelta, scan: timedelta
) -> None:
    """A crash right after sending: the lease runs out, the scan finds it, and the retry still ends in time."""
    limits = policy.timing(RefreshPolicy(deadline=deadline, scan=scan), provider(Rotation.GRACE, window))
    assert limits.lease + scan + limits.deadline <= window


@pytest.mark.parametrize(
    ("window", "deadline"),
    [(timedelta(minutes=30), 10), (timedelta(minutes=10), 10), (30 * SECOND, 5.5), (10 * SECOND, 1)],
    ids=["Xero", "Atlassian", "Okta", "Supabase"],
)
def test_the_deadlines_of_providers_with_a_window(window: timedelta, deadline: float) -> None:
    limits = policy.timing(POLICY, provider(Rotation.GRACE, window))
    assert abs(limits.deadline - timedelta(seconds=deadline)) <= TICK


@given(st.timedeltas(SECOND, HOUR), st.timedeltas(ZERO, 4 * HOUR))
def test_nothing_is_sent_that_could_outlive_its_lease(deadline: timedelta, left: timedelta) -> None:
    numbers = RefreshPolicy(deadline=deadline)
    if policy.lease_suffices(numbers, PLAIN, left):
        assert left > policy.timing(numbers, PLAIN).deadline
    assert policy.lease_suffices(numbers, PLAIN, policy.timing(numbers, PLAIN).lease)


# ------------------------------------------------------------------------------------------------------------- backoff


@given(st.integers(0, 10**6), shares)
def test_a_backoff_is_never_nothing_and_never_longer_than_an_hour(failures: int, share: float) -> None:
    wait = policy.backoff(POLICY, failures, share)
    assert timedelta(seconds=0.5) <= wait <= HOUR


@given(st.integers(0, 10**6), shares, durations, durations, st.integers(0, 100))
def test_a_backoff_stays_within_what_is_set(
    failures: int, share: float, base: timedelta, cap: timedelta, tries: int
) -> None:
    wait = policy.backoff(RefreshPolicy(base=base, cap=cap, fast_tries=tries), failures, share)
    assert min(base, cap) / 10 <= wait + TICK
    assert wait <= cap


def test_three_tries_are_fast_then_each_step_doubles() -> None:
    most = [policy.backoff(POLICY, failures, 1.0).total_seconds() for failures in range(1, 8)]
    assert most == [5, 5, 5, 10, 20, 40, 80]


@given(st.integers(1, 100))
def test_jitter_spreads_over_the_whole_step(failures: int) -> None:
    step = policy.backoff(POLICY, failures, 1.0)
    assert policy.backoff(POLICY, failures, 0.0) <= step / 9
    assert policy.backoff(POLICY, failures, 0.0) < policy.backoff(POLICY, failures, 0.5) < step


# --------------------------------------------------------------------------------------------------- S3: after a claim


def test_a_due_row_is_sent() -> None:
    assert policy.after_claim(POLICY, PLAIN, claim()) == policy.SEND


def test_an_answer_at_hand_is_adopted_instead_of_sending() -> None:
    assert policy.after_claim(POLICY, PLAIN, claim(candidate=True)).step is Step.ADOPT
    assert policy.after_claim(POLICY, PLAIN, claim(candidate=True, doubt_since=NOW - HOUR)).step is Step.ADOPT
    fragile = provider(Rotation.UNTIL_SUCCESSOR_USED)  # a replay may have made the provider forget the answer at hand
    assert policy.after_claim(POLICY, fragile, claim(candidate=True)) == policy.SEND


def test_a_grant_without_a_refresh_token_is_served_to_its_end_and_then_needs_its_owner() -> None:
    decision = policy.after_claim(POLICY, PLAIN, claim(parent_fp=None))
    assert decision.verdict is not None
    assert (decision.verdict.status, decision.verdict.wait) == (Status.ACTIVE, 6 * MINUTE)
    decision = policy.after_claim(POLICY, PLAIN, claim(parent_fp=None, expires_at=NOW))
    assert decision.verdict is not None
    assert (decision.verdict.status, decision.verdict.reason) == (Status.NEEDS_RECONNECT, "no_refresh_token")


@given(st.timedeltas(ZERO, timedelta(minutes=9)))
def test_even_in_quarantine_a_doubted_token_is_tried_within_its_window(ago: timedelta) -> None:
    by = provider(Rotation.GRACE, 10 * MINUTE)
    decision = policy.after_claim(POLICY, by, claim(attempt=4, doubt_since=NOW - ago))
    assert decision.verdict is not None
    assert decision.verdict.wait is not None
    deadline = policy.timing(POLICY, by).deadline
    if NOW + deadline <= NOW - ago + 9 * MINUTE:
        assert NOW + decision.verdict.wait + deadline <= NOW - ago + 10 * MINUTE


def test_what_killed_three_workers_is_quarantined_and_then_tried_alone() -> None:
    assert policy.after_claim(POLICY, PLAIN, claim(attempt=3)) == policy.SEND
    decision = policy.after_claim(POLICY, PLAIN, claim(attempt=4))
    assert decision.verdict is not None
    assert (decision.verdict.status, decision.verdict.wait) == (Status.QUARANTINED, HOUR)
    assert policy.after_claim(POLICY, PLAIN, claim(attempt=9, status=Status.QUARANTINED)) == policy.SEND


@pytest.mark.parametrize(
    ("by", "sent_ago", "sends"),
    [
        (provider(Rotation.NONE), 10 * HOUR, True),
        (provider(Rotation.IDEMPOTENT), 10 * HOUR, True),
        (provider(Rotation.UNTIL_SUCCESSOR_USED), 10 * HOUR, True),
        (provider(Rotation.GRACE, 10 * MINUTE), 9 * MINUTE, True),
        (provider(Rotation.GRACE, 10 * MINUTE), 10 * MINUTE - 9 * SECOND, False),
        (provider(Rotation.GRACE, 10 * MINUTE), 11 * MINUTE, False),
        (provider(Rotation.STRICT), SECOND, False),
    ],
)
def test_in_doubt_a_refresh_token_is_sent_again_only_where_the_provider_allows_it(
    by: Provider, sent_ago: timedelta, sends: bool
) -> None:
    taken = claim(doubt_since=NOW - sent_ago, status=Status.IN_DOUBT)
    decision = policy.after_claim(POLICY, by, taken)
    assert (decision.step is Step.SEND) is sends
    if decision.verdict is not None:
        assert (decision.verdict.status, decision.verdict.wait) == (Status.IN_DOUBT, 5 * MINUTE)


def test_with_a_strict_provider_the_old_token_is_risked_shortly_before_the_stored_one_ends() -> None:
    taken = claim(doubt_since=NOW - 5 * MINUTE, expires_at=NOW + MINUTE, refreshed_at=NOW - 59 * MINUTE)
    assert policy.after_claim(POLICY, PLAIN, taken) == policy.SEND
    short = claim(doubt_since=NOW - 5 * SECOND, expires_at=NOW + 7 * SECOND, refreshed_at=NOW - 53 * SECOND)
    decision = policy.after_claim(POLICY, PLAIN, short)
    assert decision.verdict is not None
    assert decision.verdict.wait == SECOND  # a token of one minute: at its last tenth


# -------------------------------------------------------------------------------------- S6, S7: classes of answers


@pytest.mark.parametrize(
    ("outcome", "status", "reason", "shortest", "conclusive", "unspent"),
    [
        pytest.param(NotSent("connect"), Status.ACTIVE, "connect", 0.5, False, True, id="transient: not sent"),
        pytest.param(Throttled("http_429"), Status.ACTIVE, "http_429", 60, False, True, id="transient: 429"),
        pytest.param(
            Throttled("http_429", timedelta(seconds=120)), Status.ACTIVE, "http_429", 120, False, True, id="Retry-After"
        ),
        pytest.param(Ambiguous("http_503"), Status.IN_DOUBT, "http_503", 0.5, False, False, id="transient: 5xx"),
        pytest.param(Ambiguous("reset"), Status.IN_DOUBT, "reset", 0.5, False, False, id="transient: no answer"),
        pytest.param(
            Misconfigured("invalid_client"), Status.ACTIVE, "invalid_client", 1800, False, True, id="operator"
        ),
        pytest.param(Dead("invalid_grant"), Status.NEEDS_RECONNECT, "invalid_grant", None, True, True, id="dead grant"),
        pytest.param(
            StepNeeded("interaction_required"),
            Status.NEEDS_RECONNECT,
            "interaction_required",
            None,
            True,
            True,
            id="user step",
        ),
        pytest.param(Unknown("odd"), Status.ACTIVE, "odd", 0.5, False, True, id="unknown 4xx"),
    ],
)
def test_each_class_of_answers_has_its_consequence(
    outcome: Outcome, status: Status, reason: str, shortest: float | None, conclusive: bool, unspent: bool
) -> None:
    verdict = after(outcome, by=provider(Rotation.NONE), share=0.0)
    assert (verdict.status, verdict.reason, verdict.conclusive, verdict.unspent) == (
        status,
        reason,
        conclusive,
        unspent,
    )
    assert verdict.wait == (None if shortest is None else timedelta(seconds=shortest))
    assert verdict.failures == 1
    assert verdict.event


@given(
    st.sampled_from([NotSent("x"), Throttled("x"), Ambiguous("x"), Misconfigured("x")]),
    st.integers(0, 10**6),
    st.sampled_from(Rotation),
    shares,
)
def test_no_number_of_troubles_ever_kills_a_grant(
    outcome: Outcome, failures: int, rotation: Rotation, share: float
) -> None:
    taken = claim(failures=failures, expires_at=NOW - HOUR, reason="x")
    verdict = after(outcome, taken, provider(rotation, 10 * MINUTE), share)
    assert not verdict.conclusive
    assert verdict.status in (Status.ACTIVE, Status.IN_DOUBT)
    assert verdict.wait is not None
    assert verdict.wait > ZERO


def test_an_answer_that_brings_a_token_is_not_judged() -> None:
    with pytest.raises(ValueError, match="kept"):
        after(Refreshed(Answer(Secret("a"), None, None)))


def test_a_rejection_after_a_lost_answer_says_so() -> None:
    assert after(Dead("invalid_grant"), claim(doubt_since=NOW - HOUR)).reason == "answer_lost"


def test_trouble_in_doubt_leaves_the_doubt() -> None:
    taken = claim(doubt_since=NOW - MINUTE, status=Status.IN_DOUBT)
    assert after(Throttled("http_429"), taken).status is Status.IN_DOUBT
    assert after(NotSent("connect"), taken).status is Status.IN_DOUBT


def test_the_same_trouble_again_is_not_a_second_event() -> None:
    assert after(Throttled("http_429"), claim(reason="http_429")).event == ""
    assert after(Ambiguous("reset"), claim(reason="reset", status=Status.IN_DOUBT)).event == ""
    assert after(Ambiguous("reset"), claim(reason="http_503", status=Status.IN_DOUBT)).event == "oauth.in_doubt"


# -------------------------------------------------------------------------------------------------- unknown rejections


def rejected(*codes: str, expires_at: datetime) -> Verdict:
    """What a grant comes to after these rejections, one after the other."""
    taken = claim(expires_at=expires_at)
    for code in codes:
        outcome = Unknown(code) if code.startswith("odd") else Throttled(code)
        verdict = after(outcome, taken)
        taken = taken._replace(failures=verdict.failures, reason=verdict.reason, status=verdict.status)
    return verdict


def test_five_identical_rejections_kill_a_grant_whose_token_is_over() -> None:
    assert rejected(*["odd"] * 4, expires_at=NOW).status is Status.ACTIVE
    verdict = rejected(*["odd"] * 5, expires_at=NOW)
    assert (verdict.status, verdict.reason, verdict.conclusive) == (Status.NEEDS_RECONNECT, "odd", True)


def test_while_the_token_lives_no_number_of_them_does() -> None:
    assert rejected(*["odd"] * 50, expires_at=NOW + SECOND).status is Status.ACTIVE


@pytest.mark.parametrize(
    "codes",
    [
        ["http_429"] * 20 + ["odd"] * 4,
        ["odd", "odd_too"] * 10,
        ["odd", "odd", "odd", "odd", "http_429", "odd"],
    ],
)
def test_rejections_that_differ_or_follow_other_trouble_do_not_add_up(codes: list[str]) -> None:
    assert rejected(*codes, expires_at=NOW).status is Status.ACTIVE


# ------------------------------------------------------------------------------------------------------- S6: how long


@given(st.timedeltas(ZERO, timedelta(minutes=8, seconds=50)), shares, st.integers(0, 1000))
def test_in_doubt_with_a_window_the_retry_falls_into_it(ago: timedelta, share: float, failures: int) -> None:
    by = provider(Rotation.GRACE, 10 * MINUTE)
    verdict = after(Ambiguous("reset"), claim(doubt_since=NOW - ago, failures=failures), by, share)
    assert verdict.wait is not None
    assert NOW + verdict.wait + policy.timing(POLICY, by).deadline <= NOW - ago + 10 * MINUTE


@given(st.timedeltas(ZERO, 10 * HOUR), shares)
def test_in_doubt_with_a_strict_provider_the_stored_token_is_served_first(left: timedelta, share: float) -> None:
    taken = claim(expires_at=NOW + left, refreshed_at=NOW + left - 10 * HOUR)
    verdict = after(Ambiguous("reset"), taken, share=share)
    assert verdict.wait is not None
    assert verdict.wait >= left - MINUTE
    assert verdict.wait <= max(left, 5 * SECOND)


@given(shares, st.timedeltas(ZERO, 30 * SECOND))
def test_a_second_request_does_not_overtake_a_first_that_it_would_undo(share: float, passed: timedelta) -> None:
    """Shopify: sending the old token again makes the provider forget what the first sending gave."""
    by, now = provider(Rotation.UNTIL_SUCCESSOR_USED), NOW + passed
    wait = policy.after_outcome(POLICY, by, claim(), Ambiguous("timeout"), now, share).wait
    assert wait is not None
    assert now + wait >= claim().lease_until


@pytest.mark.parametrize("rotation", [Rotation.NONE, Rotation.IDEMPOTENT])
def test_where_it_is_safe_the_retry_comes_soon(rotation: Rotation) -> None:
    wait = after(Ambiguous("reset"), by=provider(rotation)).wait
    assert wait is not None
    assert wait <= 5 * SECOND


@given(st.timedeltas(SECOND, HOUR), shares)
def test_the_provider_s_retry_after_is_honoured(asked: timedelta, share: float) -> None:
    for outcome in (Throttled("http_429", asked), Ambiguous("http_503", asked)):
        wait = after(outcome, by=provider(Rotation.NONE), share=share).wait
        assume(wait is not None)
        assert wait is not None
        assert wait >= asked


# ---------------------------------------------------------------------------------------------------- ends without one


def test_a_claim_given_back_is_as_if_it_had_not_been_taken() -> None:
    taken = claim(status=Status.IN_DOUBT, reason="reset", failures=3, doubt_since=NOW)
    verdict = policy.give_back(taken)
    assert (verdict.status, verdict.reason, verdict.failures, verdict.wait, verdict.event, verdict.unspent) == (
        Status.IN_DOUBT,
        "reset",
        3,
        ZERO,
        "",
        True,
    )


def test_what_could_not_be_prepared_harms_no_grant() -> None:
    verdict = policy.unprepared(POLICY, claim(), "KeyUnavailable", 0.5)
    assert (verdict.status, verdict.reason, verdict.unspent, verdict.conclusive) == (
        Status.ACTIVE,
        "KeyUnavailable",
        True,
        False,
    )


@pytest.mark.parametrize("doubted", [None, NOW - MINUTE])
def test_a_refused_secret_is_tried_anew_soon_and_nothing_was_spent(doubted: datetime | None) -> None:
    taken = claim(doubt_since=doubted)
    verdict = policy.after_refused_secret(POLICY, PLAIN, taken, "invalid_client", NOW, 0.5)
    assert verdict.wait == policy.backoff(POLICY, 1, 0.5)
    assert (verdict.reason, verdict.failures, verdict.unspent, verdict.conclusive) == ("invalid_client", 1, True, False)
    assert verdict.status is (Status.ACTIVE if doubted is None else Status.IN_DOUBT)
    in_window = provider(Rotation.GRACE, MINUTE)
    often = policy.after_refused_secret(POLICY, PLAIN, claim(failures=99), "invalid_client", NOW, 1.0)
    assert often.wait == POLICY.base
    soon = policy.after_refused_secret(POLICY, in_window, claim(doubt_since=NOW, failures=9), "no_code", NOW, 1.0)
    assert soon.wait is not None
    assert policy.replay_is_safe(in_window, NOW, NOW + soon.wait, POLICY.deadline)


def test_a_claim_is_held_back_as_if_it_had_not_been_taken_and_within_its_window() -> None:
    taken = claim(status=Status.IN_DOUBT, reason="reset", failures=3, doubt_since=NOW)
    verdict = policy.held_back(POLICY, PLAIN, taken, NOW, 5 * MINUTE)
    assert verdict == policy.give_back(taken)._replace(wait=5 * MINUTE)
    in_window = policy.held_back(POLICY, provider(Rotation.GRACE, MINUTE), taken, NOW, 5 * MINUTE)
    assert in_window.wait is not None
    assert in_window.wait < MINUTE


def test_another_client_s_rejection_waits_for_the_operator() -> None:
    verdict = policy.other_client(POLICY, claim())
    assert (verdict.status, verdict.reason, verdict.wait) == (Status.ACTIVE, "client_changed", timedelta(minutes=30))


# ------------------------------------------------------------------------------------------------- where an answer goes


def answer(**changes: Any) -> Kept:
    """An answer to the claim above."""
    taken = claim()
    kept = Kept(
        connection_id=taken.connection_id,
        tenant=taken.tenant,
        epoch=taken.epoch,
        consent=taken.consent,
        parent_fp=b"fp",
        parent_version=taken.version,
        refresh_fp=b"next",
        data_key_id=taken.data_key.id,
        access_envelope=b"EA",
        refresh_envelope=b"ER",
        token_type="Bearer",
        scopes=None,
        sent_at=NOW,
        expires_at=NOW + HOUR,
        next_at=NOW + 54 * MINUTE,
        grant_ends_at=None,
    )
    return kept._replace(**changes)


ROW = Lineage(Status.ACTIVE, consent=claim().consent, refresh_fp=b"fp", version=4, leased=False, epoch=9)
"""The row that was claimed, the lease being over."""
MOVED = ROW._replace(refresh_fp=b"other", version=5)


@pytest.mark.parametrize(
    ("row", "place"),
    [
        (ROW, Place.ROW),
        (ROW._replace(leased=True), Place.ROW),  # by us
        (ROW._replace(epoch=10), Place.ROW),
        (ROW._replace(epoch=10, leased=True), Place.CANDIDATE),  # its holder may be sending the parent
        (ROW._replace(status=Status.NEEDS_RECONNECT), Place.ROW),
        (MOVED, Place.CANDIDATE),
        (MOVED._replace(refresh_fp=b"next"), Place.STORED),
        (ROW._replace(version=5), Place.CANDIDATE),
        (ROW._replace(consent=2), Place.DROP),
        (ROW._replace(status=Status.DISCONNECTED, refresh_fp=None), Place.REVOKE),
        (ROW._replace(status=Status.DISCONNECTED, refresh_fp=None, consent=2), Place.REVOKE),
        (None, Place.DROP),
    ],
    ids=str,
)
def test_an_answer_goes_where_its_lineage_says(row: Lineage | None, place: Place) -> None:
    assert lineage.place(answer(), row, known=False) is place


@pytest.mark.parametrize(
    ("row", "place"),
    [
        (MOVED, Place.STORED),  # it was spent, and its successor is here
        (MOVED._replace(version=4), Place.CANDIDATE),  # no row of that version can have held it
        (ROW, Place.ROW),  # a refresh token that is not rotated has always been there
        (MOVED._replace(consent=2), Place.DROP),
        (MOVED._replace(status=Status.DISCONNECTED), Place.REVOKE),
    ],
    ids=str,
)
def test_an_answer_that_has_had_its_turn_is_not_kept(row: Lineage, place: Place) -> None:
    assert lineage.place(answer(), row, known=True) is place


def test_an_answer_that_a_later_request_undoes_does_not_go_into_the_row() -> None:
    assert lineage.place(answer(fragile=True), ROW, known=False) is Place.ROW
    assert lineage.place(answer(fragile=True), ROW._replace(epoch=10), known=False) is Place.CANDIDATE
