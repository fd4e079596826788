"""The simulator as a server and as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulator import Oracle, Simulator, SimulatorProcess
from tests.simulator.wire import BadRequest, parse_form, parse_head, read_request

from .conftest import Rig


def test_one_connection_serves_many_requests_even_pipelined(rig: Rig) -> None:
    requests = [rig.refresh_request(rig.grant(account)) for account in ("a", "b", "c")]
    with rig.connect() as connection:
        connection.sendall(b"".join(requests))
        data = b""
        while data.count(b"HTTP/1.1 200") < 3 or not data.endswith(b"}"):
            data += connection.recv(65536)
        connection.sendall(rig.refresh_request(rig.grant("d")))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_answers_keep_their_order_behind_a_slow_one(rig: Rig) -> None:
    rig.simulator.add_fault("acme", "slow", delay=0.1, account="slow")
    requests = [rig.refresh_request(rig.grant(account)) for account in ("slow", "quick")]
    with rig.connect() as connection:
        connection.sendall(b"".join(requests))
        data = b""
        while data.count(b"HTTP/1.1 200") < 2 or not data.endswith(b"}"):
            data += connection.recv(65536)
    accounts = [rig.oracle.issued(piece.split('"')[0]).account for piece in data.decode().split('refresh_token":"')[1:]]
    assert accounts == ["slow", "quick"]


def test_a_request_may_arrive_byte_by_byte(rig: Rig) -> None:
    with rig.connect() as connection:
        for byte in rig.refresh_request(rig.grant()):
            connection.sendall(bytes([byte]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_expect_continue_is_answered(rig: Rig) -> None:
    head, body = rig.refresh_request(rig.grant()).split(b"\r\n\r\n")
    with rig.connect() as connection:
        connection.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_nonsense_is_answered_with_400_and_a_close(rig: Rig) -> None:
    with rig.connect() as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")
        assert connection.recv(1) == b""


def test_connection_close_is_honoured(rig: Rig) -> None:
    with rig.connect() as connection:
        connection.sendall(b"GET /acme/api HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")
        assert connection.recv(1) == b""


def test_unknown_places_are_404(rig: Rig) -> None:
    assert rig.get("/nobody/token").status == 404
    assert rig.get("/acme/nothing").status == 404


def test_control_over_plain_http(rig: Rig) -> None:
    assert rig.get("/_control").json()["providers"] == ["acme"]
    assert rig.get("/_control/acme").json()["config"]["rotation"]["mode"] == "strict"
    assert rig.get("/_control/nobody").status == 400
    with pytest.raises(ValueError, match="sideways"):
        rig.configure(rotation={"mode": "sideways"})
    with pytest.raises(ValueError, match="colour"):
        rig.configure(colour="red")


def test_stopping_records_answers_held_back_as_lost(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with Simulator({"acme": {"latency": 60}}, log) as simulator:
        rig = Rig(simulator)
        with pytest.raises(TimeoutError):
            rig.refresh(rig.grant("gone"), timeout=0.05)
        connection = rig.connect()
        connection.sendall(rig.refresh_request(rig.grant("waiting")))
        while len(rig.oracle.answers("waiting")) < 2:
            pass
    connection.close()
    lost = {answer.origin.account: answer.lost_because for answer in Oracle(log).answers_lost()}
    assert lost == {"gone": "closed by the client", "waiting": "server stopped"}


def test_the_module_prints_one_ready_line_and_ends_on_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.simulator", "--port", "0", "--log", str(tmp_path / "log.jsonl")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
    assert process.stdout is not None
    with process.stdout:
        ready = json.loads(process.stdout.readline())
        assert ready["base_uri"].startswith("http://127.0.0.1:")
        assert ready["pid"] == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stdout.read() == b""


def test_a_process_of_its_own_is_steered_and_asked_like_a_thread(tmp_path: Path) -> None:
    with SimulatorProcess(tmp_path / "log.jsonl", {"acme": {"rotation": {"mode": "grace"}}}) as simulator:
        [answer] = simulator.grant("acme", "alice")
        many = simulator.grant_many("acme", 100, prefix="user-")
        assert [one["account"] for one in many] == [f"user-{number}" for number in range(100)]
        oracle = simulator.oracle()
        assert oracle.current_refresh_tokens("alice") == {answer["refresh_token"]}
        simulator.advance(10)
        assert oracle.access_token_live(answer["access_token"])
        simulator.advance(3600)
        assert not oracle.access_token_live(answer["access_token"])
    assert simulator.process.returncode == 0


def test_a_simulator_killed_and_started_again_remembers_every_grant(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    before = SimulatorProcess(log, {"acme": {}})
    answer = before.grant("acme", "alice")[0]
    first = answer["refresh_token"]
    before.grant("acme", "bob")
    before.kill_account("acme", "bob")
    time_of_death = before.advance(5000)
    unexpired = before.grant("acme", "dora")[0]["access_token"]
    before.kill()
    with Simulator({"acme": {}}, log) as after:
        rig = Rig(after)
        assert rig.oracle.alive("alice")
        assert not rig.oracle.alive("bob")
        assert after.now() >= time_of_death
        assert rig.bearer(answer["access_token"]).status == 401
        assert rig.bearer(unexpired).status == 200
        second = rig.rotate(first)
        rig.grant("carol")
        assert rig.refused(first)
        assert rig.refused(second)
        assert rig.oracle.alive("carol")
    numbers = [json.loads(line)["id"] for line in log.read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_forms_are_decoded() -> None:
    assert parse_form("a=1&b=x+y%26z&c=&d") == {"a": "1", "b": "x y&z", "c": "", "d": ""}


def test_heads_are_read() -> None:
    head = parse_head(b"GET http://host:1/acme/api?x=1 HTTP/1.1\r\nHOST: a\r\nContent-Length: 3")
    assert (head.path, head.query, head.content_length, head.keep_alive) == (("acme", "api"), "x=1", 3, True)
    assert not parse_head(b"GET / HTTP/1.0").keep_alive


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nno colon",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked",
        b"GET / HTTP/1.1\r\nContent-Length: -1",
    ],
)
def test_bad_heads_are_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_head(raw)


def test_incomplete_requests_wait() -> None:
    assert read_request(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab") == (None, 0)
    assert read_request(b"POST / HTTP/1.1\r\nCont") == (None, 0)
