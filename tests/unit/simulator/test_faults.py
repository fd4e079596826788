"""Each fault over a real socket: what the client sees, and whether the grant has moved."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.simulator import Simulator

from .conftest import Rig


def _strike(rig: Rig, kind: str, **members: Any) -> None:
    rig.simulator.add_fault("acme", kind, next=1, **members)


def _moved(rig: Rig, refresh_token: str) -> bool:
    """Whether the provider has spent the refresh token."""
    return rig.oracle.successors(refresh_token) != []


@pytest.mark.parametrize(("kind", "moves"), [("drop_before", False), ("drop_after", True)])
def test_drop_closes_without_a_byte(rig: Rig, kind: str, moves: bool) -> None:
    first = rig.grant()
    _strike(rig, kind)
    with pytest.raises(http.client.RemoteDisconnected):
        rig.refresh(first)
    assert _moved(rig, first) is moves
    assert len(rig.oracle.answers_lost("alice")) == int(moves)
    assert rig.oracle.times_presented(first) == 1


@pytest.mark.parametrize(("kind", "moves"), [("reset_before", False), ("reset_after", True)])
def test_reset_is_a_reset(rig: Rig, kind: str, moves: bool) -> None:
    first = rig.grant()
    _strike(rig, kind)
    with rig.connect() as connection:
        connection.sendall(rig.refresh_request(first))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert _moved(rig, first) is moves


def test_truncated_breaks_off_in_the_body(rig: Rig) -> None:
    first = rig.grant()
    _strike(rig, "truncated")
    with pytest.raises(http.client.IncompleteRead):
        rig.refresh(first)
    assert _moved(rig, first)
    assert [answer.lost_because for answer in rig.oracle.answers_lost()] == ["truncated"]


@pytest.mark.parametrize(("kind", "moves"), [("error_before", False), ("error_after", True)])
def test_server_errors(rig: Rig, kind: str, moves: bool) -> None:
    first = rig.grant()
    _strike(rig, kind, status=502, body="<h1>Bad gateway</h1>")
    answer = rig.refresh(first)
    assert (answer.status, answer.text) == (502, "<h1>Bad gateway</h1>")
    assert _moved(rig, first) is moves
    assert len(rig.oracle.answers_lost()) == int(moves)


def test_an_empty_conflict(rig: Rig) -> None:
    _strike(rig, "error_before", status=409, body="")
    answer = rig.refresh(rig.grant())
    assert (answer.status, answer.text) == (409, "")


@pytest.mark.parametrize("retry_after", [None, 7, "Wed, 21 Oct 2037 07:28:00 GMT"])
def test_rate_limited(rig: Rig, retry_after: int | str | None) -> None:
    first = rig.grant()
    _strike(rig, "rate_limited", retry_after=retry_after)
    answer = rig.refresh(first)
    assert answer.status == 429
    assert answer.headers.get("Retry-After") == (None if retry_after is None else str(retry_after))
    assert not _moved(rig, first)
    assert rig.oracle.count("unprocessed") == 1


@pytest.mark.parametrize(("kind", "moves_at_once"), [("slow", True), ("slow_before", False)])
def test_slow_answers_come_late(rig: Rig, kind: str, moves_at_once: bool) -> None:
    first = rig.grant()
    _strike(rig, kind, delay=0.3)
    began = time.monotonic()
    with rig.connect() as connection:
        connection.sendall(rig.refresh_request(first))
        if moves_at_once:
            _await(lambda: _moved(rig, first))
            assert time.monotonic() - began < 0.3
        else:
            time.sleep(0.05)
            assert not _moved(rig, first)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert time.monotonic() - began >= 0.3
    assert _moved(rig, first)
    assert rig.oracle.answers_lost() == []


@pytest.mark.parametrize("kind", ["slow", "slow_before"])
def test_an_answer_nobody_waited_for_is_lost(rig: Rig, kind: str) -> None:
    first = rig.grant()
    _strike(rig, kind, delay=0.2)
    with pytest.raises(TimeoutError):
        rig.refresh(first, timeout=0.05)
    _await(lambda: rig.oracle.answers_lost() != [])
    assert [answer.lost_because for answer in rig.oracle.answers_lost()] == ["closed by the client"]
    assert _moved(rig, first)


def test_an_answer_the_client_never_read_is_lost(rig: Rig) -> None:
    first = rig.grant()
    with rig.connect() as connection:
        connection.sendall(rig.refresh_request(first))
        _await(lambda: _moved(rig, first))
        connection.recv(1)
    _await(lambda: rig.oracle.answers_lost() != [])
    assert [answer.presented for answer in rig.oracle.answers_lost()] == [first]


def test_an_answer_that_was_read_is_not_lost(rig: Rig) -> None:
    with rig.connect() as connection:
        connection.sendall(rig.refresh_request(rig.grant()))
        assert connection.recv(65536)
    rig.rotate(rig.grant("bob"))
    assert rig.oracle.answers_lost() == []


def test_an_answer_before_the_last_request_is_not_lost_by_a_reset(rig: Rig) -> None:
    head = rig.refresh_request(rig.grant("bob")).partition(b"\r\n\r\n")[0]
    with rig.connect() as connection:
        connection.sendall(rig.refresh_request(rig.grant("alice")))
        assert connection.recv(65536)
        connection.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    rig.rotate(rig.grant("carol"))
    assert rig.oracle.answers_lost() == []


def test_drip_spreads_the_answer(rig: Rig) -> None:
    _strike(rig, "drip", delay=0.3)
    with rig.connect() as connection:
        connection.sendall(rig.refresh_request(rig.grant()))
        began, data, pieces = time.monotonic(), b"", 0
        while not data.endswith(b"}"):
            data += connection.recv(65536)
            pieces += 1
    assert time.monotonic() - began >= 0.25
    assert pieces > 5
    assert "refresh_token" in json.loads(data.partition(b"\r\n\r\n")[2])


def test_malformed_json(rig: Rig) -> None:
    first = rig.grant()
    _strike(rig, "malformed")
    answer = rig.refresh(first)
    assert answer.status == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert len(rig.oracle.answers_lost()) == 1


def test_a_page_instead_of_json(rig: Rig) -> None:
    first = rig.grant()
    _strike(rig, "not_json")
    answer = rig.refresh(first)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert _moved(rig, first)


def test_huge_bodies_are_valid(rig: Rig) -> None:
    _strike(rig, "huge", size=3_000_000)
    answer = rig.refresh(rig.grant())
    assert len(answer.text) >= 3_000_000
    assert "refresh_token" in answer.json()
    assert rig.oracle.answers_lost() == []


def test_giving_up_on_a_huge_body_loses_the_answer(rig: Rig) -> None:
    _strike(rig, "huge", size=40_000_000)
    with rig.connect() as connection:
        connection.sendall(rig.refresh_request(rig.grant()))
        connection.recv(1000)
    _await(lambda: len(rig.oracle.answers_lost()) == 1)


def test_redirect_elsewhere(rig: Rig) -> None:
    first = rig.grant()
    _strike(rig, "redirect", location="http://127.0.0.1:1/steal")
    answer = rig.refresh(first)
    assert (answer.status, answer.headers["Location"]) == (302, "http://127.0.0.1:1/steal")
    assert not _moved(rig, first)


@pytest.mark.parametrize(
    ("left_out", "lost"), [(["access_token"], 0), (["expires_in"], 0), (["refresh_token", "scope"], 1)]
)
def test_missing_members(rig: Rig, left_out: list[str], lost: int) -> None:
    _strike(rig, "missing", fields=left_out)
    answer = rig.refresh(rig.grant()).json()
    assert {"access_token", "token_type", "expires_in", "refresh_token", "scope"} - answer.keys() == set(left_out)
    assert len(rig.oracle.answers_lost()) == lost


def test_an_error_dressed_as_success(rig: Rig) -> None:
    first = rig.grant()
    _strike(rig, "error_in_200", error="bad_verification_code")
    answer = rig.refresh(first)
    assert (answer.status, answer.json()) == (200, {"error": "bad_verification_code"})
    assert not _moved(rig, first)


def test_a_queue_of_faults_is_used_up_in_order(rig: Rig) -> None:
    rig.configure(
        faults=[{"kind": "error_before", "status": 500, "next": 2}, {"kind": "error_before", "status": 504, "next": 1}]
    )
    first = rig.grant()
    assert [rig.refresh(first).status for _ in range(4)] == [500, 500, 504, 200]


def test_a_fault_for_one_account_spares_the_others(rig: Rig) -> None:
    rig.simulator.add_fault("acme", "error_before", account="alice")
    assert rig.refresh(rig.grant("alice")).status == 503
    assert rig.refresh(rig.grant("bob")).status == 200


def test_a_fault_for_one_endpoint_spares_the_others(rig: Rig) -> None:
    rig.simulator.add_fault("acme", "error_before", endpoint="api")
    answer = rig.refresh(rig.grant())
    assert answer.status == 200
    assert rig.bearer(answer.json()["access_token"]).status == 503
    rig.simulator.clear_faults("acme")
    assert rig.bearer(answer.json()["access_token"]).status == 200


def test_the_seed_decides_whom_chance_strikes() -> None:
    def run(seed: int) -> list[int]:
        with Simulator({"acme": {"faults": [{"kind": "error_before", "probability": 0.3}]}}, seed=seed) as simulator:
            return [Rig(simulator).post("token", {}).status for _ in range(200)]

    assert run(1) == run(1) != run(2)
    assert 30 <= run(1).count(503) <= 90


def test_outages(rig: Rig) -> None:
    first = rig.grant()
    rig.configure(outage=True)
    assert rig.refresh(first).status == 503
    rig.configure(outage="drop")
    with pytest.raises(http.client.RemoteDisconnected):
        rig.refresh(first)
    rig.configure(outage="hang")
    with pytest.raises(TimeoutError):
        rig.refresh(first, timeout=0.05)
    rig.configure(outage="off")
    assert rig.refresh(first).status == 200
    assert rig.oracle.times_presented(first) == 4


def test_latency_and_jitter(rig: Rig) -> None:
    rig.configure(latency=0.1, jitter=0.05)
    began = time.monotonic()
    rig.rotate(rig.grant())
    assert 0.1 <= time.monotonic() - began < 5


def test_invalid_client_harms_no_grant(rig: Rig) -> None:
    first = rig.grant()
    rig.configure(invalid_client=True)
    answer = rig.refresh(first)
    assert (answer.status, answer.json()["error"]) == (401, "invalid_client")
    rig.configure(invalid_client=False)
    rig.rotate(first)


def test_unknown_faults_are_refused(rig: Rig) -> None:
    with pytest.raises(ValueError, match="no fault is called"):
        rig.simulator.add_fault("acme", "gremlin")
    with pytest.raises(ValueError, match="colour"):
        rig.simulator.add_fault("acme", "slow", colour="red")


def test_a_faulty_refusal_is_no_lost_answer(rig: Rig) -> None:
    _strike(rig, "drop_after")
    with pytest.raises(http.client.RemoteDisconnected):
        rig.refresh("nobody's")
    assert rig.oracle.answers_lost() == []


def _await(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)
