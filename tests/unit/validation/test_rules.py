"""What methods need, as data: which rule holds, what is missing, and what is said of files that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from vault.errors import ConfigurationError
from vault.validation.rules import MethodRule, MethodRules, read_method_rules
from vault.validation.sessions import Subscription


def rules(home: Path, *texts: str) -> MethodRules:
    files = []
    for number, text in enumerate(texts):
        files.append(home / f"rules-{number}.toml")
        files[-1].write_text(text)
    return read_method_rules(files)


def problems(home: Path, *texts: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        rules(home, *texts)
    return [problem.replace(str(home), "") for problem in refused.value.problems]


def found(known: MethodRules, method: str) -> str | None:
    rule = known.of(method)
    return None if rule is None else rule.name


SEVERAL = """
[rest]
method = "**"
[reading]
method = "GET **"
[parts]
method = ["GET /v1/playlists/*/tracks", "playlists.read"]
[any-one]
method = "GET /v1/playlists/*"
[one]
method = "GET /v1/playlists/7"
"""


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("GET /v1/playlists/7", "one"), ("GET /v1/playlists/8", "any-one"), ("GET /v1/playlists/7/tracks", "parts"),
        ("playlists.read", "parts"), ("GET /v1/playlists/", "reading"), ("GET /v1/playlists/7/8", "reading"),
        ("POST /v1/playlists/7", "rest"), ("get /v1/playlists/7", "rest"), ("GET", "rest"), ("GET ", "rest"),
        ("", None), ("x" * 513, None),
    ],
)  # fmt: skip
def test_the_most_exact_rule_holds(tmp_path: Path, method: str, name: str | None) -> None:
    assert found(rules(tmp_path, SEVERAL), method) == name


def test_a_part_further_to_the_left_counts_more(tmp_path: Path) -> None:
    known = rules(tmp_path, '[right]\nmethod = "*.b.c"\n[left]\nmethod = "a.*.*"\n')
    assert found(known, "a.b.c") == "left"


def test_a_method_nobody_thought_of_has_no_rule(tmp_path: Path) -> None:
    assert found(rules(tmp_path, '[reading]\nmethod = "GET **"\n'), "DELETE /v1/me") is None


def test_a_hostile_name_is_looked_at_in_a_time_that_follows_from_its_length(tmp_path: Path) -> None:
    pattern = "/".join(["*"] * 100)
    known = rules(tmp_path, f'[many]\nmethod = "{pattern}/end"\n')
    assert found(known, "/".join("a" * 200)) is None


def test_scopes_of_which_none_may_be_missing_and_of_which_one_will_do() -> None:
    rule = MethodRule("r", (), all=("a", "b"), any=("c", "d"))
    assert rule.missing(["a", "b", "d", "z"]) == ()
    assert rule.missing(["b"]) == ("a", "c", "d")
    assert rule.missing(["a", "b"]) == ("c", "d")
    assert MethodRule("r", ()).missing([]) == ()


@pytest.mark.parametrize(
    ("has", "wants", "reaches"),
    [("free", "free", True), ("free", "plus", False), ("plus", "free", True), ("pro", "plus", True),
     ("plus", "pro", False)],
)  # fmt: skip
def test_a_level_reaches_those_below_it(has: str, wants: str, *, reaches: bool) -> None:
    assert Subscription(has).reaches(Subscription(wants)) is reaches


def test_a_rule_in_a_later_file_replaces_the_one_of_its_name(tmp_path: Path) -> None:
    known = rules(tmp_path, '[a]\nmethod = "x"\nall = ["s"]\n', '[a]\nmethod = "y"\nsubscription = "pro"\n')
    assert found(known, "x") is None
    rule = known.of("y")
    assert rule is not None
    assert (rule.all, rule.subscription, rule.refresh) == ((), Subscription.PRO, True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[a]\nmethod = "x"\nscope = ["s"]', "a: scope: there is no such field; known: method, all, any"),
        ('[a]\nmethod = "x"\nall = "s"', "a: all: must be a list of scopes"),
        ('[a]\nmethod = "x"\nany = ["s t"]', "a: any: scopes are words"),
        ('[a]\nmethod = "x"\nany = []', "a: any: must name a scope"),
        ('[a]\nmethod = "x"\nall = [7]', "a: all: scopes are words"),
        ('[a]\nmethod = "x"\nsubscription = "gold"', "a: subscription: must be one of free, plus, pro"),
        ('[a]\nmethod = "x"\nsubscription = 1', "a: subscription: must be one of"),
        ('[a]\nmethod = "x"\nrefresh = "no"', "a: refresh: must be true or false"),
        ("[a]\nall = []", "a: method: must be the name of a method"),
        ("[a]\nmethod = []", "a: method: must be the name of a method"),
        ("[a]\nmethod = [1]", "a: method: must be the name of a method"),
        ('[a]\nmethod = ""', "a: method: a name has 1 to 512"),
        ('[a]\nmethod = "GET /v1/pl*"', "a: method: 'GET /v1/pl*': * stands for a whole part"),
        ('[a]\nmethod = "**.x"', "a: method: '**.x': ** stands at the end"),
        ('[a]\nmethod = "x"\n[b]\nmethod = ["y", "x"]', "b: method: 'x' is a's already"),
        ("a = 1", "a is not a table"),
        ("[a", "is not TOML"),
    ],
)
def test_what_is_wrong_is_said_by_file_table_and_field(tmp_path: Path, text: str, problem: str) -> None:
    [said] = problems(tmp_path, text)
    assert said.startswith(f"scope rule file /rules-0.toml: {problem}")


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    wrong = '[a]\nmethod = "x"\nall = 1\nany = 2\n'
    assert len(problems(tmp_path, wrong, '[b]\nmethod = "y"\nrefresh = 0\n')) == 3


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"scope rule file .*gone\.toml: cannot be read"):
        read_method_rules([tmp_path / "gone.toml"])
