"""Each rotation mode over a real socket, with the oracle agreeing."""

from __future__ import annotations

from .conftest import Rig


def test_strict_replay_ends_the_family(rig: Rig) -> None:
    first = rig.grant()
    second = rig.rotate(first)
    assert rig.oracle.current_refresh_tokens("alice") == {second}
    assert rig.refused(first)
    assert rig.refused(second)
    assert not rig.oracle.alive("alice")
    assert rig.oracle.death("alice") == ["reuse"]


def test_one_death_leaves_other_accounts_alone(rig: Rig) -> None:
    first, other = rig.grant("alice"), rig.grant("bob")
    rig.rotate(first)
    rig.refused(first)
    assert rig.oracle.alive("bob")
    rig.rotate(other)


def test_grace_ends_with_its_window(rig: Rig) -> None:
    rig.configure(rotation={"mode": "grace", "replay_window": 30})
    first = rig.grant()
    second, third = rig.rotate(first), rig.rotate(first)
    assert rig.oracle.current_refresh_tokens("alice") == {first, second, third}
    rig.simulator.advance(31)
    assert rig.oracle.current_refresh_tokens("alice") == {second, third}
    assert rig.refused(first)
    assert rig.oracle.current_refresh_tokens("alice") == frozenset()


def test_idempotent_replay_repeats_the_answer(rig: Rig) -> None:
    rig.configure(rotation={"mode": "idempotent"})
    first = rig.grant()
    once, again = rig.refresh(first).json(), rig.refresh(first).json()
    assert (once["access_token"], once["refresh_token"]) == (again["access_token"], again["refresh_token"])
    rig.rotate(once["refresh_token"])
    assert rig.refused(first)


def test_a_repeated_answer_tells_the_life_that_is_left(rig: Rig) -> None:
    rig.configure(rotation={"mode": "idempotent", "access_token_life": 3600})
    first = rig.grant()
    assert rig.refresh(first).json()["expires_in"] == 3600
    rig.simulator.advance(600)
    assert 2990 <= rig.refresh(first).json()["expires_in"] <= 3000


def test_previous_until_successor_used(rig: Rig) -> None:
    rig.configure(rotation={"mode": "previous_until_successor_used"})
    first = rig.grant()
    lost = rig.rotate(first)
    second = rig.rotate(first)
    assert rig.refused(lost)
    rig.rotate(second)
    assert rig.refused(first)


def test_non_rotating_answers_without_a_refresh_token(rig: Rig) -> None:
    rig.configure(rotation={"mode": "non_rotating"})
    first = rig.grant()
    assert "refresh_token" not in rig.refresh(first).json()
    rig.configure(rotation={"returns_same": True})
    assert rig.rotate(first) == first
    assert rig.oracle.current_refresh_tokens("alice") == {first}


def test_a_changed_mode_holds_for_grants_that_exist(rig: Rig) -> None:
    first = rig.grant()
    rig.rotate(first)
    assert not rig.oracle.accepts(first)
    rig.configure(rotation={"mode": "grace"})
    assert rig.oracle.accepts(first)
    rig.rotate(first)


def test_expired_refresh_tokens_are_refused(rig: Rig) -> None:
    rig.configure(rotation={"refresh_token_life": 100})
    first = rig.grant()
    rig.simulator.advance(101)
    assert not rig.oracle.alive("alice")
    assert rig.refused(first)


def test_a_kill_is_learned_at_the_next_refresh(rig: Rig) -> None:
    first = rig.grant()
    assert rig.simulator.kill_account("acme", "alice") == 1
    assert rig.refused(first)
    assert rig.oracle.death("alice") == ["consent withdrawn"]


def test_tokens_carry_the_canary_and_the_size_asked_for(rig: Rig) -> None:
    rig.configure(token_size=3000)
    answer = rig.refresh(rig.grant()).json()
    assert answer["access_token"].startswith("cnry-at-")
    assert answer["refresh_token"].startswith("cnry-rt-")
    assert len(answer["refresh_token"]) == len("cnry-rt-") + 3000


def test_an_unknown_refresh_token_is_an_invalid_grant(rig: Rig) -> None:
    assert rig.refused('made up "by" nobody')
    assert rig.oracle.times_presented('made up "by" nobody') == 1
