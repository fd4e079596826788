"""The model's provider and the simulator's mean the same thing by each rotation mode."""

from __future__ import annotations

from itertools import product

import pytest

from tests.model.provider import Mode, is_accepted, present
from tests.model.state import Family, Token
from tests.simulator import grants
from vault.provider import Rotation

WINDOW_S = 30
SECOND = 1_000_000
PAIRS: list[tuple[Mode, grants.RotationMode]] = [
    (Mode(Rotation.NONE), "non_rotating"),
    (Mode(Rotation.IDEMPOTENT), "idempotent"),
    (Mode(Rotation.UNTIL_SUCCESSOR_USED), "previous_until_successor_used"),
    (Mode(Rotation.GRACE, WINDOW_S * SECOND), "grace"),
    (Mode(Rotation.STRICT), "strict"),
]


@pytest.mark.parametrize("penalty", [True, False])
@pytest.mark.parametrize(("mode", "name"), PAIRS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_short_history_of_refreshes_ends_the_same(mode: Mode, name: grants.RotationMode, penalty: bool) -> None:
    """Four requests, each with any of the first three tokens, twenty seconds or nothing between them."""
    mode = mode._replace(penalty=penalty)
    for steps in product(product((0, 1, 2), (0, 20)), repeat=4):
        assert _by_model(mode, steps) == _by_simulator(name, penalty, steps), steps


def _by_model(mode: Mode, steps: tuple[tuple[int, int], ...]) -> list[object]:
    tokens: tuple[Token, ...] = (Token(1, None),)
    families: tuple[Family, ...] = (Family.ALIVE,)
    seen: list[object] = []
    for token, wait in steps:
        tokens = tuple(t._replace(used_at=None if t.used_at is None else t.used_at - wait * SECOND) for t in tokens)
        if token < len(tokens):
            tokens, families, answer = present(mode, tokens, families, token)
            seen.append(answer)
        seen.append([t for t in range(len(tokens)) if is_accepted(mode, tokens, families, t)])
    return seen


def _by_simulator(name: grants.RotationMode, penalty: bool, steps: tuple[tuple[int, int], ...]) -> list[object]:
    profile = grants.RotationProfile(name, WINDOW_S, reuse_revokes_family=penalty, returns_same=True)
    family = grants.Family("family", "account", profile, 0.0)
    family.start(grants.Pair("a", "0"), 0.0)
    now, seen = 0.0, list[object]()
    for token, wait in steps:
        now += wait
        if str(token) in family.refresh_tokens:
            fresh = grants.Pair("a", str(len(family.refresh_tokens)))
            outcome = family.present(str(token), now, fresh)
            seen.append(int(outcome.pair.refresh_token or "") if outcome.pair else None)
        seen.append(sorted(int(value) for value in family.accepted(now)))
    return seen
