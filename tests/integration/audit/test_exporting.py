"""Exports: a stranger verifies them without the database; whatever was done to the file is found."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.integration.audit.book import Book
from vault.audit.chain import Finding
from vault.audit.rows import AuditAnchor
from vault.services.audit_export import AuditExporting

ROWS = 12
Lines = list[str]


@pytest.fixture
def exported(book: Book) -> Lines:
    for _ in range(ROWS // 2):
        book.tell(1, "other")
        book.tell(2, "ünï")
    book.chain()
    return book.export()


def test_a_stranger_needs_nothing_of_ours(exported: Lines) -> None:
    """By what docs/security.md says of the form, in twenty lines."""
    last = dict[str, tuple[int, bytes]]()
    rows = 0
    for line in map(json.loads, exported):
        digest = bytes.fromhex(line["digest"])
        if line["kind"] == "row":
            seq, previous = last[line["tenant"]]
            assert line["seq"] == seq + 1
            at = datetime.fromisoformat(line["at"]) - datetime(2000, 1, 1, tzinfo=UTC)
            said = b"evergrant audit 1" + previous
            said += struct.pack(">qqQq", line["seq"], line["id"], line["xid"], at // timedelta(microseconds=1))
            for text in (line["tenant"], line["event"], line["detail"]):
                said += struct.pack(">I", len(text.encode())) + text.encode()
            said += UUID(line["connection_id"]).bytes if line["connection_id"] else b""
            assert hashlib.sha256(said).digest() == digest
            rows += 1
        if line["kind"] == "anchor":
            assert last[line["tenant"]] == (line["seq"], digest)
        last[line["tenant"]] = line["seq"], digest
    assert rows == ROWS // 2 * 3
    assert [json.loads(line)["kind"] for line in exported[-2:]] == ["anchor", "anchor"]


def test_an_untouched_file_passes(book: Book, exported: Lines) -> None:
    found = book.verify_lines(exported, book.store.anchors(None))
    assert (found.rows, found.tenants, found.anchors, found.problems) == (ROWS // 2 * 3, 2, 2, 0)


def _edited(**changes: Any) -> Callable[[Lines, int], Lines]:
    def edit(lines: Lines, at: int) -> Lines:
        line = json.loads(lines[at])
        assert any(line[name] != value for name, value in changes.items())
        return [*lines[:at], json.dumps({**line, **changes}), *lines[at + 1 :]]

    return edit


EDITS: dict[str, Callable[[Lines, int], Lines]] = {
    **{
        next(iter(change)): _edited(**change)
        for change in (
            {"event": "other"},
            {"detail": "{}"},
            {"connection_id": None},
            {"at": "2026-01-01T00:00:00.000000+00:00"},
            {"id": 99999},
            {"xid": 3},
            {"digest": "ab" * 32},
            {"seq": 77},
            {"tenant": "third"},
        )
    },
    "left out": lambda lines, at: lines[:at] + lines[at + 1 :],
    "three left out": lambda lines, at: lines[:at] + lines[at + 3 :],
    "doubled": lambda lines, at: lines[: at + 1] + lines[at:],
    "exchanged": lambda lines, at: [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
    "not of ours": lambda lines, at: [*lines[:at], "{}", *lines[at:]],
    "no JSON": lambda lines, at: [*lines[:at], "[" * 100_000, *lines[at:]],
}


@pytest.mark.parametrize("at", [1, 3, ROWS // 2 + 3, ROWS // 2 * 3 - 1])
@pytest.mark.parametrize("name", EDITS)
def test_a_file_that_was_changed_anywhere_does_not_pass(book: Book, exported: Lines, name: str, at: int) -> None:
    assert not book.verify_lines(EDITS[name](exported, at)).passed


def test_a_file_cut_off_at_any_line_does_not_pass(book: Book, exported: Lines) -> None:
    for length in range(1, len(exported)):
        assert not book.verify_lines(exported[:length]).passed


def test_a_file_cut_off_with_anchors_made_to_fit_shows_by_anchors_from_elsewhere(book: Book, exported: Lines) -> None:
    known = book.store.anchors("other")
    cut = [line for line in exported if json.loads(line)["tenant"] == "other"]
    last = json.loads(cut[-3])
    cut = [*cut[:-2], json.dumps({**last, "kind": "anchor"})]
    assert book.verify_lines(cut).passed
    assert {each.what for each in book.verify_lines(cut, known).named} == {Finding.ANCHOR_MISSING}


def test_a_piece_of_time_is_exported_from_the_place_before_it(book: Book) -> None:
    for days_ago in (40, 30, 20, 10):
        book.tell(3, days_ago=days_ago)
    book.chain()
    now = datetime.now(UTC)
    lines = book.export(since=now - timedelta(days=35), until=now - timedelta(days=15))
    found = book.verify_lines(lines)
    assert (found.rows, found.passed) == (6, True)
    assert [json.loads(lines[0])["seq"], json.loads(lines[-1])["seq"]] == [3, 9]
    early = AuditAnchor("default", 1, bytes(32))
    assert book.verify_lines(lines, [early]).anchors_forgotten == 1
    assert book.export(tenant="nobody") == []


def test_tail_shows_the_newest_and_then_what_comes_in_the_order_of_its_commits(book: Book) -> None:
    ids = book.tell(5)
    rows, place = book.store.newest(3, None)
    assert [row.id for row in rows] == ids[2:]
    more = book.tell(2) + book.tell(1, "other")
    rows, place = book.store.following(place, 100, None)
    assert [row.id for row in rows] == more
    assert book.store.following(place, 100, None) == ([], place)
    [other] = book.tell(1, "other")
    book.tell(1)
    assert [row.id for row in book.store.following(place, 100, "other")[0]] == [other]


def test_following_repeats_nothing_and_misses_nothing_beside_a_long_transaction(book: Book) -> None:
    with psycopg.connect(book.url) as slow:
        slow.execute("INSERT INTO evergrant.audit (tenant, event) VALUES ('default', 'slow')")
        ids = book.tell(3)
        told = AuditExporting(book.store).tail(2, None, wait=slow.commit)
        assert [next(told).id for _ in range(2)] == ids[1:], "what was committed is shown at once"
        assert [next(told).id for _ in range(2)] == [ids[0] - 1, ids[0]], "what was not, when it is"
        [more] = book.tell(1)
        assert next(told).id == more
