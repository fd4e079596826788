"""The rotation modes as a pure state machine."""

from __future__ import annotations

import itertools

import pytest

from tests.simulator.grants import Family, Outcome, Pair, RotationMode, RotationProfile

T0 = 1_000.0


class Owner:
    """Holds a family and hands it fresh tokens called a1, r1, a2, r2, …"""

    def __init__(self, mode: RotationMode, **profile: float | bool | None) -> None:
        self._numbers = itertools.count(1)
        self.family = Family("f", "alice", RotationProfile(mode, **profile), T0)  # type: ignore[arg-type]
        self.family.start(self._fresh(), T0)

    def _fresh(self) -> Pair:
        number = next(self._numbers)
        return Pair(f"a{number}", f"r{number}")

    def present(self, refresh_token: str, at: float = T0 + 1) -> Outcome:
        return self.family.present(refresh_token, at, self._fresh())

    def accepted(self, at: float = T0 + 1) -> set[str]:
        return set(self.family.accepted(at))


def test_strict_accepts_only_the_newest_token() -> None:
    owner = Owner("strict")
    assert owner.accepted() == {"r1"}
    assert owner.present("r1") == Outcome("spent", Pair("a2", "r2"))
    assert owner.accepted() == {"r2"}


def test_strict_replay_kills_the_family_and_its_access_tokens() -> None:
    owner = Owner("strict")
    owner.present("r1")
    assert owner.present("r1", T0 + 2) == Outcome("refused", None, "reuse", family_revoked=True)
    assert owner.accepted(T0 + 2) == set()
    assert owner.present("r2", T0 + 3).reason == "revoked"
    assert owner.family.access_token_live("a2", T0 + 1.5)
    assert not owner.family.access_token_live("a2", T0 + 2)


def test_strict_replay_may_be_merely_refused() -> None:
    owner = Owner("strict", reuse_revokes_family=False)
    owner.present("r1")
    assert owner.present("r1") == Outcome("refused", None, "reuse", family_revoked=False)
    assert owner.accepted() == {"r2"}


def test_grace_gives_a_fresh_pair_inside_the_window_and_keeps_the_sibling() -> None:
    owner = Owner("grace", replay_window=30.0)
    owner.present("r1", T0)
    assert owner.present("r1", T0 + 29.9) == Outcome("replayed", Pair("a3", "r3"))
    assert owner.accepted(T0 + 29.9) == {"r1", "r2", "r3"}
    assert owner.present("r2", T0 + 29.95).verdict == "spent"


def test_grace_counts_from_the_first_use() -> None:
    owner = Owner("grace", replay_window=30.0)
    owner.present("r1", T0)
    owner.present("r1", T0 + 20)
    assert owner.present("r1", T0 + 30) == Outcome("refused", None, "reuse", family_revoked=True)
    assert owner.accepted(T0 + 30) == set()


def test_grace_of_nothing_is_strict() -> None:
    owner = Owner("grace", replay_window=0.0)
    owner.present("r1", T0)
    assert owner.present("r1", T0).reason == "reuse"


def test_idempotent_repeats_the_same_pair_until_it_is_used() -> None:
    owner = Owner("idempotent")
    first = owner.present("r1").pair
    assert owner.present("r1") == Outcome("replayed", first)
    assert owner.accepted() == {"r1", "r2"}
    assert owner.present("r2").verdict == "spent"
    assert owner.accepted() == {"r2", "r4"}
    assert owner.present("r1") == Outcome("refused", None, "reuse", family_revoked=True)


def test_previous_works_until_its_successor_is_used() -> None:
    owner = Owner("previous_until_successor_used")
    owner.present("r1")
    assert owner.accepted() == {"r1", "r2"}
    owner.present("r2")
    assert owner.accepted() == {"r2", "r3"}
    assert owner.present("r1").reason == "reuse"


def test_previous_presented_again_replaces_the_unused_successor() -> None:
    owner = Owner("previous_until_successor_used")
    owner.present("r1")
    assert owner.present("r1") == Outcome("replayed", Pair("a3", "r3"))
    assert owner.accepted() == {"r1", "r3"}
    assert owner.present("r2") == Outcome("refused", None, "superseded")
    assert owner.accepted() == {"r1", "r3"}


@pytest.mark.parametrize("returns_same", [False, True])
def test_non_rotating_tokens_are_never_spent(returns_same: bool) -> None:
    owner = Owner("non_rotating", returns_same=returns_same)
    expected = "r1" if returns_same else None
    assert owner.present("r1") == Outcome("used", Pair("a2", expected))
    assert owner.present("r1") == Outcome("used", Pair("a3", expected))
    assert owner.accepted() == {"r1"}


def test_an_unknown_token_changes_nothing() -> None:
    owner = Owner("strict")
    assert owner.present("nobody") == Outcome("refused", None, "unknown")
    assert owner.accepted() == {"r1"}


def test_sliding_life_starts_anew_at_each_rotation() -> None:
    owner = Owner("strict", refresh_token_life=100.0)
    assert owner.accepted(T0 + 99) == {"r1"}
    assert owner.accepted(T0 + 100) == set()
    owner.present("r1", T0 + 90)
    assert owner.accepted(T0 + 189) == {"r2"}
    assert owner.present("r2", T0 + 190).reason == "expired"


def test_sliding_life_of_a_token_that_does_not_rotate_is_extended_by_use() -> None:
    owner = Owner("non_rotating", refresh_token_life=100.0)
    owner.present("r1", T0 + 90)
    assert owner.accepted(T0 + 189) == {"r1"}
    assert owner.accepted(T0 + 190) == set()


def test_absolute_life_is_not_extended_by_anything() -> None:
    owner = Owner("strict", refresh_token_life=100.0, absolute_life=150.0)
    owner.present("r1", T0 + 90)
    assert owner.accepted(T0 + 149) == {"r2"}
    assert owner.present("r2", T0 + 150).reason == "expired"


def test_access_tokens_live_for_their_life() -> None:
    owner = Owner("strict", access_token_life=60.0)
    assert not owner.family.access_token_live("a1", T0 - 1)
    assert owner.family.access_token_live("a1", T0 + 59.9)
    assert not owner.family.access_token_live("a1", T0 + 60)


def test_refreshing_leaves_the_old_access_token_alone_by_default() -> None:
    owner = Owner("strict")
    owner.present("r1")
    assert owner.family.access_token_live("a1", T0 + 1)


def test_refreshing_may_kill_the_old_access_token() -> None:
    owner = Owner("strict", refresh_kills_access_token=True)
    owner.present("r1", T0 + 1)
    assert not owner.family.access_token_live("a1", T0 + 1)
    assert owner.family.access_token_live("a2", T0 + 1)
    owner.present("r2", T0 + 2)
    assert not owner.family.access_token_live("a2", T0 + 2)


def test_successors_and_parents_are_remembered() -> None:
    owner = Owner("grace")
    owner.present("r1", T0)
    owner.present("r1", T0 + 1)
    tokens = owner.family.refresh_tokens
    assert tokens["r1"].successors == ["r2", "r3"]
    assert tokens["r3"].parent == "r1"
    assert tokens["r1"].times_presented == 2


def test_a_clone_goes_its_own_way() -> None:
    owner = Owner("strict")
    other = owner.family.clone()
    owner.present("r1")
    assert other.accepted(T0 + 1) == {"r1"}
