"""Figures of validations: handed in now and then, beside those who wait, and never anybody's trouble."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import pytest

from tests.support.fake_keys import Clock
from vault.services.validation import HANDED_IN_EVERY_S, ValidationCounts
from vault.validation.outcome import TokenKind


class Desk:
    """Counts over a store that may be away; what would run apart is run when the test says so."""

    def __init__(self) -> None:
        self.clock, self.figures, self.away = Clock(), Counter[tuple[str, str, str]](), False
        self.apart: list[Callable[[], None]] = []
        self.handed_in = 0
        self.counts = ValidationCounts(self, self.clock, self.apart.append)

    def add_validations(self, counted: Mapping[tuple[str, str, str], int]) -> None:
        """The port."""
        self.handed_in += 1
        if self.away:
            raise ConnectionError
        self.figures.update(counted)

    def count(self, times: int = 1) -> None:
        for _ in range(times):
            self.counts.count("default", TokenKind.SESSION, "valid")

    @property
    def valid(self) -> int:
        return self.figures["default", "session", "valid"]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_many_are_handed_in_at_once_and_apart(desk: Desk) -> None:
    desk.count(1000)
    assert desk.apart == []
    desk.clock.pass_by(HANDED_IN_EVERY_S)
    desk.count(1000)
    [act] = desk.apart
    assert desk.handed_in == 0, "who validates does not wait for it"
    act()
    assert (desk.valid, desk.handed_in) == (2000, 1)


def test_what_cannot_be_handed_in_is_handed_in_later_once(desk: Desk) -> None:
    desk.count(5)
    desk.away = True
    desk.counts.hand_in()
    desk.count(2)
    desk.away = False
    for _ in range(3):
        desk.counts.hand_in()
    assert (desk.valid, desk.handed_in) == (7, 2)


def test_nothing_is_handed_in_when_there_is_nothing(desk: Desk) -> None:
    desk.counts.hand_in()
    assert desk.handed_in == 0
