"""Events on their way: signed, each the same every time, at the stated times, to whom they concern and nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from tests.integration.office import DEADLINE_S, Office, accepts
from tests.support.receiver import HUGE, Receiver, reset, slowly, status
from vault import (
    ConfigurationError,
    EventType,
    Maintenance,
    RotationBusy,
    UnknownCredential,
    UnknownEndpoint,
    UnknownEvent,
    Vault,
)
from vault.events import JITTER, SCHEDULE, Event, Fact
from vault.store.telling import record

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
SLACK = 3 * SECOND
"""What a busy machine may take between two looks at a clock."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def office(database_url: str, tmp_path: Path, receiver: Receiver) -> Iterator[Office]:
    built = Office(database_url, tmp_path, receiver)
    yield built
    built.close()


# ----------------------------------------------------------------------------------------------------------- the way


def test_an_event_comes_signed_to_whom_it_concerns_and_to_nobody_else(office: Office) -> None:
    endpoint, secret = office.add("/mine")
    office.add("/others", "umbra")
    office.add("/operators", "*")
    office.add("/picky", "default", EventType.RECOVERED)
    event_id = office.tell(reason="kills_its_worker")
    assert office.deliver() == {"delivered": 1}
    [got] = office.receiver.received
    assert got.path == "/mine"
    assert accepts(secret, got)
    assert got.headers["content-type"] == "application/json"
    assert got.id == str(event_id)
    told = json.loads(got.body)
    assert told["data"] == {"reason": "kills_its_worker"}
    assert (told["id"], told["type"], told["tenant"]) == (str(event_id), "connection.quarantined", "default")
    [delivery] = office.events.deliveries(event_id)
    assert (delivery.state, delivery.attempt, delivery.last_status) == ("delivered", 1, 204)
    assert office.events.event(event_id).body.encode() == got.body
    assert office.deliver() == {}
    assert office.worker.undelivered().rows == 0
    assert delivery.endpoint_id == endpoint


def test_an_endpoint_gets_new_events_only(office: Office) -> None:
    event_id = office.tell()
    late, _ = office.add("/late")
    assert office.deliver() == {}
    assert office.events.replay(event_id, late) == 1
    assert office.deliver() == {"delivered": 1}


def test_one_fact_is_one_event_however_many_tell_of_it(office: Office) -> None:
    office.add("/mine")

    def scan(number: int) -> None:
        with office.database.begin() as transaction:
            for fact in range(20):
                record(transaction, Fact("default", EventType.GRANT_ENDING, f"fact {fact}", {"scan": number}))

    with ThreadPoolExecutor(4) as scans:
        list(scans.map(scan, range(8)))
    assert office.deliver() == {"delivered": 20}
    assert len({got.id for got in office.receiver.received}) == 20


def test_what_is_not_committed_is_not_told(office: Office) -> None:
    office.add("/mine")
    with office.database.begin() as transaction:
        assert record(transaction, Fact("default", EventType.QUARANTINED, "a fact", {}))
        transaction.rollback()
    assert office.deliver() == {}
    assert office.events.events() == []


# ----------------------------------------------------------------------------------------------------------- failures


def test_an_endpoint_that_is_down_is_tried_at_the_stated_times_with_the_same_body(office: Office) -> None:
    endpoint, secret = office.add("/down")
    office.receiver.answers["/down"] = status(500)
    event_id = office.tell()
    waits = []
    for attempt in range(1, len(SCHEDULE) + 1):
        assert office.deliver() == {"retried" if attempt < len(SCHEDULE) else "failed": 1}
        assert office.deliver() == {}, "not before its time"
        found = office.delivery(event_id, endpoint)
        assert (found["attempt"], found["last_status"], found["last_error"]) == (attempt, 500, "http_500")
        waits.append(found["wait"])
        office.pass_time(found["wait"] + SECOND)
    for wait, stated in zip(waits, SCHEDULE[1:], strict=False):
        assert stated * (1 - JITTER) - SLACK <= wait <= stated * (1 + JITTER)
    stated_total = timedelta(hours=2 + 5 + 10 + 14 + 20 + 24, minutes=35, seconds=5)
    assert sum(SCHEDULE, timedelta()) == stated_total
    assert office.delivery(event_id, endpoint)["state"] == "failed"
    assert office.audit()[-1] == "event.failed"
    got = office.receiver.received
    assert len(got) == len(SCHEDULE) == 10
    assert len({(each.id, each.body) for each in got}) == 1
    assert all(accepts(secret, each) for each in got)
    office.receiver.answers.clear()
    assert office.deliver() == {}, "it was the last"
    assert office.events.replay(event_id) == 1
    assert office.deliver() == {"delivered": 1}
    assert office.receiver.received[-1].body == got[0].body


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(302, Location="/elsewhere"), "http_302"),
        (status(404), "http_404"),
        (status(500, bytes(HUGE)), "too_large"),
        (reset, "reset"),
        (slowly(DEADLINE_S + 1), "timeout"),
    ],
    ids=["redirect", "not found", "huge error", "reset", "slow"],
)
def test_what_is_no_success_is_tried_again(office: Office, answer: Any, error: str) -> None:
    endpoint, _ = office.add("/bad")
    office.receiver.answers["/bad"] = answer
    event_id = office.tell()
    assert office.deliver() == {"retried": 1}
    assert office.delivery(event_id, endpoint)["last_error"] == error
    assert {got.path for got in office.receiver.received} == {"/bad"}
    office.receiver.answers.clear()
    office.pass_time(6 * SECOND)
    assert office.deliver() == {"delivered": 1}


def test_nobody_listens(office: Office) -> None:
    endpoint, _ = office.events.add_endpoint("default", "http://127.0.0.1:1/")
    event_id = office.tell()
    assert office.deliver() == {"retried": 1}
    assert office.delivery(event_id, endpoint)["last_error"] == "connect"


def test_a_huge_answer_to_a_delivery_that_was_taken_is_not_read_and_does_no_harm(office: Office) -> None:
    endpoint, _ = office.add("/chatty")
    office.receiver.answers["/chatty"] = status(200, bytes(HUGE))
    event_id = office.tell()
    assert office.deliver() == {"delivered": 1}
    assert office.delivery(event_id, endpoint)["last_status"] == 200


def test_retry_after_puts_the_next_attempt_off(office: Office) -> None:
    endpoint, _ = office.add("/busy")
    office.receiver.answers["/busy"] = status(503, Retry_After="600")
    event_id = office.tell()
    office.deliver()
    wait = office.delivery(event_id, endpoint)["wait"]
    assert 600 * SECOND - SLACK < wait <= 600 * SECOND


def test_410_disables_the_endpoint_and_what_comes_meanwhile_is_held(office: Office) -> None:
    endpoint, _ = office.add("/gone")
    office.add("/alive")
    office.receiver.answers["/gone"] = status(410)
    first = office.tell()
    with capture_logs() as logs:
        assert office.deliver() == {"gone": 1, "delivered": 1}
    assert {
        "event": "endpoint.disabled",
        "endpoint_id": str(endpoint),
        "reason": "gone",
        "log_level": "warning",
    } in logs
    found = office.events.endpoint(endpoint)
    assert (found.state, found.reason) == ("disabled", "gone")
    assert "endpoint.disabled" in office.audit()
    second = office.tell()
    assert office.deliver() == {"delivered": 1}
    assert [office.delivery(each, endpoint)["state"] for each in (first, second)] == ["held", "held"]
    assert len(office.receiver.at("/gone")) == 1
    assert office.worker.undelivered().rows == 0, "nobody waits for it"
    office.receiver.answers.clear()
    office.events.enable(endpoint)
    assert office.deliver() == {"delivered": 2}
    assert {got.id for got in office.receiver.at("/gone")} == {str(first), str(second)}


def test_endpoints_that_are_slow_or_dead_hold_nobody_up(office: Office) -> None:
    """Three that never answer in time and have much to get; one that is well. It does not wait for them."""
    for number in range(3):
        office.add(f"/slow{number}")
        office.receiver.answers[f"/slow{number}"] = slowly(DEADLINE_S + 0.5)
    for _ in range(30):
        office.tell()
    office.add("/well", "umbra")
    ids = {str(office.tell(tenant="umbra")) for _ in range(40)}
    tally = office.worker.deliver(timedelta(seconds=DEADLINE_S / 2))
    assert tally.outcomes["delivered"] == 40
    assert {got.id for got in office.receiver.at("/well")} == ids
    assert all(office.receiver.at_once[f"/slow{number}"] <= 8 for number in range(3))
    assert len(office.receiver.at("/slow0")) < 30
    assert tally.backlog


# ------------------------------------------------------------------------------------------------------------- secrets


def test_during_an_overlap_both_secrets_sign_and_afterwards_the_new_one(office: Office) -> None:
    endpoint, first = office.add("/mine")
    second = office.events.rotate_secret(endpoint, timedelta(hours=1))
    office.tell()
    office.deliver()
    got = office.receiver.received[-1]
    assert accepts(first, got)
    assert accepts(second, got)
    with pytest.raises(RotationBusy):
        office.events.rotate_secret(endpoint, timedelta(hours=1))
    office.pass_time(timedelta(hours=1))
    office.tell()
    office.deliver()
    got = office.receiver.received[-1]
    assert not accepts(first, got)
    assert accepts(second, got)
    third = office.events.rotate_secret(endpoint, timedelta(0))
    office.tell()
    office.deliver()
    got = office.receiver.received[-1]
    assert not accepts(second, got), "it had leaked"
    assert accepts(third, got)


def test_a_forced_rotation_ends_the_oldest(office: Office) -> None:
    endpoint, first = office.add("/mine")
    second = office.events.rotate_secret(endpoint)
    third = office.events.rotate_secret(endpoint, force=True)
    office.tell()
    office.deliver()
    got = office.receiver.received[-1]
    assert [accepts(each, got) for each in (first, second, third)] == [False, True, True]


def test_secrets_are_sealed_and_follow_every_rotation_of_keys(office: Office) -> None:
    endpoint, first = office.add("/mine")
    second = office.events.rotate_secret(endpoint)
    before = office.sql("SELECT envelope, data_key_id FROM evergrant.credential_version ORDER BY version")
    assert len(before) == 2
    assert not any(secret.reveal().encode() in row["envelope"] for secret in (first, second) for row in before)
    office.worker.rotate_data_keys(timedelta(0))
    assert office.worker.keys.under_replaced_data_keys() == 0
    after = office.sql("SELECT envelope, data_key_id FROM evergrant.credential_version ORDER BY version")
    assert not any(row in before for row in after)
    audit = office.worker.keys.verify()
    assert (audit.opened, audit.passed) == (2, True)
    office.tell()
    office.deliver()
    got = office.receiver.received[-1]
    assert accepts(first, got)
    assert accepts(second, got)
    office.worker.keys.shred_tenant("default")
    assert office.events.endpoints() == []
    assert office.events.events() == []


def test_a_secret_moved_to_another_endpoint_signs_nothing(office: Office) -> None:
    mine, _ = office.add("/mine")
    office.add("/theirs", "umbra")
    office.sql(
        "UPDATE evergrant.credential_version p SET envelope = o.envelope, data_key_id = o.data_key_id"
        " FROM evergrant.credential_version o WHERE o.credential_id <> p.credential_id AND p.credential_id = %s",
        (mine,),
    )
    event_id = office.tell()
    assert office.deliver() == {"retried": 1}
    assert office.receiver.received == []
    assert office.delivery(event_id, mine)["last_error"] == "cannot_open"


def test_a_secret_is_rotated_by_policy_and_both_sign_for_a_week(office: Office) -> None:
    endpoint, first = office.add("/mine")
    with closing(Vault.from_env(office.environment)) as vault:
        assert vault.describe_credential(endpoint).rotator == "webhook"
        office.sql("UPDATE evergrant.credential SET rotate_at = now()")
        assert office.worker.rotate_credentials() > 0
        second = vault.credential(endpoint).value
        shown = office.events.endpoint(endpoint)
        assert shown.former_until is not None
        office.deliver()
        [got] = office.receiver.received
        assert (accepts(first, got), accepts(second, got)) == (True, True)
        told = json.loads(got.body)
        assert (told["type"], told["data"]["credential_id"]) == ("credential.rotated", str(endpoint))
        office.pass_time(6 * DAY)
        office.tell()
        office.deliver()
        got = office.receiver.received[-1]
        assert accepts(first, got)
        vault.verify_webhook(endpoint, got.headers, got.body)
        office.pass_time(DAY)
        office.tell()
        office.deliver()
        got = office.receiver.received[-1]
        assert (accepts(first, got), accepts(second, got)) == (False, True)
        assert office.events.endpoint(endpoint).former_until is None


def test_without_its_secret_nothing_is_sent(office: Office) -> None:
    endpoint, _ = office.add("/mine")
    with closing(Vault.from_env(office.environment)) as vault:
        vault.delete_credentials(endpoint)
        event_id = office.tell()
        assert office.deliver() == {"retried": 1}
        assert office.delivery(event_id, endpoint)["last_error"] == "no_secret"
        vault.undelete_credential(endpoint)
        office.pass_time(DAY)
        assert office.deliver() == {"delivered": 1}


def test_a_removed_endpoints_secret_is_destroyed(office: Office) -> None:
    endpoint, _ = office.add("/mine")
    office.events.rotate_secret(endpoint)
    office.events.remove(endpoint)
    assert not office.sql("SELECT 1 FROM evergrant.credential_version WHERE envelope IS NOT NULL")
    with closing(Vault.from_env(office.environment)) as vault, pytest.raises(UnknownCredential):
        vault.credential(endpoint)


def test_while_the_kms_is_away_no_attempt_is_lost(office: Office, tmp_path: Path) -> None:
    endpoint, _ = office.add("/mine")
    event_id = office.tell()
    (tmp_path / "keyring.json").rename(tmp_path / "hidden.json")
    fresh = Maintenance.from_env(office.environment)
    assert fresh.deliver().outcomes == {"unsent": 1}
    assert office.delivery(event_id, endpoint)["attempt"] == 0
    (tmp_path / "hidden.json").rename(tmp_path / "keyring.json")
    office.pass_time(timedelta(minutes=2))
    assert office.deliver() == {"delivered": 1}
    fresh.close()


# ----------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "url",
    [
        "http://app.example/hook",
        "http://127.0.0.1.nip.example/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https://user:pw@app.example/",
        "https:///path",
        "https://app.example:99999/",
        "https://[::1/",
        "https://app.example/#part",
        "https://app.example/\r\nHost: other",
        "https://app.example/ x",
        "https://exämple/",
        "https://app.example\\@evil.example/",
        "//app.example/",
        "",
        "https://app.example/" + "x" * 2048,
    ],
)
def test_a_hostile_address_is_refused(office: Office, url: str) -> None:
    with pytest.raises(ConfigurationError):
        office.events.add_endpoint("default", url)
    assert office.events.endpoints() == []


def test_an_address_that_stood_there_before_is_refused_at_the_door_too(office: Office) -> None:
    """Whoever can write to the database cannot have deliveries leave unencrypted."""
    endpoint, _ = office.add("/mine")
    for url in (office.receiver.url("/mine").replace("127.0.0.1", "localhost"), "file:///etc/hostname"):
        office.sql("UPDATE evergrant.endpoint SET url = %s", (url,))
        event_id = office.tell()
        assert office.deliver() == {"retried": 1}
        assert office.delivery(event_id, endpoint)["last_error"] == "refused_uri"
    assert office.receiver.received == []


def test_a_type_nobody_knows_is_refused(office: Office) -> None:
    with pytest.raises(ConfigurationError, match=r"there are: .*connection\.recovered"):
        office.add("/mine", "default", "connection.imploded")


# ------------------------------------------------------------------------------------------------- operators' commands


def test_a_ping_tells_whether_an_endpoint_works(office: Office) -> None:
    endpoint, secret = office.add("/mine")
    other, _ = office.add("/other")
    assert office.events.test(endpoint).state == "delivered"
    [got] = office.receiver.received
    assert (got.path, json.loads(got.body)["type"], accepts(secret, got)) == ("/mine", "ping", True)
    office.receiver.answers["/other"] = status(401)
    office.events.disable(other)
    tried = office.events.test(other)
    assert (tried.state, tried.last_status, tried.last_error) == ("failed", 401, "http_401")
    assert office.deliver() == {}, "who tries waits for the answer"


def test_what_is_unknown_is_said(office: Office) -> None:
    for act in (office.events.enable, office.events.disable, office.events.remove, office.events.test,
                office.events.rotate_secret, office.events.endpoint):  # fmt: skip
        for given in (uuid4(), "nonsense"):
            with pytest.raises(UnknownEndpoint):
                act(given)
    for given in (uuid4(), "nonsense"):
        with pytest.raises(UnknownEvent):
            office.events.replay(given)
    event_id = office.tell()
    other, _ = office.add("/other", "umbra")
    with pytest.raises(UnknownEndpoint):
        office.events.replay(event_id, other)


def test_events_are_listed_newest_first_page_by_page(office: Office) -> None:
    ids = [office.tell() for _ in range(5)]
    office.tell(tenant="umbra")
    office.tell(kind=EventType.RECOVERED)
    asked = {"tenant": "default", "type": "connection.quarantined", "limit": 2}
    found: list[UUID] = []
    while page := office.events.events(**asked, before=found[-1] if found else None):  # type: ignore[arg-type]
        found += [each.id for each in page]
    assert found == ids[::-1]


def test_a_removed_endpoint_takes_its_deliveries_with_it(office: Office) -> None:
    endpoint, _ = office.add("/mine")
    office.tell()
    office.events.remove(endpoint)
    assert office.deliver() == {}
    assert office.receiver.received == []


def test_cleanup_removes_what_is_old_and_on_nobodys_way(office: Office) -> None:
    office.add("/mine")
    office.add("/down", "umbra")
    office.receiver.answers["/down"] = status(500)
    old, waiting = office.tell(), office.tell(tenant="umbra")
    office.deliver()
    office.pass_time(30 * DAY)
    new = office.tell()
    assert office.worker.cleanup(dry_run=True)["events"] == 1
    assert {each.id for each in office.events.events()} == {old, waiting, new}
    assert office.worker.cleanup()["events"] == 1
    assert {each.id for each in office.events.events()} == {waiting, new}
    assert office.worker.cleanup()["events"] == 0


# ---------------------------------------------------------------------------------------------------- log, hook, health


def test_each_event_is_one_line_in_the_log_without_values(office: Office) -> None:
    event_id = office.tell(reason="a word", owner="olga")
    with capture_logs() as logs:
        office.deliver()
    said = [line for line in logs if line["event"] == "event"]
    assert said == [
        {
            "event": "event",
            "id": str(event_id),
            "type": "connection.quarantined",
            "tenant": "default",
            "subject": None,
            "log_level": "info",
        }
    ]


def test_a_hook_is_called_for_events_of_all_tenants_and_again_when_it_fails(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Event] = []

    def hook(event: Event) -> None:
        called.append(event)
        if len(called) == 1:
            raise ValueError("with something that nobody should see")

    monkeypatch.setattr("vault.wiring.installed", lambda: {"ours": hook})
    with closing(Maintenance.from_env(office.environment)) as worker:
        worker.deliver()
        first, second = office.tell(tenant="umbra"), office.tell()
        with capture_logs() as logs:
            assert worker.deliver().outcomes == {"retried": 1, "delivered": 1}
        assert "nobody should see" not in str(logs)
        [endpoint] = worker.events.endpoints("*")
        assert (endpoint.kind, endpoint.url) == ("hook", "ours")
        assert office.delivery(first, endpoint.id)["last_error"] == "ValueError"
        office.pass_time(6 * SECOND)
        assert worker.deliver().outcomes == {"delivered": 1}
    assert [each.id for each in called] == [first, second, first]
    assert called[0].body == called[2].body
    assert office.deliver() == {}, "a process without the hook leaves its deliveries alone"


def test_health_says_when_events_wait_too_long(office: Office) -> None:
    office.add("/mine")
    office.tell()
    assert office.worker.health_check().parts["events"] == "ok"
    office.pass_time(timedelta(minutes=3))
    assert "have waited for" in office.worker.health_check().parts["events"]
    office.deliver()
    assert office.worker.health_check().parts["events"] == "ok"
