"""How long credentials may serve: requirement C3 line by line, who overrides whom, and when somebody is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from vault import ConfigurationError
from vault.credentials.kinds import Kind
from vault.credentials.policies import DEFAULTS, Rule, due, problems, resolve, warnings
from vault.credentials.rules import read_rules

DAY = timedelta(days=1)
NOW = datetime(2026, 3, 1, tzinfo=UTC)

C3 = [
    ("oauth_refresh_token", 90, 14, "manual"),
    ("api_key", 90, 14, "manual"),
    ("basic_auth_password", 90, 14, "manual"),
    ("client_certificate", 365, 30, "manual"),
    ("webhook_secret", 180, 14, "automatic"),
    ("oauth_access_token", None, 0, "automatic"),
]


@pytest.mark.parametrize(("kind", "days", "warn", "how"), C3)
def test_the_built_in_numbers_are_those_that_were_agreed(kind: str, days: int | None, warn: int, how: str) -> None:
    policy = DEFAULTS[Kind(kind)]
    assert policy.max_age == (None if days is None else days * DAY)
    assert (policy.warn, policy.automatic) == (warn * DAY, how == "automatic")
    assert (policy.keep, policy.overlap, policy.recovery) == (10, DAY, 30 * DAY)


def test_every_kind_has_a_policy() -> None:
    assert set(DEFAULTS) == set(Kind)
    assert len(Kind) == 9


RULES = [
    Rule("by kind", "", "", "api_key", {"max_age": 1, "warn": 1, "keep": 1, "overlap": 1}),
    Rule("by provider", "", "acme", "", {"max_age": 2, "warn": 2, "keep": 2}),
    Rule("by tenant", "umbra", "", "", {"max_age": 3, "warn": 3}),
    Rule("by both", "umbra", "acme", "", {"max_age": 4}),
    Rule("of others", "else", "acme", "api_key", {"max_age": 9, "keep": 9}),
]


def test_each_number_comes_from_the_most_special_rule_that_has_it() -> None:
    policy = resolve("umbra", "acme", Kind.API_KEY, reversed(RULES), {"automatic": True})
    assert (policy.max_age, policy.warn, policy.keep, policy.overlap) == (4 * DAY, 3 * DAY, 2, DAY)
    assert policy.sources == {
        "max_age": "by both", "warn": "by tenant", "keep": "by provider", "overlap": "by kind",
        "automatic": "credential", "recovery": "built in", "rotator": "built in",
    }  # fmt: skip
    assert resolve("default", "", Kind.API_KEY, RULES, None).max_age == DAY
    assert resolve("default", "", Kind.CUSTOM, RULES, None) == DEFAULTS[Kind.CUSTOM]._replace(
        sources=dict.fromkeys(policy.sources, "built in")
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"max_ages": 1}, {"max_age": 0}, {"max_age": "30"}, {"max_age": True}, {"max_age": float("nan")}, {"warn": -1},
        {"automatic": 1}, {"keep": 0}, {"keep": 1.5}, {"keep": None}, {"recovery": 1e9}, {"overlap": None},
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_are_named(changes: dict[str, Any]) -> None:
    [problem] = problems(changes)
    assert problem.startswith(f"{next(iter(changes))}: ")


def test_numbers_that_can_be_are_none() -> None:
    assert problems({"max_age": None, "warn": 0, "automatic": False, "keep": 1, "recovery": 0, "overlap": 0.5}) == []


# ------------------------------------------------------------------------------------------------------------- warnings


def test_somebody_is_told_thirty_and_seven_days_before_and_when_the_policy_says() -> None:
    policy = resolve("t", "", Kind.API_KEY, (), None)
    assert warnings(policy, NOW + 90 * DAY, None) == [NOW + n * DAY for n in (60, 76, 83, 90)]
    both = warnings(policy, NOW + 90 * DAY, NOW + 40 * DAY)
    assert both == [NOW + n * DAY for n in (10, 26, 33, 40, 60, 76, 83, 90)], "each end is told of"


def test_what_we_rotate_ourselves_is_no_end_to_be_told_of() -> None:
    policy = resolve("t", "", Kind.WEBHOOK_SECRET, (), None)
    assert warnings(policy, NOW + 180 * DAY, None) == []
    assert due(policy, NOW, None, NOW) == (NOW + 180 * DAY, None, "webhook")


def test_the_next_warning_is_the_first_that_lies_ahead() -> None:
    policy = resolve("t", "", Kind.CERTIFICATE, (), {"max_age": None})
    end = NOW + 100 * DAY
    assert due(policy, NOW, end, NOW) == (None, NOW + 70 * DAY, "")
    assert due(policy, NOW, end, NOW + 70 * DAY) == (None, NOW + 93 * DAY, "")
    assert due(policy, NOW, end, NOW + 93 * DAY) == (None, end, "")
    assert due(policy, NOW, end, end) == (None, None, "")


# ---------------------------------------------------------------------------------------------------------------- files


def test_rules_are_read_and_a_later_file_wins_over_an_earlier_one_of_the_same_name(tmp_path: Path) -> None:
    one, two = tmp_path / "1.toml", tmp_path / "2.toml"
    one.write_text('[keys]\nkind = "api_key"\nmax_age = 30\n[own]\ntenant = "umbra"\nmax_age = "never"\n')
    two.write_text('[keys]\nkind = "api_key"\nmax_age = 20\n')
    assert read_rules([one, two]) == [
        Rule("keys", "", "", "api_key", {"max_age": 20}), Rule("own", "umbra", "", "", {"max_age": None}),
    ]  # fmt: skip


def test_every_problem_is_told_at_once_by_file_rule_and_number(tmp_path: Path) -> None:
    broken, wrong = tmp_path / "broken.toml", tmp_path / "wrong.toml"
    broken.write_text("[keys")
    wrong.write_text('stray = 1\n[a]\nkind = "api_keys"\nmax_age = 0\n[b]\ntenant = 3\nages = 1\n')
    with pytest.raises(ConfigurationError) as refusal:
        read_rules([broken, wrong, tmp_path / "none.toml"])
    told = "\n".join(refusal.value.problems)
    for words in (
        *("broken.toml: is not TOML", "none.toml: cannot be read", "stray is not a table", "a: kind: must be one"),
        *("a: max_age: must be more than 0", "b: tenant: must be text", "b: ages: there is no such number"),
    ):
        assert words in told
