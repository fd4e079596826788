"""Asking issuers: how often, for how long their word counts, and what becomes of a token while they are away."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.fake_keys import Clock
from vault.errors import ConfigurationError, TokenRefused, ValidationUnavailable
from vault.limits.gate import ProviderGate
from vault.provider import Client, Provider
from vault.secret import Secret
from vault.services.introspecting import LONGEST_TRUST, Introspecting
from vault.validation.outcome import Active, Inactive, Introspected, Unanswered

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DOWN = Unanswered("timeout")


class Registry:
    """``Providers`` with one provider, whose secret may be rolled."""

    def __init__(self) -> None:
        self.provider = Provider(
            "acme", "", "", issuer="https://acme.example", introspect_uri="https://acme.example/introspect",
            client=Client("ours", Secret("new"), Secret("old")),
        )  # fmt: skip
        self.other = True

    def get(self, name: str) -> Provider:
        return self.provider

    def all(self) -> Sequence[Provider]:
        return [self.provider]

    def look(self, *, at_once: bool = False) -> None: ...

    def refused(self, provider: Provider) -> bool:
        if self.other and provider.client is not None:
            self.provider = replace(provider, client=Client("ours", Secret("old")))
        other, self.other = self.other, False
        return other


class Desk:
    """Somebody who asks, with a clock in the hand of the test; ``says`` is the issuer."""

    def __init__(self, share: float = 0.0, capacity: int = 100, phase: float = 0.0) -> None:
        self.clock, self.registry = Clock(), Registry()
        self.says: Callable[[str], Introspected] = lambda _: self.good()
        self.asked: list[str] = []
        self.shown: list[str] = []
        self.asking = Introspecting(
            self.registry, self, ProviderGate(self.clock), share=share, capacity=capacity, monotonic=self.clock,
            clock=self.now, random=os.urandom, phase=lambda: phase,
        )  # fmt: skip

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.clock())

    def good(
        self, life: timedelta | None = HOUR, not_before: timedelta | None = None, issuer: str | None = None
    ) -> Active:
        ends = None if life is None else self.now() + life
        begins = None if not_before is None else self.now() + not_before
        return Active("olga", ("read",), ends, begins, "app", ("music",), issuer)

    def ask(self, provider: Provider, token: Secret) -> Introspected:
        """The port."""
        assert provider.client is not None
        assert provider.client.client_secret is not None
        self.asked.append(token.reveal())
        self.shown.append(provider.client.client_secret.reveal())
        return self.says(token.reveal())

    def look(self, token: str = "t", tenant: str = "default") -> str:
        """``asked``, ``cached``, or why it is refused; nothing that is not known is taken for a refusal."""
        try:
            return "cached" if self.asking.ask(tenant, "acme", Secret(token))[1] else "asked"
        except TokenRefused as refusal:
            return refusal.reason
        except ValidationUnavailable as unknown:
            return f"? {unknown.reason}"


@pytest.mark.parametrize(("share", "asked"), [(0.0, 1), (0.1, 101), (0.25, 251), (1 / 3, 334), (1.0, 1001)])
def test_of_many_looks_at_a_good_token_the_share_asks_again_exactly(share: float, asked: int) -> None:
    desk = Desk(share)
    for _ in range(1001):
        desk.look()
    assert len(desk.asked) == pytest.approx(asked, abs=1)


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.999])
def test_the_share_holds_for_each_token_however_looks_at_them_come_in_turn(phase: float) -> None:
    """Were one sequence shared by all, two tokens by turns and a half would ask about one of them always."""
    desk = Desk(0.5, phase=phase)
    for _ in range(100):
        desk.look("a"), desk.look("b")
    assert [desk.asked.count(token) for token in "ab"] == [pytest.approx(51, abs=1)] * 2


def test_a_good_token_is_remembered_until_its_end_and_not_beyond() -> None:
    desk = Desk()
    ends = desk.now() + HOUR
    desk.says = lambda _: Active(None, (), ends, None, None, (), None)
    assert [desk.look(), desk.look()] == ["asked", "cached"]
    desk.clock.pass_by(HOUR - SECOND)
    assert desk.look() == "cached"
    desk.clock.pass_by(SECOND)
    desk.says = lambda _: DOWN
    assert desk.look() == "? timeout", "its end is known, and so it serves no longer while nobody can be asked"


def test_a_good_token_without_an_end_is_remembered_for_a_minute() -> None:
    desk = Desk()
    desk.says = lambda _: desk.good(life=None)
    assert [desk.look(), desk.look()] == ["asked", "cached"]
    desk.clock.pass_by(MINUTE)
    assert desk.look() == "asked"


def test_a_token_that_is_not_good_is_not_asked_about_for_ten_seconds() -> None:
    desk = Desk()
    desk.says = lambda _: Inactive()
    assert [desk.look() for _ in range(3)] == ["inactive"] * 3
    assert len(desk.asked) == 1
    desk.clock.pass_by(10 * SECOND)
    desk.says = lambda _: desk.good()
    assert desk.look() == "asked"


def test_a_sampled_look_that_finds_it_revoked_ends_it_at_once() -> None:
    desk = Desk(0.2)
    assert desk.look() == "asked"
    desk.says = lambda _: Inactive()
    assert [desk.look() for _ in range(6)] == ["cached"] * 4 + ["inactive"] * 2


def test_a_token_that_is_seldom_looked_at_is_asked_about_again_after_five_minutes() -> None:
    desk = Desk(share=0.01)
    assert desk.look() == "asked"
    desk.clock.pass_by(LONGEST_TRUST)
    assert desk.look() == "cached"
    desk.clock.pass_by(1)
    desk.says = lambda _: DOWN
    assert [desk.look() for _ in range(3)] == ["cached"] * 3
    assert len(desk.asked) == 2, "not every look waits for an issuer that is away"
    desk.clock.pass_by(LONGEST_TRUST + SECOND)
    desk.says = lambda _: Inactive()
    assert desk.look() == "inactive"


def test_without_a_share_a_good_token_is_not_asked_about_again_whatever_its_age() -> None:
    desk = Desk(share=0)
    desk.look()
    desk.clock.pass_by(LONGEST_TRUST * 2)
    assert desk.look() == "cached"


def test_while_the_issuer_is_away_its_last_word_counts_and_nothing_is_called_bad() -> None:
    desk = Desk(1.0)
    assert desk.look("known") == "asked"
    desk.says = lambda _: DOWN
    for _ in range(20):
        assert desk.look("known") == "cached"
        assert desk.look("new").startswith("? ")
    assert len(desk.asked) < 10, "and it is left alone for a while"
    desk.clock.pass_by(HOUR)
    assert desk.look("known").startswith("? "), "beyond its end nobody knows"
    desk.says = lambda _: desk.good()
    desk.clock.pass_by(HOUR)
    assert [desk.look("known"), desk.look("new")] == ["asked", "asked"]


@pytest.mark.parametrize("operator", [False, True])
def test_the_caller_learns_when_to_ask_again_and_whether_somebody_must_act(*, operator: bool) -> None:
    desk = Desk()
    desk.says = lambda _: Unanswered("http_429", 7 * SECOND, operator)
    with pytest.raises(ValidationUnavailable) as raised:
        desk.asking.ask("default", "acme", Secret("swordfish"))
    error = raised.value
    assert (error.retry_after, error.transient, error.reason) == (7 * SECOND, not operator, "http_429")
    assert "swordfish" not in str(error)


def test_an_issuer_that_is_left_alone_says_for_how_long() -> None:
    desk = Desk()
    desk.says = lambda _: DOWN
    for n in range(10):
        desk.look(str(n))
    with pytest.raises(ValidationUnavailable) as raised:
        desk.asking.ask("default", "acme", Secret("t"))
    assert raised.value.reason == "resting"
    assert raised.value.retry_after is not None
    assert raised.value.retry_after >= 5 * SECOND
    assert raised.value.transient


def test_strange_tokens_do_not_keep_others_from_being_looked_at() -> None:
    desk = Desk()
    desk.says = lambda token: Unanswered("http_400", operator=True, of_request=True) if token != "t" else desk.good()
    for n in range(20):
        assert desk.look(f"strange {n}") == "? http_400"
    assert desk.look("t") == "asked"


def test_when_our_secret_is_refused_the_other_one_is_shown() -> None:
    desk = Desk()
    refused = Unanswered("client_refused", operator=True, of_client=True)
    desk.says = lambda _: refused if desk.shown[-1] == "new" else desk.good()
    assert desk.look() == "asked"
    assert desk.shown == ["new", "old"]
    desk.says = lambda _: refused
    assert desk.look("another") == "? client_refused"


@pytest.mark.parametrize(
    ("life", "not_before", "issuer", "found"),
    [
        (-29 * SECOND, None, None, "asked"), (-30 * SECOND, None, None, "expired"), (-HOUR, None, None, "expired"),
        (HOUR, 30 * SECOND, None, "asked"), (HOUR, 31 * SECOND, None, "not_yet"),
        (HOUR, None, "https://acme.example", "asked"), (HOUR, None, "https://other.example", "other_issuer"),
    ],
)  # fmt: skip
def test_dates_and_issuer_of_what_is_called_good_must_agree_give_or_take_half_a_minute(
    life: timedelta, not_before: timedelta | None, issuer: str | None, found: str
) -> None:
    desk = Desk()
    desk.says = lambda _: desk.good(life, not_before, issuer)
    assert desk.look() == found
    if life < timedelta(0):
        assert desk.look() == found, "and what is over by our clock is not remembered"
        assert len(desk.asked) == 2


def test_what_is_remembered_is_bounded_and_bad_tokens_do_not_drive_out_good_ones() -> None:
    desk = Desk(capacity=10)
    assert desk.look("good") == "asked"
    desk.says = lambda _: Inactive()
    for n in range(100):
        assert desk.look(str(n)) == "inactive"
    good, bad = desk.asking.remembered()
    assert (good, bad) == (1, 10)
    assert desk.look("good") == "cached"
    desk.says = lambda _: desk.good()
    for n in range(1000, 1100):
        desk.look(str(n))
    assert desk.asking.remembered()[0] == 10


def test_many_requests_with_one_token_ask_once() -> None:
    desk, there = Desk(), threading.Barrier(8)

    def slowly(_: str) -> Introspected:
        threading.Event().wait(0.05)
        return desk.good()

    def look(_: int) -> str:
        there.wait()
        return desk.look()

    desk.says = slowly
    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(look, range(8))) == ["asked", *["cached"] * 7]


def test_one_slow_token_does_not_hold_up_another() -> None:
    desk, done = Desk(), threading.Event()

    def says(token: str) -> Introspected:
        assert token == "quick" or done.wait(10)
        return desk.good()

    desk.says = says
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(desk.look, "slow")
        assert desk.look("quick") == "asked"
        done.set()
        assert slow.result() == "asked"


def test_what_one_tenant_asked_is_not_known_to_another() -> None:
    desk = Desk()
    assert [desk.look(tenant="a"), desk.look(tenant="b"), desk.look(tenant="a")] == ["asked", "asked", "cached"]


@pytest.mark.parametrize(("change", "said"), [({"introspect_uri": None}, "introspect_uri"), ({"client": None}, "_ID")])
def test_what_an_operator_must_set_first_is_named(change: dict[str, None], said: str) -> None:
    desk = Desk()
    desk.registry.provider = replace(desk.registry.provider, **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=said):
        desk.look()


def test_a_registration_that_cannot_be_opened_now_says_nothing_of_the_token() -> None:
    desk = Desk()
    desk.registry.provider = replace(desk.registry.provider, client=None, locked=frozenset({"ours"}))
    assert desk.look() == "? registration_locked"
