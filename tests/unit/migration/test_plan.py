"""Migrations by name, out of the files of VAULT_MIGRATIONS; no secret stands in such a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from vault import ConfigurationError, Migration, Secret
from vault.migration.plan import configured

MAP = 'map = {owner = "user_id", refresh_token = "rt"}\nset = {provider = "spotify"}\n'
COLUMNS = {"owner": "user_id", "refresh_token": "rt"}
CONSTANTS = {"provider": "spotify"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "migrations.toml"


def read(file: Path, text: str, **environ: str) -> Migration:
    file.write_text(text)
    return configured([file], "old", environ)


def refused(file: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        read(file, text, **environ)
    return "\n".join(raised.value.problems)


def test_a_table_of_a_database_whose_address_lies_elsewhere(file: Path) -> None:
    (file.parent / "url").write_text("postgresql://me:hunter2@db/app\n")
    made = read(file, f'[old]\nurl_file = "url"\ntable = "crm.tokens"\nclear = true\nas = "crm"\n{MAP}')
    assert made.url == Secret("postgresql://me:hunter2@db/app")
    assert (made.table, made.clear, made.called, made.file) == ("crm.tokens", True, "crm", None)
    assert made.columns.columns == COLUMNS
    assert made.columns.constants == CONSTANTS
    assert "hunter2" not in repr(made)
    from_env = read(file, f'[old]\nurl_env = "OLD_URL"\ntable = "t"\n{MAP}', OLD_URL="sqlite:////x")
    assert from_env.url == Secret("sqlite:////x")
    assert from_env.clear is False


def test_a_file_lies_beside_the_one_that_names_it(file: Path) -> None:
    made = read(file, f'[old]\nfile = "users.ndjson"\n{MAP}')
    assert (made.file, made.format) == (file.parent / "users.ndjson", "jsonl")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[new]\n", ["no migration 'old'", "known: new"]),
        ("old = 5\n", ["old is not a table"]),
        ("[old\n", ["is not TOML"]),
        (f'[old]\nurl = "postgresql://a:b@c/d"\ntable = "t"\n{MAP}', ["there is no 'url'"]),
        (f'[old]\nurl_env = "OLD_URL"\ntable = "t"\n{MAP}', ["OLD_URL is not set"]),
        (f'[old]\nurl_file = "nowhere"\ntable = "t"\n{MAP}', ["cannot be read"]),
        (f'[old]\nurl_file = "a"\nurl_env = "B"\n{MAP}', ["one of them is enough"]),
        (f"[old]\n{MAP}", ["name one source"]),
        (f'[old]\nfile = "users.csv"\ntable = "t"\nclear = true\n{MAP}', ["has no table", "is not cleared"]),
        (f'[old]\nfile = "users.xlsx"\n{MAP}', ["say csv or jsonl"]),
        ('[old]\nfile = "u.csv"\nmap = 5\nset = {a = 1}\nclear = "yes"\ntable = 7\n',
         ["map is not a table of words", "set is not a table of words", "clear is true or false", "table is not text"]),
        ('[old]\nfile = "u.csv"\nmap = {}\n', ["owner is missing", "provider is missing", "refresh_token"]),
    ],
)  # fmt: skip
def test_what_cannot_work_is_told_all_at_once(file: Path, text: str, words: list[str]) -> None:
    said = refused(file, text)
    for word in words:
        assert word in said


def test_a_url_that_cannot_be_read_is_not_repeated(file: Path) -> None:
    assert "hunter2" not in refused(file, f'[old]\nurl_env = "X"\nfile = "u.csv"\n{MAP}', X="me:hunter2")


def test_a_missing_file_of_migrations_is_named(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"migrations.toml cannot be read"):
        configured([file], "old", {})


def test_clearing_is_for_databases_only() -> None:
    planned = Migration.planned(columns=COLUMNS, constants=CONSTANTS, url=Secret("sqlite:////x"), table="t")
    assert planned.clearing().clear
    with pytest.raises(ConfigurationError, match="is not cleared"):
        Migration.planned(columns=COLUMNS, constants=CONSTANTS, file=Path("u.csv")).clearing()
