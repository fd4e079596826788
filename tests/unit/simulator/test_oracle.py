"""The oracle: what it knows from the journal alone, and that it notices when the journal cannot be true."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import pytest

from tests.simulator import Oracle, Simulator
from tests.simulator.oracle import Contradiction

from .conftest import Rig


def test_the_journal_alone_tells_the_whole_story(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with Simulator({"acme": {"rotation": {"mode": "grace", "replay_window": 30}}}, log) as simulator:
        rig = Rig(simulator)
        first = rig.grant("alice")
        second, third = rig.rotate(first), rig.rotate(first)
        simulator.add_fault("acme", "drop_after", next=1)
        with pytest.raises(http.client.RemoteDisconnected):
            rig.refresh(third)
        rig.grant("bob")
        simulator.kill_account("acme", "bob")

    oracle = Oracle(log)
    assert oracle.accounts() == ["alice", "bob"]
    assert oracle.issued(second) == ("acme", "alice", oracle.issued(first).family)
    assert oracle.successors(first) == [second, third]
    assert (oracle.parent(first), oracle.parent(third)) == (None, first)
    assert list(oracle.lineage("alice")) == [first, second, third, *oracle.successors(third)]
    assert oracle.presented() == {first: 2, third: 1}
    assert oracle.sent_log(first) == sorted(oracle.sent_log(first))
    assert len(oracle.answers("alice")) == 4
    [lost] = oracle.answers_lost()
    assert (lost.presented, lost.event, lost.fault) == (third, "spent", "drop_after")
    assert oracle.alive("alice")
    assert not oracle.alive("bob")
    with pytest.raises(KeyError):
        oracle.issued("cnry-rt-nobody")


def test_a_later_instant_changes_what_is_accepted(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with Simulator({"acme": {"rotation": {"mode": "grace", "refresh_token_life": 100}}}, log) as simulator:
        rig = Rig(simulator)
        first = rig.grant()
        answer = rig.refresh(first).json()
    oracle = Oracle(log)
    at = oracle.last_at()
    assert oracle.current_refresh_tokens("alice", at=at + 1) == {first, answer["refresh_token"]}
    assert oracle.current_refresh_tokens("alice", at=at + 31) == {answer["refresh_token"]}
    assert not oracle.alive("alice", at=at + 101)
    assert oracle.access_token_live(answer["access_token"], at + 3500)
    assert not oracle.access_token_live(answer["access_token"], at + 3601)
    assert not oracle.access_token_live(answer["access_token"], at - 3601)


def test_a_live_oracle_reads_on(rig: Rig) -> None:
    first = rig.grant()
    assert rig.oracle.alive("alice")
    second = rig.rotate(first)
    assert rig.oracle.current_refresh_tokens("alice") == {second}
    assert rig.oracle.count("spent") == 1


def test_accounts_of_the_same_name_at_two_providers_are_kept_apart(rig: Rig) -> None:
    first = rig.grant()
    [answer] = rig.simulator.grant("other", "alice")
    assert rig.oracle.current_refresh_tokens("alice", "acme") == {first}
    assert rig.oracle.current_refresh_tokens("alice", "other") == {answer["refresh_token"]}
    rig.simulator.kill_account("acme", "alice")
    assert rig.oracle.alive("alice", "other")
    assert not rig.oracle.alive("alice", "acme")


def test_the_event_is_written_before_the_answer_is_sent(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with Simulator({"acme": {}}, log) as simulator:
        rig = Rig(simulator)
        token = rig.grant()
        for _ in range(50):
            token = rig.rotate(token)
            assert token in log.read_text()


def test_every_line_has_what_it_needs(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with Simulator({"acme": {}}, log) as simulator:
        rig = Rig(simulator)
        rig.rotate(rig.grant('Ålice "the" \\ first'))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["id"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(line.keys() >= {"ts", "mono", "event", "provider"} for line in lines)
    spent = lines[-1]
    assert spent["event"] == "spent"
    assert spent["account"] == 'Ålice "the" \\ first'
    assert spent.keys() >= {"request", "family", "presented", "refresh_token", "access_token", "delivered", "fault"}


def test_a_journal_that_breaks_its_rotation_mode_is_a_contradiction(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with Simulator({"acme": {}}, log) as simulator:
        rig = Rig(simulator)
        rig.rotate(rig.grant())
    spent = json.loads(log.read_text().splitlines()[-1])
    spent |= {"id": spent["id"] + 1, "event": "replayed", "refresh_token": "cnry-rt-x", "access_token": "cnry-at-x"}
    with log.open("a") as file:
        file.write(json.dumps(spent) + "\n")
    with pytest.raises(Contradiction):
        Oracle(log).alive("alice")


def test_half_a_line_is_left_for_later(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with Simulator({"acme": {}}, log) as simulator:
        Rig(simulator).grant()
    text = log.read_text()
    log.write_text(text[:-20])
    oracle = Oracle(log)
    assert not oracle.alive("alice")
    with log.open("a") as file:
        file.write(text[-20:])
    assert oracle.alive("alice")
