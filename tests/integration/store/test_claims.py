"""S2: which rows a claim takes, what it writes, and what it may never return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tests.integration.store.rows import HOUR, LEASE, QUARANTINE_WAIT, Rows, answer, fingerprint, quota, verdict
from vault.claims import Claim, Kept
from vault.model import Status
from vault.policy import RefreshPolicy, give_back
from vault.store.refreshing import PostgresRefreshStore
from vault.store.rights import Rights

ZERO = timedelta(0)
SECOND = timedelta(seconds=1)


# ------------------------------------------------------------------------------------------------------- which rows


def test_a_due_row_is_taken_with_everything_needed_to_refresh_it(rows: Rows) -> None:
    grant = rows.grant()
    rows.connections.connect(grant)
    rows.sql("UPDATE evergrant.schedule SET next_at = now() - interval '3 s'")
    claim = rows.claim()
    assert (claim.connection_id, claim.tenant, claim.owner) == (grant.connection_id, "default", "olga")
    assert (claim.provider, claim.client, claim.client_id) == ("acme", "acme", "ours")
    assert (claim.consent, claim.version, claim.epoch, claim.attempt, claim.failures) == (1, 1, 2, 1, 0)
    assert (claim.status, claim.reason, claim.candidate, claim.urgent) == (Status.ACTIVE, None, False, False)
    assert (claim.parent_fp, claim.refresh_envelope) == (grant.refresh_fp, grant.refresh_envelope)
    assert claim.data_key == rows.key()
    assert claim.lease_until == claim.claimed_at + LEASE
    assert claim.life == HOUR
    row = rows.of("schedule", claim.connection_id)
    assert (row["epoch"], row["attempt"], row["lease_until"]) == (2, 1, claim.lease_until)


def test_rows_that_are_not_due_or_in_other_hands_are_left(rows: Rows) -> None:
    rows.add(due=timedelta(seconds=30))
    rows.add("umbra")
    rows.claim(rows.add())
    assert rows.refreshing.claim([quota()]) == []


@pytest.mark.parametrize("status", [Status.NEEDS_RECONNECT, Status.DISCONNECTED])
def test_an_ended_grant_is_never_taken(rows: Rows, status: Status) -> None:
    ended = rows.add()
    rows.sql("UPDATE evergrant.oauth_grant SET status = %s", (status.value,))
    assert rows.refreshing.claim([quota()]) == []
    assert rows.refreshing.claim_one(ended, [quota()]) is None


def test_urgent_rows_come_first_then_the_longest_due(rows: Rows) -> None:
    due = [rows.add(due=timedelta(seconds=-wait)) for wait in (40, 30, 20, 10)]
    urgent = rows.add(due=ZERO, urgent=True)
    order = []
    while claims := rows.refreshing.claim([quota(rows=1)]):
        order.append({claim.connection_id for claim in claims})
    assert urgent in order[0]
    assert [each for batch in order for each in batch if each != urgent] == due


def test_a_batch_comes_soonest_to_expire_first(rows: Rows) -> None:
    lives = [timedelta(minutes=minutes) for minutes in (50, 10, 30)]
    ids = {life: rows.add(life=life) for life in lives}
    assert [c.connection_id for c in rows.refreshing.claim([quota()])] == [ids[life] for life in sorted(lives)]


def test_a_quota_is_the_most_a_claim_takes(rows: Rows) -> None:
    rows.add_many(20)
    for _ in range(20):
        rows.add(urgent=True)
    assert len(rows.refreshing.claim([quota(rows=7)])) == 7
    assert rows.refreshing.claim([quota(rows=0)]) == []


def test_a_backlog_of_one_client_costs_the_others_nothing(rows: Rows) -> None:
    rows.add_many(500)
    few = {rows.add("umbra", due=-SECOND) for _ in range(3)}
    claims = rows.refreshing.claim([quota(rows=10), quota("umbra", rows=10)])
    assert {c.connection_id for c in claims if c.client == "umbra"} == few
    assert len([c for c in claims if c.client == "acme"]) == 10


def test_the_watermark_passes_over_what_was_seen_a_moment_ago_but_not_over_what_is_urgent(rows: Rows) -> None:
    seen, urgent = rows.add(due=timedelta(seconds=-20)), rows.add(due=timedelta(seconds=-20), urgent=True)
    later = rows.add(due=timedelta(seconds=-5))
    since = rows.now() - timedelta(seconds=10)
    assert {c.connection_id for c in rows.refreshing.claim([quota(since=since)])} == {urgent, later}
    assert rows.claim().connection_id == seen


# ------------------------------------------------------------------------------------------------- several sessions


def test_rows_locked_by_another_session_are_passed_over_and_not_waited_for(rows: Rows) -> None:
    held, free = rows.add(), rows.add()
    with rows.another_session() as session:
        session.execute("SET statement_timeout = '5s'")
        session.execute("SELECT FROM evergrant.schedule WHERE connection_id = %s FOR UPDATE", (held,))
        assert [c.connection_id for c in rows.refreshing.claim([quota()])] == [free]
        assert rows.refreshing.claim_one(held, [quota()]) is None


def test_many_sessions_share_the_rows_out_without_taking_one_twice(rows: Rows) -> None:
    ids = rows.add_many(400)
    stores = [rows.another_store() for _ in range(4)]

    def drain(store: PostgresRefreshStore) -> list[Claim]:
        taken: list[Claim] = []
        while batch := store.claim([quota(rows=7)]):
            taken += batch
        return taken

    with ThreadPoolExecutor(4) as threads:
        claims = [claim for taken in threads.map(drain, stores) for claim in taken]
    # A session may pass over rows that another has locked at that moment; the last look finds them.
    claims += drain(rows.refreshing)
    assert sorted(c.connection_id for c in claims) == ids
    assert {claim.epoch for claim in claims} == {1}


def test_a_claim_that_met_a_settle_halfway_returns_the_grant_as_settled(own_rows: Rows) -> None:
    """A claim's snapshot is taken, the answer is committed, and only then does the claim lock the row."""
    claim = answer_to = own_rows.claim(own_rows.add())
    own_rows.sql("UPDATE evergrant.schedule SET lease_until = now(), attempt = 0")
    own_rows.refreshing.settle([], [])  # its connection is open before claims are made to wait
    stored = answer(answer_to, next_at=claim.claimed_at)
    with _claims_wait_at_their_first_row(own_rows) as let_go, ThreadPoolExecutor(1) as thread:
        claiming = thread.submit(own_rows.another_store().claim, [quota()])
        own_rows.until("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        assert own_rows.refreshing.settle([stored], []).stored
        let_go()
        [taken] = claiming.result(10)
    assert (taken.parent_fp, taken.version) == (stored.refresh_fp, stored.version)
    assert taken.refresh_envelope == stored.refresh_envelope


@contextmanager
def _claims_wait_at_their_first_row(rows: Rows) -> Iterator[Callable[[], object]]:
    """Make sessions opened from now on wait, for every row of the schedule they look at, until they are let go.

    A row's policy is asked after the statement's snapshot was taken and before the row is locked.
    """
    role = f"waiting_{uuid4().hex[:8]}"
    rows.sql(f"CREATE ROLE {role}")
    Rights(rows.database).grant(role, "worker")
    rows.sql(
        "CREATE FUNCTION evergrant.wait() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_advisory_lock_shared(42); PERFORM pg_advisory_unlock_shared(42); RETURN true; END $$"
    )
    rows.sql(f"CREATE POLICY waiting ON evergrant.schedule AS RESTRICTIVE TO {role} USING (evergrant.wait())")
    [database] = rows.sql("SELECT current_database() AS name")
    rows.sql(f"ALTER DATABASE {database['name']} SET role = {role}")
    rows.sql("SELECT pg_advisory_lock(42)")
    try:
        yield lambda: rows.sql("SELECT pg_advisory_unlock_all()")
    finally:
        rows.sql("SELECT pg_advisory_unlock_all()")
        rows.sql(f"ALTER DATABASE {database['name']} RESET role")
        rows.sql(f"DROP OWNED BY {role}")
        rows.sql(f"DROP ROLE {role}")


def test_a_row_is_either_stored_or_claimed_with_its_old_token_however_they_race(rows: Rows) -> None:
    """Both would mean that a refresh token is sent whose successor is stored."""
    ids, settler = rows.add_many(60), rows.another_store()
    met = {"stored first": 0, "claimed first": 0}
    claims = rows.refreshing.claim([quota()])
    while not all(met.values()) or sum(met.values()) < 300:
        rows.sql("UPDATE evergrant.schedule SET lease_until = now(), attempt = 0")  # every lease has just run out
        answers = {c.connection_id: answer(c, next_at=c.claimed_at - HOUR) for c in claims}
        with ThreadPoolExecutor(1) as thread:
            settling = thread.submit(_settle_one_by_one, settler, [*answers.values()])
            taken: list[Claim] = []
            while not settling.done():
                taken += rows.refreshing.claim([quota(rows=5)])
        stored = settling.result()
        for claim in taken:
            has_new_token = claim.parent_fp == answers[claim.connection_id].refresh_fp
            assert has_new_token == (claim.connection_id in stored)
            met["stored first" if has_new_token else "claimed first"] += 1
        rows.sql("UPDATE evergrant.schedule SET lease_until = now(), attempt = 0, next_at = now() - interval '1 h'")
        claims = rows.refreshing.claim([quota()])
        assert len(claims) == len(ids)


def _settle_one_by_one(store: PostgresRefreshStore, answers: list[Kept]) -> set[UUID]:
    return {each for kept in answers for each in store.settle([kept], []).stored}


# ------------------------------------------------------------------------------------------- leases, intents, attempts


def test_a_lease_that_has_run_out_lets_the_row_be_taken_again_under_a_new_epoch(rows: Rows) -> None:
    taken = rows.add()
    first = rows.claim(lease=timedelta(milliseconds=50))
    while not (again := rows.refreshing.claim_suspects([quota()], 9)):
        assert rows.now() < first.lease_until + SECOND
    assert again[0].connection_id == taken
    assert again[0].claimed_at >= first.lease_until
    assert (again[0].epoch, again[0].attempt) == (first.epoch + 1, 2)


def test_a_claim_that_ended_without_a_word_leaves_the_doubt_since_its_first(rows: Rows) -> None:
    each = rows.add()
    first = rows.claim()
    assert first.doubt_since is None
    for _ in range(2):
        rows.expire_lease(each)
        assert rows.claim(each).doubt_since == first.claimed_at


def test_a_stored_answer_ends_doubt_attempts_and_failures(rows: Rows) -> None:
    each = rows.add()
    rows.claim()
    rows.expire_lease(each)
    again = rows.claim()
    rows.refreshing.settle([answer(again, next_at=again.claimed_at)], [])
    fresh = rows.claim()
    assert (fresh.doubt_since, fresh.attempt, fresh.failures) == (None, 1, 0)


def test_an_end_that_spent_nothing_takes_the_intent_back(rows: Rows) -> None:
    rows.add()
    rows.refreshing.settle([], [verdict(rows.claim(), wait=ZERO, unspent=True)])
    assert rows.claim().doubt_since is None


def test_an_end_that_leaves_doubt_keeps_it_and_a_later_one_that_spent_nothing_does_not_clear_it(rows: Rows) -> None:
    rows.add()
    first = rows.claim()
    rows.refreshing.settle([], [verdict(first, wait=ZERO, unspent=False)])
    second = rows.claim()
    rows.refreshing.settle([], [verdict(second, wait=ZERO, unspent=True)])
    assert second.doubt_since == rows.claim().doubt_since == first.claimed_at


def test_doubt_is_about_one_refresh_token_only(rows: Rows) -> None:
    each = rows.add()
    rows.claim()
    rows.expire_lease(each)
    rows.sql("UPDATE evergrant.oauth_grant SET refresh_fp = %s", (fingerprint(),))
    assert rows.claim().doubt_since is None


def test_a_claim_given_back_is_as_if_it_had_not_been(rows: Rows) -> None:
    rows.add()
    rows.refreshing.settle([], [give_back(rows.claim())])
    again = rows.claim()
    assert (again.attempt, again.failures, again.doubt_since, again.status) == (1, 0, None, Status.ACTIVE)


def test_a_candidate_of_this_very_token_is_seen_and_one_of_another_is_not(rows: Rows) -> None:
    each = rows.add()
    late = rows.claim()
    rows.expire_lease(each)
    rows.claim()
    rows.refreshing.settle_late(answer(late))  # in other hands: beside the row
    rows.expire_lease(each)
    assert rows.claim(each).candidate
    rows.expire_lease(each)
    rows.sql("UPDATE evergrant.oauth_grant SET refresh_fp = %s", (fingerprint(),))
    assert not rows.claim(each).candidate


# --------------------------------------------------------------------------------------------------- claiming by name


def test_one_row_is_taken_by_name_also_before_it_is_due(rows: Rows) -> None:
    other, early = rows.add(), rows.add(due=HOUR)
    assert rows.claim(early).connection_id == early
    assert rows.claim().connection_id == other


def test_a_row_in_other_hands_or_of_no_open_client_is_not_taken_by_name(rows: Rows) -> None:
    held = rows.add()
    rows.claim(held)
    assert rows.refreshing.claim_one(held, [quota()]) is None
    assert rows.refreshing.claim_one(rows.add("umbra"), [quota()]) is None
    assert rows.refreshing.claim_one(uuid4(), [quota()]) is None


def test_a_row_taken_early_is_due_once_its_lease_is_over(rows: Rows) -> None:
    """Or a crash after sending would be looked into only when the refresh would have been due: up to an hour later."""
    early = rows.add(due=HOUR)
    rows.claim(early)
    rows.expire_lease(early)
    assert rows.claim().doubt_since is not None


def test_a_row_that_is_backing_off_is_not_taken_by_name(rows: Rows) -> None:
    """A reader who rings for a stale token must not make us ask a provider that has said when to come back."""
    each = rows.add()
    rows.refreshing.settle([], [verdict(rows.claim(), wait=HOUR, failures=1)])
    assert rows.refreshing.claim_one(each, [quota()]) is None
    rows.connections.ask("default", each, insist=True)
    assert rows.claim(each).failures == 1


# ------------------------------------------------------------------------------------------------------------ suspects


def _die(rows: Rows, times: int) -> None:
    """Claims that end without a word, each taken as its turn comes."""
    for _ in range(times):
        for claim in _suspects(rows) or rows.refreshing.claim([quota()]):
            rows.expire_lease(claim.connection_id)


def _suspects(rows: Rows, few: int = 100) -> list[Claim]:
    """Every suspect there is now, as one process after the other would take them."""
    found = []
    while claims := rows.refreshing.claim_suspects([quota()], few):
        found += claims
    return found


def test_after_a_claim_without_an_end_rows_are_taken_in_small_groups_and_then_alone(rows: Rows) -> None:
    ids = {rows.add() for _ in range(5)}
    _die(rows, 1)
    assert rows.refreshing.claim([quota()]) == []
    groups = [rows.refreshing.claim_suspects([quota()], 2) for _ in range(4)]
    assert [len(group) for group in groups] == [2, 2, 1, 0]
    assert {claim.attempt for group in groups for claim in group} == {2}
    for each in ids:
        rows.expire_lease(each)
    assert rows.refreshing.claim([quota()]) == []
    alone = [rows.refreshing.claim_suspects([quota()], 2) for _ in range(6)]
    assert [len(group) for group in alone] == [1, 1, 1, 1, 1, 0]
    assert {claim.connection_id for group in alone for claim in group} == ids
    assert {claim.attempt for group in alone for claim in group} == {3}


def test_those_that_died_once_are_not_kept_waiting_by_those_that_died_again(rows: Rows) -> None:
    often = rows.add()
    _die(rows, 2)
    once = rows.add()
    rows.expire_lease(rows.claim(once).connection_id)
    assert [claim.connection_id for claim in _suspects(rows)] == [once, often]


def test_suspects_wait_for_their_time_and_for_their_client(rows: Rows) -> None:
    each = rows.add()
    _die(rows, 1)
    assert rows.refreshing.claim_suspects([quota("umbra")], 9) == []
    rows.sql("UPDATE evergrant.schedule SET next_at = now() + interval '1 min'")
    assert _suspects(rows) == []
    rows.sql("UPDATE evergrant.schedule SET next_at = now()")
    assert [claim.connection_id for claim in _suspects(rows)] == [each]


def test_a_row_that_goes_on_killing_is_put_off_by_the_claim_itself(rows: Rows) -> None:
    """Its claim may be the last thing its worker does, so the wait is written before anything is sent."""
    each = rows.add()
    _die(rows, RefreshPolicy().quarantine_after)
    [fourth] = _suspects(rows)
    assert fourth.attempt == 4
    assert rows.of("schedule", each)["next_at"] == fourth.claimed_at + QUARANTINE_WAIT
    rows.expire_lease(each)
    assert _suspects(rows) == []


def test_a_quarantined_row_stays_suspect_until_it_has_an_end(rows: Rows) -> None:
    each = rows.add()
    _die(rows, 3)
    [fourth] = _suspects(rows)
    rows.refreshing.settle(
        [], [verdict(fourth, status=Status.QUARANTINED, reason="kills_its_worker", wait=ZERO, unspent=False)]
    )
    assert rows.refreshing.claim([quota()]) == []
    [fifth] = _suspects(rows)
    assert (fifth.attempt, fifth.status) == (5, Status.QUARANTINED)
    rows.refreshing.settle([answer(fifth, next_at=fifth.claimed_at)], [])
    assert rows.claim(each).attempt == 1
    assert rows.of("oauth_grant", each)["status"] == "active"


# ------------------------------------------------------------------------------------------------------------- overdue


def test_overdue_counts_what_is_due_and_in_nobodys_hands(rows: Rows) -> None:
    assert rows.refreshing.overdue(["acme"]) == (0, ZERO)
    rows.add(due=timedelta(seconds=-90), urgent=True)
    rows.add(due=timedelta(seconds=-10))
    rows.add(due=HOUR)
    rows.add("umbra")
    found = rows.refreshing.overdue(["acme"])
    assert found.rows == 2
    assert timedelta(seconds=90) <= found.late < timedelta(seconds=95)
    rows.refreshing.claim([quota()])
    assert rows.refreshing.overdue(["acme"]).rows == 0
