"""Exports, honest and hostile: whatever is wrong with a line is that line's trouble and nobody else's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from vault.errors import ConfigurationError, SourceUnavailable
from vault.migration.columns import column_map
from vault.ports import SourceRow
from vault.sources.files import FileSource

COLUMNS = {"owner": "user", "refresh_token": "rt", "scopes": "scopes"}
PROVIDER = {"provider": "acme"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "export"


def source(file: Path, text: str | bytes, form: str, *, key: str | None = None, **filters: str) -> FileSource:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    columns = {**COLUMNS, **({"key": key} if key else {}), **{name: name for name in filters}}
    return FileSource(file, form, column_map(columns, PROVIDER), filters, called=None)


def all_of(source: FileSource, batch: int = 2) -> list[SourceRow]:
    """Everything, batch by batch, as a run reads it."""
    source.check()
    rows: list[SourceRow] = []
    while found := source.batch(rows[-1].cursor if rows else None, batch):
        rows += found
    assert source.count() == len(rows)
    return rows


def told(rows: Sequence[SourceRow]) -> list[tuple[str, str | None]]:
    return [(row.key, row.problem or str(row.fields["owner"])) for row in rows]


def csv(*rows: str) -> str:
    return "\n".join(["user,rt,scopes", *rows]) + "\n"


def test_a_csv_file_is_read_by_its_header_and_a_row_is_its_line(file: Path) -> None:
    rows = all_of(source(file, csv('olga,rt-1,"read,write"', "", 'nina,rt-2,"two\nlines"', "vera,,"), "csv"))
    assert told(rows) == [("2", "olga"), ("4", "nina"), ("6", "vera")]
    assert [row.tokens["refresh_token"].reveal() for row in rows[:2]] == ["rt-1", "rt-2"]
    assert rows[0].fields["scopes"] == "read,write"
    assert rows[2].tokens == {}
    assert "rt-1" not in repr(rows)


def test_json_lines_are_read_by_name(file: Path) -> None:
    lines = [{"user": 17, "rt": "rt-1", "scopes": ["read"], "more": {}}, {"rt": None, "user": "nina"}]
    rows = all_of(source(file, "\n".join(map(json.dumps, lines)) + "\n\n", "jsonl"))
    assert told(rows) == [("1", "17"), ("2", "nina")]
    assert rows[0].fields["scopes"] == ["read"]


def test_a_run_goes_on_behind_the_row_it_has_come_to(file: Path) -> None:
    text = csv(*[f"user-{n},rt-{n}," for n in range(10)])
    first = source(file, text, "csv").batch(None, 4)
    again = source(file, text, "csv")
    assert told(again.batch(first[-1].cursor, 3)) == [("6", "user-4"), ("7", "user-5"), ("8", "user-6")]
    assert told(again.batch(None, 1)) == [("2", "user-0")]


def test_only_rows_that_are_wanted(file: Path) -> None:
    lines = [{"user": "a", "rt": "r", "tenant": 1}, {"user": "b", "rt": "r", "tenant": "2"}, {"user": "c", "rt": "r"}]
    text = "\n".join(map(json.dumps, lines))
    assert told(all_of(source(file, text, "jsonl", tenant="1"))) == [("1", "a")]
    assert told(all_of(source(file, text, "jsonl", tenant="2"))) == [("2", "b")]


def test_a_key_that_was_there_before_is_not_taken_for_the_same_row(file: Path) -> None:
    lines = ["olga,rt-1,k1", "nina,rt-2,k1", "vera,rt-3,", "rosa,rt-4,k2"]
    text = "\n".join(["user,rt,scopes", *lines])
    rows = all_of(source(file, text, "csv", key="scopes"))
    assert told(rows) == [("k1", "olga"), ("line 3", "duplicate_key"), ("line 4", "no_key"), ("k2", "rosa")]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("only-one", "unreadable_row"),
        ("a,b,c,d", "unreadable_row"),
        ('"behind"a quote,b,c', "unreadable_row"),
        (f"x,{'y' * 200_000},z", "unreadable_row"),
        (f"x,{'y' * 3_000_000},z", "too_long"),
        ("x,rt\0y,z", "not_text"),
    ],
    ids=["short", "long", "quote", "field", "line", "NUL"],
)
def test_a_bad_row_among_good_ones(file: Path, row: str, problem: str) -> None:
    rows = all_of(source(file, csv("olga,rt-1,", row, "nina,rt-2,"), "csv"))
    assert [each.problem for each in rows] == [None, problem, None]
    assert [rows[0].fields["owner"], rows[2].fields["owner"]] == ["olga", "nina"]


def test_a_quote_that_is_never_closed_is_not_silent(file: Path) -> None:
    rows = all_of(source(file, csv("olga,rt-1,", '"nina,rt-2,', "vera,rt-3,"), "csv"))
    assert told(rows) == [("2", "olga"), ("line 3", "unreadable_row")]


@pytest.mark.parametrize(
    "line",
    ["{", "[1]", "5", "null", '"text"', '{"user": "x", "rt": "' + "y" * 3_000_000 + '"}', "[" * 100_000],
    ids=lambda line: line[:8],
)
def test_a_bad_line_among_good_ones(file: Path, line: str) -> None:
    good = json.dumps({"user": "olga", "rt": "rt-1"})
    rows = all_of(source(file, f"{good}\n{line}\n{good}", "jsonl"))
    assert [each.problem is None for each in rows] == [True, False, True]
    assert rows[1].problem in ("unreadable_row", "too_long")


def test_bytes_that_are_not_utf8_spoil_the_field_they_are_in(file: Path) -> None:
    text = b"user,rt,scopes\nol\xe9ga,rt-1,\nnina,rt\xff,\nvera,rt-3,\n"
    rows = all_of(source(file, text, "csv"))
    assert [each.problem for each in rows] == [None, "not_text", None]  # whose owner it is, the reader says
    assert rows[2].fields["owner"] == "vera"


def test_a_mark_at_the_beginning_is_no_part_of_the_first_column(file: Path) -> None:
    for form, text in (("csv", csv("olga,rt-1,")), ("jsonl", '{"user": "olga", "rt": "rt-1"}')):
        assert [row.fields["owner"] for row in all_of(source(file, b"\xef\xbb\xbf" + text.encode(), form))] == ["olga"]


def test_lines_may_end_as_windows_ends_them(file: Path) -> None:
    assert told(all_of(source(file, csv("olga,rt,x", "nina,rt,y").replace("\n", "\r\n"), "csv"))) == [
        ("2", "olga"), ("3", "nina")]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", "has no column 'user' for owner"),
        (b"name,rt,scopes\n", "its header has name, rt, scopes"),
        (b"user,rt,rt,scopes\n", "more than one column 'rt'"),
        ("user,rt,scopes\n".encode("utf-16"), "save it as UTF-8"),
    ],
)
def test_a_file_that_cannot_be_what_the_map_says(file: Path, text: bytes, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        source(file, text, "csv").check()


def test_a_file_that_is_not_there(file: Path) -> None:
    gone = source(file, "", "csv")
    file.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        gone.check()
    with pytest.raises(SourceUnavailable):
        gone.count()
