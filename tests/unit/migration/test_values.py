"""Instants, scopes, labels and tokens, in the forms in which other systems write them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from vault.migration import values
from vault.migration.values import Unreadable

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
S = int(NOON.timestamp())


@pytest.mark.parametrize(
    "written",
    [
        NOON, NOON.replace(tzinfo=None), NOON.astimezone(timezone(timedelta(hours=5))), "2026-03-01T12:00:00Z",
        "2026-03-01 12:00:00", "2026-03-01T14:00:00+02:00", " 2026-03-01T12:00:00.000+00:00 ", S, float(S), Decimal(S),
        str(S), f"{S}.0", S * 1000, str(S * 1000), float(S * 1000),
    ],
    ids=repr,
)  # fmt: skip
def test_an_instant_is_the_same_however_it_is_written(written: object) -> None:
    found = values.instant(written, "unreadable_expiry")
    assert found == NOON
    assert found is not None
    assert found.tzinfo is not None


def test_a_date_is_its_first_moment_and_nothing_is_nothing() -> None:
    assert values.instant(date(2026, 3, 1), "x") == NOON - timedelta(hours=12)
    nothing: list[object] = [None, "", "  "]
    assert [values.instant(each, "x") for each in nothing] == [None] * 3


@pytest.mark.parametrize(
    "written",
    ["soon", "-1", -1, float("nan"), float("inf"), 1e30, True, [], {}, b"2026", "9" * 400, "1969-01-01", S * 10**6],
    ids=lambda each: repr(each)[:20],
)
def test_what_is_no_instant_is_said_with_the_reason_of_its_column(written: object) -> None:
    with pytest.raises(Unreadable) as raised:
        values.instant(written, "unreadable_expiry")
    assert raised.value.reason == "unreadable_expiry"


@pytest.mark.parametrize(
    "written", ["read write", "read,write", " read,  write ", '["read", "write"]', ["read", "write", "read"],
                ("read", "write"), b"read write", "read\nwrite"], ids=repr,
)  # fmt: skip
def test_scopes_are_words(written: object) -> None:
    assert values.scopes(written) == "read write"


def test_no_scopes_are_none() -> None:
    nothing: list[object] = [None, "", [], "[]"]
    assert [values.scopes(each) for each in nothing] == [""] * 4


@pytest.mark.parametrize("written", ["[1, 2]", '["a"', [{}], ["a", 5], "[" * 100_000], ids=lambda e: str(e)[:9])
def test_scopes_that_cannot_be_read(written: object) -> None:
    with pytest.raises(Unreadable, match="unreadable_scopes"):
        values.scopes(written)


def test_labels_are_text_by_text() -> None:
    assert values.labels('{"team": "blue", "seats": 5, "old": null}') == {"team": "blue", "seats": "5"}
    assert values.labels({"team": "blue"}) == {"team": "blue"}
    assert values.labels(None) == values.labels("") == {}


@pytest.mark.parametrize("written", ["blue", "[]", "{", '{"a": {"b": 1}}', {"a": [1]}, 5], ids=repr)
def test_labels_that_cannot_be_read(written: object) -> None:
    with pytest.raises(Unreadable, match="unreadable_labels"):
        values.labels(written)


def test_text_is_trimmed_and_decoded_and_empty_text_is_none() -> None:
    written: list[object] = [" olga ", b"olga", 17, None, "", "  "]
    assert [values.text(each) for each in written] == [
        "olga", "olga", "17", None, None, None]  # fmt: skip


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda: values.text("a\0b"), "not_text"),
        (lambda: values.text(b"\xff\xfe"), "not_text"),
        (lambda: values.text("\udcff"), "not_text"),
        (lambda: values.labels('{"a": "\\u0000"}'), "not_text"),
        (lambda: values.token("two\nlines"), "not_a_token"),
        (lambda: values.token("tökén"), "not_a_token"),
        (lambda: values.token(""), "not_a_token"),
        (lambda: values.token("x" * 70_000), "too_long"),
        (lambda: values.names("t", "ö" * 1000, "p"), "too_long"),
    ],
)
def test_what_postgresql_or_a_header_could_not_hold_is_refused(read: Callable[[], object], reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read()
