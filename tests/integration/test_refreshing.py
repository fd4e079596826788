"""The refresh protocol against a provider that misbehaves in every way, with real PostgreSQL and real HTTP in between.

What is asserted is what the database says, what the audit tells, when the next try is due, and what the provider,
which is its own oracle, holds to be true.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.integration import victims
from tests.integration.house import DEADLINE_S, ROTATIONS, SECOND, House
from tests.integration.waiting import until
from tests.simulator import SimulatorProcess
from tests.simulator.client import consent
from tests.support.stack import build_schema
from vault import ReconnectRequired, RefreshPending, StoreUnavailable
from vault.claims import Kept
from vault.engine import drain
from vault.lineage import Place
from vault.oauth.endpoint import OAuthEndpoint
from vault.oauth.transport import CurlTransport
from vault.outcome import TokenRequest
from vault.provider import Provider
from vault.secret import Secret
from vault.spool import FileSpool
from vault.store.engine import Database
from vault.store.refreshing import PostgresRefreshStore
from vault.testing.servers import EmbeddedPostgres

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
FAST = timedelta(seconds=5)
"""The first steps of the backoff stay below this."""
SLACK = timedelta(seconds=5)
"""What a busy machine may add to a wait that was worked out."""


@pytest.fixture
def build(database_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[Callable[..., House]]:
    """Build the test's house; what is not said is a strict provider."""
    built: list[House] = []

    def make(**arguments: Any) -> House:
        built.append(House(arguments.pop("url", database_url), simulator, tmp_path, **arguments))
        return built[-1]

    yield make
    for house in built:
        house.close()


@pytest.fixture
def house(build: Callable[..., House]) -> House:
    """A house at a strict provider."""
    return build()


every_rotation = pytest.mark.parametrize("rotation", ROTATIONS)


# -------------------------------------------------------------------------------------------------- when all goes well


@every_rotation
def test_a_grant_stays_alive_refresh_after_refresh(build: Callable[..., House], rotation: str) -> None:
    house = build(rotation=rotation)
    ids = house.connect_many(3)
    for generation in range(2, 5):
        house.make_due(*ids)
        assert house.worker.refresh_scan().refreshed == 3
        for each in ids:
            assert house.row(each)["version"] == generation
            assert house.vault.get(each).access_token.reveal() == house.newest_answer(each)
    for each in ids:
        assert house.events(each) == ["oauth.refreshed"] * 3
        assert house.presented(each) == ([3] if rotation == "none" else [1, 1, 1, 0])
        assert house.alive(each)


def test_a_refresh_is_due_in_the_last_tenth_of_a_tokens_life_and_not_before(house: House) -> None:
    each = house.connect()
    house.pass_time(48 * MINUTE)
    assert house.worker.refresh_scan().claimed == 0
    house.pass_time(6 * MINUTE)
    assert house.worker.refresh_scan().refreshed == 1
    assert 48 * MINUTE < house.row(each)["wait"] <= 54 * MINUTE


def test_what_the_audit_tells_is_the_lineage(house: House) -> None:
    each = house.connect()
    for _ in range(3):
        house.make_due(each)
        house.worker.refresh_scan()
    told = [row["detail"] for row in house.audit(each)]
    assert [row["parent"] for row in told[1:]] == [row["refresh"] for row in told[:-1]]
    assert [row["version"] for row in told] == [2, 3, 4]


# -------------------------------------------------------------------------------------------------- when it does not


class Mishap(NamedTuple):
    """A way for one refresh to go wrong, and what is known afterwards."""

    kind: str
    reason: str
    processed: bool
    """Whether the provider has spent the refresh token; the answer is lost then."""
    members: dict[str, Any] = {}  # noqa: RUF012  # never changed


LOST = [
    Mishap("drop_before", "closed", False),
    Mishap("drop_after", "closed", True),
    Mishap("reset_before", "reset", False),
    Mishap("reset_after", "reset", True),
    Mishap("error_before", "http_503", False),
    Mishap("error_after", "http_502", True, {"status": 502}),
    Mishap("slow", "timeout", True, {"delay": 60.0}),
    Mishap("drip", "timeout", True, {"delay": 60.0}),
    Mishap("truncated", "truncated", True),
    Mishap("malformed", "unreadable", True),
    Mishap("not_json", "unreadable", True),
    Mishap("huge", "too_large", True),
    Mishap("missing", "no_access_token", True),
]
"""After these nobody knows whether the refresh token was spent."""


def _wait(row: dict[str, Any], told: dict[str, Any]) -> timedelta:
    """The wait that an end was given."""
    at: datetime = told["at"]
    due: datetime = row["next_at"]
    return due - at


@every_rotation
def test_a_lost_answer_costs_a_grant_only_where_the_provider_forgives_nothing(
    build: Callable[..., House], rotation: str
) -> None:
    house = build(rotation=rotation)
    ids = house.connect_many(len(LOST))
    tokens = {each: house.vault.get(each).access_token for each in ids}
    cases = dict(zip(ids, LOST, strict=True))
    for each, mishap in cases.items():
        house.fault(mishap.kind, each, **mishap.members)
    house.make_due(*ids)
    house.worker.refresh_scan()

    for each, mishap in cases.items():
        row, [told] = house.row(each), house.audit(each)
        assert (row["status"], row["version"]) == ("in_doubt", 1), mishap
        assert row["reason"] == mishap.reason, mishap
        assert (told["event"], told["detail"]["reason"]) == ("oauth.in_doubt", mishap.reason), mishap
        assert row["intent_fp"] == row["refresh_fp"], mishap
        assert house.presented(each)[0] == 1, mishap
        assert house.vault.get(each).access_token == tokens[each], f"{mishap}: what still works is served"
        if rotation == "strict":
            assert abs(row["next_at"] - (row["expires_at"] - MINUTE)) < SLACK, mishap
        elif rotation == "until_successor_used":
            assert _wait(row, told) <= 3 * DEADLINE_S * SECOND, f"{mishap}: a request on its way is over by then"
        else:
            assert FAST / 10 - SECOND / 10 < _wait(row, told) <= FAST, mishap

    for each in ids:
        house.make_due(each)
    house.another_worker().refresh_scan()
    for each, mishap in cases.items():
        lost = rotation == "strict" and mishap.processed
        assert house.arrivals(each) == 2, f"{mishap}: tried once more"
        assert house.alive(each) is not lost, mishap
        if lost:
            assert house.state(each) == ("needs_reconnect", "answer_lost"), mishap
            assert house.events(each) == ["oauth.in_doubt", "connection.needs_reconnect"], mishap
            evidence = house.audit(each)[-1]["detail"]
            assert evidence["refresh"] == house.row(each)["refresh_fp"].hex(), mishap
            assert house.row(each)["next_at"] is None, mishap
        else:
            assert house.state(each) == ("active", None), mishap
            assert house.events(each) == ["oauth.in_doubt", "oauth.refreshed"], mishap
            assert house.audit(each)[-1]["detail"]["recovered_from"] == mishap.reason, mishap
            assert house.vault.get(each).access_token.reveal() == house.newest_answer(each), mishap


@every_rotation
def test_a_provider_that_turns_us_away_costs_patience_and_nothing_else(
    build: Callable[..., House], rotation: str
) -> None:
    house = build(rotation=rotation)
    cases: dict[str, tuple[str, dict[str, Any], str, timedelta]] = {
        "told when": ("rate_limited", {"retry_after": 120}, "http_429", 2 * MINUTE),
        "not told when": ("rate_limited", {}, "http_429", MINUTE),
        "busy, it says in a 200": ("error_in_200", {}, "temporarily_unavailable", MINUTE),
        "not an OAuth answer": ("error_before", {"status": 403, "body": "<html>blocked</html>"}, "http_403", MINUTE),
        "sent elsewhere": ("redirect", {}, "redirected", 30 * MINUTE),
    }
    ids = dict(zip(cases, house.connect_many(len(cases)), strict=True))
    for case, (kind, members, _, _) in cases.items():
        house.fault(kind, ids[case], **members)
    house.make_due(*ids.values())
    house.worker.refresh_scan()
    for case, (_, _, reason, wait) in cases.items():
        row, [told] = house.row(ids[case]), house.audit(ids[case])
        assert (row["status"], row["reason"], told["event"]) == ("active", reason, "oauth.postponed"), case
        assert wait - SECOND / 10 <= _wait(row, told) <= wait + FAST, case
        assert row["intent_fp"] is None, f"{case}: nothing was spent"
        house.worker.refresh(ids[case])
        assert house.arrivals(ids[case]) == 1, f"{case}: not before its time"
    house.make_due(*ids.values())
    assert house.another_worker().refresh_scan().refreshed == len(cases)
    assert {house.state(each) for each in ids.values()} == {("active", None)}


@pytest.mark.parametrize(("rotation", "ends"), [("none", "active"), ("strict", "needs_reconnect")])
def test_an_answer_without_a_refresh_token_leaves_the_old_one_in_its_place(
    build: Callable[..., House], rotation: str, ends: str
) -> None:
    """RFC 6749, section 6. Where the old one was spent all the same, the next refresh shows it."""
    house = build(rotation=rotation)
    each = house.connect()
    before = house.row(each)
    house.fault("missing", fields=["refresh_token"])
    house.make_due(each)
    assert house.worker.refresh_scan().refreshed == 1
    after = house.row(each)
    assert (after["refresh_fp"], after["version"]) == (before["refresh_fp"], 2)
    assert house.oracle.access_token_live(house.vault.get(each).access_token.reveal())
    house.make_due(each)
    house.worker.refresh_scan()
    assert house.state(each)[0] == ends


def test_a_rejection_in_a_200_is_a_rejection(house: House) -> None:
    each = house.connect()
    house.fault("error_in_200", error="invalid_grant")
    house.make_due(each)
    house.worker.refresh_scan()
    assert house.state(each) == ("needs_reconnect", "invalid_grant")


def test_a_wait_that_comes_with_an_error_is_kept(build: Callable[..., House]) -> None:
    house = build(rotation="none")
    each = house.connect()
    house.fault("error_before", retry_after=40)
    house.make_due(each)
    house.worker.refresh_scan()
    assert 39 * SECOND < _wait(house.row(each), house.audit(each)[-1]) <= 40 * SECOND + FAST


def test_the_backoff_grows_and_is_told_once(build: Callable[..., House]) -> None:
    house = build(rotation="none")
    each = house.connect()
    house.fault("error_before", next=8)
    waits = []
    for _ in range(8):
        house.make_due(each)
        house.another_worker().refresh_scan()
        waits.append(house.row(each)["wait"])
    assert max(waits[:3]) <= FAST < max(waits[4:]) <= 32 * FAST
    assert house.row(each)["failures"] == 8
    assert house.events(each) == ["oauth.in_doubt"]


def test_a_connection_that_cannot_be_made_spends_nothing(house: House) -> None:
    each = house.connect()
    registry = house.home / "providers.toml"
    nowhere = 'refresh_uri = "http://127.0.0.1:1/token"\n'
    registry.write_text(registry.read_text() + nowhere)
    house.make_due(each)
    house.worker.refresh_scan()
    assert house.state(each) == ("active", "connect")
    assert house.row(each)["intent_fp"] is None
    registry.write_text(registry.read_text().replace(nowhere, ""))
    house.make_due(each)
    assert house.another_worker().refresh_scan().refreshed == 1


# ----------------------------------------------------------------------------------------------------------- in doubt


def test_in_doubt_the_old_token_is_served_and_tried_once_shortly_before_its_end(house: House) -> None:
    each = house.connect()
    token = house.vault.get(each).access_token
    house.fault("drop_after", each)
    house.make_due(each)
    house.worker.refresh_scan()
    left = house.row(each)["expires_at"] - house.row(each)["next_at"]
    assert abs(left - MINUTE) < SLACK
    assert house.vault.get(each).access_token == token
    assert house.oracle.access_token_live(token.reveal())
    house.worker.refresh(each)  # whoever asks for it by name
    house.vault.report_rejected(each)  # or because of a token that was not taken
    house.worker.refresh_scan()
    assert house.arrivals(each) == 1, "sending it again may kill the grant, and what is stored still serves"
    assert house.oracle.access_token_live(token.reveal())
    house.make_due(each)
    house.another_worker().refresh_scan()
    assert house.arrivals(each) == 2
    house.pass_time(2 * MINUTE, each)
    for _ in range(2):
        house.another_worker().refresh_scan()
        with pytest.raises(ReconnectRequired, match="answer_lost"):
            house.vault.get(each)
    assert house.arrivals(each) == 2


def test_a_dead_grant_is_flagged_once_and_never_asked_for_again(house: House) -> None:
    each = house.connect()
    house.simulator.kill_account(house.far_side, house.account(each))
    house.make_due(each)
    for _ in range(3):
        house.worker.refresh_scan()
        house.worker.refresh(each)
    assert house.state(each) == ("needs_reconnect", "invalid_grant")
    assert house.events(each) == ["connection.needs_reconnect"]
    assert house.arrivals(each) == 1
    house.pass_time(HOUR)
    with pytest.raises(ReconnectRequired, match="invalid_grant"):
        house.vault.get(each)


@pytest.mark.parametrize(
    ("status", "body"), [(401, '{"message": "no"}'), (400, '{"error": "invalid_scope"}'), (302, "")]
)
def test_one_grant_that_is_refused_as_if_we_were_does_not_hold_up_the_others(
    house: House, status: int, body: str
) -> None:
    """A provider may say of one grant what others say of a registration; five in a row are everybody's."""
    strange, *others = house.connect_many(7)
    house.fault("error_before", strange, next=None, status=status, body=body)
    for each in (strange, *others):
        house.make_due(each)
        assert house.worker.refresh_scan().refreshed == (each != strange)
    assert house.state(strange)[0] == "active"
    house.fault("error_before", next=None, status=status, body=body)
    for each in others:
        house.make_due(each)
    house.worker.refresh_scan()
    house.make_due(strange)
    assert house.worker.refresh_scan().claimed == 0, "the breaker is open"
    assert {house.state(each)[0] for each in others} == {"active"}


def test_when_our_own_registration_is_refused_no_grant_is_to_blame_and_the_breaker_opens(house: House) -> None:
    ids = house.connect_many(6)
    house.simulator.configure(house.far_side, invalid_client=True)
    house.make_due(*ids[:5])
    house.worker.refresh_scan()
    for each in ids[:5]:
        assert house.state(each) == ("active", "invalid_client")
        assert _wait(house.row(each), house.audit(each)[-1]) >= 30 * MINUTE - SECOND / 10
    asked = house.oracle.count("refused")
    house.make_due(*ids)
    assert house.worker.refresh_scan().claimed == 0
    house.worker.refresh(ids[5])
    assert house.oracle.count("refused") == asked, "nothing gets better by asking"
    house.simulator.configure(house.far_side, invalid_client=False)
    assert house.another_worker().refresh_scan().refreshed == 6


def test_a_rejection_while_asking_as_another_client_condemns_nobody(house: House) -> None:
    each = house.connect()
    house.sql("UPDATE evergrant.oauth_grant SET client_id = 'the one before'")
    house.simulator.kill_account(house.far_side, house.account(each))
    house.make_due(each)
    house.worker.refresh_scan()
    assert house.state(each) == ("active", "client_changed")
    assert house.row(each)["wait"] > 29 * MINUTE


# ------------------------------------------------------------------------------------------------------- late answers


def _in_flight(house: House, each: UUID, threads: ThreadPoolExecutor, **fault: Any) -> Any:
    """Start a refresh whose answer is still to come, and wait until the provider has it."""
    before = house.arrivals(each)
    house.fault("slow", each, **fault)
    refreshing = threads.submit(house.another_worker().refresh, each)
    until(lambda: house.arrivals(each) == before + 1)
    return refreshing


def test_a_late_answer_beside_a_row_in_other_hands_is_kept_and_taken_in(build: Callable[..., House]) -> None:
    """The one who holds the row loses its answer; the one whose lease ran out has it."""
    house = build(rotation="grace")
    each = house.connect()
    with ThreadPoolExecutor(2) as threads:
        late = _in_flight(house, each, threads, delay=1.0)
        house.expire_leases()
        holder = _in_flight(house, each, threads, delay=60.0)
        late.result()
        assert house.events(each) == ["oauth.candidate_kept"]
        assert house.row(each)["version"] == 1
        holder.result()
    assert house.worker.refresh_scan().outcomes == {"adopted": 1}
    assert house.state(each) == ("active", None)
    assert house.events(each) == ["oauth.candidate_kept", "oauth.in_doubt", "oauth.candidate_adopted"]
    assert house.arrivals(each) == 2, "the candidate was used, and nothing was sent for it"
    _, first, _ = [a for a in house.oracle.answers(house.account(each)) if a.origin.provider == house.far_side]
    assert house.vault.get(each).access_token.reveal() == first.access_token
    house.make_due(each)
    assert house.worker.refresh_scan().refreshed == 1, "and it is of a lineage that lives"


def test_a_rejection_is_not_believed_while_a_candidate_is_kept(build: Callable[..., House]) -> None:
    house = build(rotation="strict")
    each = house.connect()
    with ThreadPoolExecutor(2) as threads:
        late = _in_flight(house, each, threads, delay=2.0)
        house.expire_leases()
        house.sql("UPDATE evergrant.schedule SET intent_fp = NULL")  # or the next would wait for the end of the token
        house.simulator.configure(house.far_side, rotation={"reuse_revokes_family": False})
        holder = _in_flight(house, each, threads, delay=0.0)  # rejected at once, the first answer being on its way
        late.result()
        holder.result()
    house.make_due(each)
    house.another_worker().refresh_scan()
    assert house.state(each)[0] in ("active", "in_doubt")
    house.make_due(each)
    house.another_worker().refresh_scan()
    assert house.state(each) == ("active", None)
    assert house.alive(each)
    assert house.vault.get(each).access_token.reveal() == house.newest_answer(each)


def test_an_answer_for_a_connection_disconnected_meanwhile_is_revoked_at_the_provider(house: House) -> None:
    each = house.connect()
    with ThreadPoolExecutor(1) as threads:
        refreshing = _in_flight(house, each, threads, delay=1.0)
        house.vault.disconnect(each)
        house.sql("DELETE FROM evergrant.revocation")  # so that only the late answer can revoke anything
        refreshing.result()
    assert house.events(each) == ["connection.disconnected", "oauth.late_answer"]
    assert house.alive(each)
    house.worker.refresh_scan()
    assert not house.alive(each)
    assert house.events(each)[-1] == "connection.revoked"
    assert house.state(each) == ("disconnected", "disconnected")


def test_a_reconnect_wins_over_the_answer_of_a_refresh_in_flight(house: House) -> None:
    each = house.connect()
    with ThreadPoolExecutor(1) as threads:
        refreshing = _in_flight(house, each, threads, delay=1.0)
        assert house.connect(reconnect=each) == each
        token = house.vault.get(each).access_token
        refreshing.result()
    assert house.vault.get(each).access_token == token
    assert house.events(each) == ["connection.reconnected", "oauth.late_answer"]


def test_scopes_that_changed_while_refreshing_are_seen(house: House) -> None:
    each = house.connect(scopes=["read", "write"])
    assert house.vault.connection(each).granted_scopes == ("read", "write")
    house.simulator.configure(house.far_side, answer={"omit": ["scope"], "extra": {"scope": "read"}})
    house.make_due(each)
    house.worker.refresh_scan()
    assert house.vault.connection(each).missing_scopes == ("write",)


# ------------------------------------------------------------------------------------------------------ killed workers


def test_a_connection_that_kills_its_worker_is_quarantined_after_three_while_the_others_go_on(
    build: Callable[..., House],
) -> None:
    house = build(rotation="none")
    poison, *others = house.connect_many(5)
    house.make_due(poison, *others)
    kills = 0
    while victims.exit_code(victims.scan_and_die_reading, house.environment, poison) == victims.KILLED:
        kills += 1
        assert kills <= 3
        house.expire_leases()
    assert kills == 3
    for each in others:
        assert house.state(each) == ("active", None)
        assert house.row(each)["version"] == 2
    assert house.state(poison) == ("quarantined", "kills_its_worker")
    assert house.events(poison) == ["connection.quarantined"]
    assert house.row(poison)["wait"] > 59 * MINUTE
    asked = house.arrivals(poison)
    assert house.vault.get(poison, min_ttl=timedelta(0)).access_token, "what still works is served"
    house.pass_time(2 * HOUR, poison)
    house.sql("UPDATE evergrant.schedule SET next_at = now() + interval '1 h' WHERE connection_id = %s", (poison,))
    with pytest.raises(RefreshPending, match="kills_its_worker"):
        house.vault.get(poison)
    house.worker.refresh(poison)
    house.worker.refresh_scan()
    assert house.arrivals(poison) == asked, "nobody who waits for its token makes it kill another worker"
    house.vault.close()
    house.make_due(poison)
    assert victims.exit_code(victims.scan_and_die_reading, house.environment, poison) == victims.KILLED
    house.expire_leases()
    house.worker.refresh_scan()
    assert house.row(poison)["wait"] > 59 * MINUTE, "the claim that killed it had put it off"
    house.make_due(poison)
    assert house.worker.refresh_scan().refreshed == 1
    assert house.state(poison) == ("active", None)


def test_an_answer_in_the_spool_of_a_killed_process_is_brought_home(house: House) -> None:
    each = house.connect()
    house.make_due(each)
    assert victims.exit_code(victims.scan_and_die_after_spooling, house.environment) == victims.KILLED
    assert house.row(each)["version"] == 1
    house.worker.refresh_scan()  # also while the dead one's lease still holds
    assert house.state(each) == ("active", None)
    assert house.presented(each) == [1, 0]
    assert house.vault.get(each).access_token.reveal() == house.newest_answer(each)
    assert house.events(each) == ["oauth.refreshed"]
    house.worker.close()
    assert list((house.home / "spool").iterdir()) == []


def test_an_answer_in_the_hands_of_a_process_that_sleeps_is_brought_home_by_another(house: House) -> None:
    """It is not dead, so its spool is its own; but the token must not be sent again while the answer lies there."""
    each = house.connect()
    house.make_due(each)
    with victims.asleep(victims.scan_and_sleep_after_spooling, house.environment):
        until(lambda: FileSpool(house.home / "spool").holds(each))
        house.expire_leases()
        house.worker.refresh_scan()
        house.make_due(each)  # the time has come to try the old token once
        house.worker.refresh_scan()
        assert house.state(each) == ("active", None)
        assert house.presented(each) == [1, 0]
        assert house.vault.get(each).access_token.reveal() == house.newest_answer(each)
    house.worker.refresh_scan()  # what the sleeper left is known already
    assert house.events(each) == ["oauth.in_doubt", "oauth.refreshed"]


def test_an_answer_that_becomes_a_candidate_behind_our_back_keeps_the_old_token_from_being_sent(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not there yet when we claim, no longer in a spool when we look."""
    each = house.connect()
    house.make_due(each)
    assert victims.exit_code(victims.scan_and_die_after_spooling, house.environment) == victims.KILLED
    [lying] = FileSpool(house.home / "spool").lying([each])
    for path in (house.home / "spool").iterdir():
        path.unlink()
    house.expire_leases()
    house.worker.refresh_scan()
    house.make_due(each)  # the time has come to try the old token once
    store = PostgresRefreshStore(Database(Secret(house.database_url)), quarantine_wait=timedelta(hours=1))
    places = []

    def nothing_left(_self: FileSpool, _wanted: Collection[UUID]) -> list[Kept]:
        places.append(store.settle_late(lying))
        return []

    monkeypatch.setattr(FileSpool, "lying", nothing_left)
    house.worker.refresh_scan()
    store.close()
    house.worker.refresh_scan()  # unless the first has already seen it, the row being due again
    assert places == [Place.CANDIDATE]
    assert house.state(each) == ("active", None)
    assert house.presented(each) == [1, 0]


def test_an_answer_that_dies_with_its_process_is_flagged_with_evidence(house: House) -> None:
    each = house.connect()
    house.make_due(each)
    assert victims.exit_code(victims.scan_and_die_reading, house.environment, each) == victims.KILLED
    house.expire_leases()
    house.worker.refresh_scan()
    assert house.state(each) == ("in_doubt", "answer_lost")
    house.make_due(each)
    house.worker.refresh_scan()
    assert house.state(each) == ("needs_reconnect", "answer_lost")
    assert house.arrivals(each) == 2


# ------------------------------------------------------------------------------------------------------------ the spool


def _spooled(house: House, each: UUID, **changes: Any) -> None:
    """Leave a record as a dead process would have."""
    row = house.row(each)
    kept = Kept(
        each, "default", row["epoch"], row["consent"], row["refresh_fp"], row["version"], b"another",
        row["data_key_id"], b"access", b"refresh", "Bearer", None, row["refreshed_at"], row["expires_at"],
        row["next_at"], None,
    )  # fmt: skip
    spool = FileSpool(house.home / "spool")
    spool.append(kept._replace(**changes))
    spool.release()


def test_a_record_that_cannot_be_stored_keeps_nobody_from_being_refreshed(house: House) -> None:
    """Such as one sealed under a key that the database, restored from a backup, does not know."""
    stuck, each = house.connect_many(2)
    _spooled(house, stuck, data_key_id=uuid4())
    house.make_due(each)
    for _ in range(2):
        house.worker.refresh_scan()
    assert house.row(each)["version"] == 2
    assert len(list((house.home / "spool").glob("*.spool"))) >= 1, "and it is not thrown away"


def test_nothing_is_sent_that_could_not_be_kept(house: House) -> None:
    each = house.connect()
    house.make_due(each)
    (house.home / "spool").write_text("this is where the directory should be")
    tally = house.worker.refresh_scan(timedelta(seconds=0.5))
    assert house.arrivals(each) == 0
    assert tally.claimed <= 2, "and the row is not taken over and over"
    assert house.row(each)["intent_fp"] is None
    (house.home / "spool").unlink()
    house.make_due(each)
    assert house.another_worker().refresh_scan().refreshed == 1


# ---------------------------------------------------------------------------------------------- the database goes away


def test_answers_are_held_while_sessions_are_being_cut(house: House) -> None:
    ids = house.connect_many(8)
    for each in ids:
        house.fault("slow", each, delay=0.5)
    house.make_due(*ids)
    house.sql("CREATE SEQUENCE evergrant.deaths")  # which no rollback takes back
    house.sql(
        "CREATE FUNCTION evergrant.die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM nextval('evergrant.deaths'); PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
    )
    house.sql("CREATE TRIGGER die AFTER INSERT ON evergrant.audit EXECUTE FUNCTION evergrant.die()")
    killed = "SELECT FROM evergrant.deaths WHERE last_value >= 3"
    with ThreadPoolExecutor(1) as threads:
        scanning = threads.submit(house.worker.refresh_scan)
        until(lambda: house.finds(killed))  # each session that stores them dies of it
        assert not house.finds("SELECT FROM evergrant.audit WHERE event = 'oauth.refreshed'")
        house.sql("DROP TRIGGER die ON evergrant.audit")
        tally = scanning.result(20)
    assert (tally.refreshed, tally.settled) == (8, True)
    for each in ids:
        assert (house.presented(each), house.events(each)) == ([1, 0], ["oauth.refreshed"])


@pytest.fixture(scope="module")
def fragile_server() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of this module's own, to be stopped and started."""
    with EmbeddedPostgres.start() as server:
        yield server


@pytest.fixture
def fragile_url(fragile_server: EmbeddedPostgres) -> str:
    name = f"fragile_{uuid4().hex[:8]}"
    with psycopg.connect(fragile_server.url, autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name}")
    url = fragile_server.url_for(name)
    build_schema(url)
    return url


def _stop_while_in_flight(house: House, server: EmbeddedPostgres, ids: list[UUID]) -> None:
    until(lambda: all(house.arrivals(each) == 1 for each in ids))
    server.stop()


def test_answers_are_held_while_the_database_is_away(
    build: Callable[..., House], fragile_server: EmbeddedPostgres, fragile_url: str
) -> None:
    house = build(url=fragile_url)
    ids = house.connect_many(5)
    for each in ids:
        house.fault("slow", each, delay=0.5)
    house.make_due(*ids)
    with ThreadPoolExecutor(1) as threads:
        scanning = threads.submit(house.worker.refresh_scan)
        _stop_while_in_flight(house, fragile_server, ids)
        [spool] = (house.home / "spool").glob("*.spool")
        until(lambda: spool.stat().st_size > 5 * 300)  # every answer is on disk
        fragile_server.restart()
        scanning.exception(20)  # it may have been about to claim more, and say so
    for each in ids:
        assert (house.state(each), house.row(each)["version"]) == (("active", None), 2)
        assert (house.presented(each), house.events(each)) == ([1, 0], ["oauth.refreshed"])


def test_what_a_process_gave_up_holding_it_brings_home_itself_when_the_database_is_back(
    build: Callable[..., House], fragile_server: EmbeddedPostgres, fragile_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = build(url=fragile_url)
    each = house.connect()
    house.fault("slow", each, delay=0.5)
    house.make_due(each)
    monkeypatch.setattr(drain, "HOLD", SECOND / 2)
    with ThreadPoolExecutor(1) as threads:
        scanning = threads.submit(house.worker.refresh_scan)
        _stop_while_in_flight(house, fragile_server, [each])
        assert isinstance(scanning.exception(30), StoreUnavailable)
    fragile_server.restart()
    house.worker.refresh_scan()
    assert (house.state(each), house.row(each)["version"]) == (("active", None), 2)
    assert house.presented(each) == [1, 0]


# --------------------------------------------------------------------------------------------------------- other things


def test_a_revocation_whose_key_is_gone_keeps_nobody_from_being_refreshed(house: House) -> None:
    gone, each = house.connect_many(2)
    house.vault.disconnect(gone)
    house.sql("UPDATE evergrant.data_key SET wrapped = '' WHERE owner = 'owner 0'")
    house.make_due(each)
    assert house.another_worker().refresh_scan().refreshed == 1


def test_a_grant_whose_key_is_gone_is_put_off_and_keeps_nobody_else(house: House) -> None:
    gone, each = house.connect_many(2)
    house.sql("UPDATE evergrant.data_key SET wrapped = '' WHERE owner = 'owner 0'")
    house.make_due(gone, each)
    assert house.another_worker().refresh_scan().refreshed == 1
    assert house.state(gone) == ("active", "KeyUnavailable")
    assert house.arrivals(gone) == 0
    assert house.row(gone)["intent_fp"] is None


def test_a_run_whose_time_is_used_up_still_takes_a_suspect(house: House) -> None:
    """Or a lasting backlog would keep those that were near a crash from ever being tried alone."""
    each = house.connect()
    house.make_due(each)
    house.sql("UPDATE evergrant.schedule SET attempt = 1")
    assert house.worker.refresh_scan(timedelta(0)).refreshed == 1


def test_deadlines_hold_for_requests_that_are_never_answered(build: Callable[..., House]) -> None:
    house = build(rotation="none")
    each = house.connect()
    house.simulator.configure(house.far_side, outage="hang")
    house.make_due(each)
    tally = house.worker.refresh_scan()
    assert tally.outcomes == {"ambiguous": 1}
    assert house.state(each) == ("in_doubt", "timeout")
    told = house.audit(each)[-1]
    taken: datetime = house.row(each)["intent_at"]
    assert timedelta(seconds=DEADLINE_S) <= told["at"] - taken < timedelta(seconds=DEADLINE_S) + SLACK


def test_a_request_that_cannot_be_written_puts_off_its_own_row_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, other = house.connect("odd"), house.connect("other")
    house.make_due(odd, other)
    written = OAuthEndpoint.refresh_request

    def sometimes(self: OAuthEndpoint, provider: Provider, spent: Secret, tag: Any, *rest: Any) -> Any:
        if tag.claim.connection_id == odd:
            raise TypeError("not to be written")
        return written(self, provider, spent, tag, *rest)

    monkeypatch.setattr(OAuthEndpoint, "refresh_request", sometimes)
    assert house.worker.refresh_scan().refreshed == 1
    assert house.state(other) == ("active", None)
    assert house.state(odd) == ("active", "unwritable")
    monkeypatch.undo()
    house.make_due(odd)
    assert house.worker.refresh_scan().refreshed == 1


def test_a_request_that_libcurl_does_not_take_puts_off_its_own_row_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are checked for what it would not take; that there is more of it cannot be ruled out."""
    start = CurlTransport.start

    def picky(self: CurlTransport, request: TokenRequest) -> None:
        if any("x-who" in header for header in request.headers):
            raise UnicodeEncodeError("ascii", "", 0, 1, "what pycurl raises")
        start(self, request)

    monkeypatch.setattr(CurlTransport, "start", picky)
    file = house.home / "providers.toml"
    file.write_text(f'{file.read_text()}\n[odd]\nlike = "acme"\n[odd.refresh]\nheaders = {{ x-who = "us" }}\n')
    house.environment |= {"VAULT_CLIENT_ODD_ID": "evergrant", "VAULT_CLIENT_ODD_SECRET": "cnry-cs-simulator"}
    other = house.connect("other")
    said = consent(house.vault.begin("odd", owner="odd").url)
    odd = house.vault.complete(state=said["state"], code=said["code"]).id
    house.make_due(odd, other)
    house.pass_time(timedelta(hours=2), odd)  # it comes first
    assert house.worker.refresh_scan().refreshed == 1
    assert house.state(other) == ("active", None)
    assert house.state(odd) == ("active", "unwritable")


def test_a_token_that_hardly_lives_is_not_refreshed_without_end(house: House) -> None:
    house.simulator.configure(house.far_side, answer={"extra": {"expires_in": 0.001}})
    each = house.connect()
    house.make_due(each)
    house.worker.refresh_scan(timedelta(seconds=2))
    assert 0 < house.arrivals(each) <= 3


@pytest.mark.parametrize("echo", ["%s", "no such token: %s", '"],"%s'])
def test_a_refusal_that_repeats_the_refresh_token_is_not_repeated_here(house: House, echo: str) -> None:
    """Its code becomes the connection's reason, which logs, the audit and web hooks tell."""
    each = house.connect()
    spent = list(house.oracle.lineage(house.account(each), house.far_side))[-1]
    house.fault("error_before", status=400, body=json.dumps({"error": echo % spent}))
    house.make_due(each)
    house.worker.refresh_scan()
    assert house.state(each) == ("active", "told_what_it_was_sent")
    assert spent[10:30] not in str(house.audit(each))
