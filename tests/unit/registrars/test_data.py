"""Registrar files: ours load, the user's win, and a wrong file says where it is wrong, everything at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from vault.errors import ConfigurationError
from vault.registrars.data import Recipe, read_recipes

MINE = """
[mine]
base = "https://api.example.com/v2"
authorization = "connection"
headers = { Authorization = "Bearer {authorization}" }
set = { method = "PUT", path = "/hooks/{tag.id}", json = { secret = "{new}" } }
undo = { method = "PUT", path = "/hooks/{tag.id}", json = { secret = "{old}" } }
"""


def written(path: Path, text: str, *hosts: str) -> dict[str, Recipe]:
    path.write_text(text)
    return read_recipes([path], hosts)


def problems(path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        written(path, text)
    prefix = f"registrar file {path}: "
    assert all(problem.startswith(prefix) for problem in refused.value.problems)
    return [problem.removeprefix(prefix) for problem in refused.value.problems]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "registrars.toml"


def test_github_and_stripe_come_with_us() -> None:
    recipes = read_recipes([], ())
    assert set(recipes) == {"github", "stripe"}
    assert all(recipe.base.startswith("https://api.") for recipe in recipes.values())


def test_a_field_of_ours_can_be_overridden_and_a_registrar_be_added(file: Path) -> None:
    recipes = written(file, f'{MINE}\n[github]\nbase = "https://ghe.example.com/api/v3/"')
    assert recipes["github"].base == "https://ghe.example.com/api/v3"
    assert set(recipes["github"].calls) == {"set", "test", "undo"}
    assert recipes["mine"].calls["set"].method == "PUT"


def test_every_problem_is_named_by_file_registrar_and_field(file: Path) -> None:
    text = """
[a]
base = "http://api.example.com"
set = { method = "PUT", path = "hooks", json = { secret = "{news}" } }
[b]
base = "https://api.example.com"
find = { method = "GET", path = "/hooks", items = "data", request = "/id", form = {} }
test = { method = "LOOK", path = "/hooks" }
[github]
bases = "https://api.example.com"
"""
    found = problems(file, text)
    assert [problem.split(": ")[:2] for problem in found] == [
        ["github", "bases"],
        ["a", "base"], ["a", "undo"], ["a", "set.path"], ["a", "set.json.secret"],
        ["b", "test.method"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("/hooks/{tag.id}", "/hooks/{new}", "secrets stand in bodies only"),
        ("/hooks/{tag.id}", "/hooks/{authorization}", "in headers only"),
        ("/hooks/{tag.id}", "/hooks/{new.id}", "create.facts does not say"),
        ("/hooks/{tag.id}", "/hooks/{tag.id|optional}", "for bodies"),
        ("/hooks/{tag.id}", "/hooks/{id", "a brace belongs to no slot"),
        ("/hooks/{tag.id}", "/hooks/#{tag.id}", "must begin with /"),
        ("/hooks/{tag.id}", "/hooks/ü", "must begin with /"),
        ("Bearer {authorization}", "Bearer {old}", "in bodies only"),
        ("Bearer {authorization}", "Bearer \\r\\nX: {authorization}", "printable ASCII"),
        ("Authorization =", "Host =", "no header that can be set"),
        ('"connection"', '"me"', "must be 'connection'"),
        ('"connection"', '"credential:{new.id}"', "the id of a credential stands there"),
        ('"connection"', '""', "only if the registrar says which"),
        ("https://api.example.com/v2", "http://127.0.0.1:80", "VAULT_INSECURE_HOSTS"),
        ("https://api.example.com/v2", "https://{tag.host}", "has no slots"),
        ("https://api.example.com/v2", "https://me:pw@api.example.com", "a user"),
        ("https://api.example.com/v2", "ftp://api.example.com", "must be https"),
        ("[mine]", '["mine and yours"]', "letters, digits"),
        ('"{new}"', '["a {new|list}"]', "a list stands alone"),
        ('"{new}"', "2026-01-01", "dates are written as text"),
        ('"PUT"', '"GET"', "GET has no body"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(file: Path, was: str, becomes: str, said: str) -> None:
    assert was in MINE
    assert any(said in problem for problem in problems(file, MINE.replace(was, becomes)))


def test_plain_http_is_for_hosts_that_the_operator_names(file: Path) -> None:
    text = MINE.replace("https://api.example.com/v2", "http://127.0.0.1:80")
    assert written(file, text, "127.0.0.1")["mine"].base == "http://127.0.0.1:80"


def test_what_is_made_must_be_taken_away_by_what_is_known_of_it(file: Path) -> None:
    create = 'create = { method = "POST", path = "/hooks", secret = "secret" }'
    assert (
        problems(file, MINE + create)
        == [
            "mine: undo: with create, {new} may be known to nobody any more: use {new.…}",
            "mine: create.secret: must be a JSON pointer, as /data/secret",
        ]
        or len(problems(file, MINE + create)) == 1
    )


def test_the_example_of_the_documents_is_one(file: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "credentials.md").read_text()
    [example] = [block.partition("```")[0] for block in page.split("```toml") if "[acme.create]" in block]
    assert set(written(file, example)) == {"github", "stripe", "acme"}
