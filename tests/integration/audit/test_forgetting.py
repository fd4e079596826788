"""Retention: beginnings of chains go when their time has come, and what is left goes on to verify."""

from __future__ import annotations

import json
from datetime import timedelta

import psycopg
import pytest

from tests.integration.audit.book import Book
from vault.audit.chain import Finding

KEEP = timedelta(days=400)


@pytest.fixture
def old(book: Book) -> Book:
    """Ten rows past their time in one chain and four in another, and a few that are not."""
    book.tell(10, "default", days_ago=500)
    book.tell(4, "umbra", days_ago=500)
    book.tell(3, "default", days_ago=300)
    book.tell(2, "umbra")
    book.chain()
    return book


def _forget(book: Book, keep: timedelta = KEEP, batch: int = 5) -> int:
    forgotten, more = 0, True
    while more:
        number, more = book.store.forget(keep, batch)
        forgotten += number
    return forgotten


def test_what_is_left_verifies_and_begins_where_the_audit_says(old: Book) -> None:
    assert old.store.forgettable(KEEP) == 14
    assert _forget(old) == 14
    assert old.store.forgettable(KEEP) == 0
    assert old.sql("SELECT tenant, seq FROM evergrant.audit_start ORDER BY tenant") == [("default", 10), ("umbra", 4)]
    assert old.verify().passed  # what tells of it is not linked yet
    old.chain()
    found = old.verify()
    assert found.passed
    assert old.sql("SELECT min(seq), max(seq) FROM evergrant.audit_link WHERE tenant = 'umbra'") == [(5, 7)]
    told = old.sql("SELECT detail FROM evergrant.audit WHERE event = 'audit.forgotten' AND tenant = 'umbra'")
    [(digest,)] = old.sql("SELECT digest FROM evergrant.audit_start WHERE tenant = 'umbra'")
    assert told == [({"rows": 4, "seq": 4, "digest": digest.hex()},)]
    assert _forget(old) == 0, "nothing more until another day is over"


def test_tampering_after_it_is_found_as_before_it(old: Book) -> None:
    _forget(old)
    old.chain()
    with old.by_force():
        old.sql("UPDATE evergrant.audit_start SET digest = sha256('x') WHERE tenant = 'umbra'")
    assert old.findings() == {Finding.ROW_CHANGED, Finding.BEGINNING_CHANGED}


def test_a_chain_of_which_nothing_is_left_goes_on(book: Book) -> None:
    book.tell(3, days_ago=500)
    book.chain()
    assert _forget(book) == 3
    with book.by_force():
        book.sql("DELETE FROM evergrant.audit")  # also what told of it
    assert book.findings() == {Finding.BEGINNING_CHANGED}
    book.tell(2)
    book.chain()
    assert book.sql("SELECT seq FROM evergrant.audit_link ORDER BY seq") == [(4,), (5,)]


def test_anchors_of_before_are_counted_as_forgotten(old: Book) -> None:
    first, last = old.store.span("default", 0, 1, 1)[0], old.store.anchors("default")[0]
    early = last._replace(seq=first.seq, digest=first.digest, at=first.row.at if first.row else None)
    edge = old.store.span("default", 9, 10, 1)[0]
    at_the_edge = last._replace(seq=10, digest=edge.digest)
    _forget(old)
    found = old.verify([early, at_the_edge, last])
    assert (found.anchors, found.anchors_forgotten, found.passed) == (2, 1, True)
    assert old.findings([at_the_edge._replace(digest=bytes(32))]) == {Finding.ANCHOR_CHANGED}


def test_nobody_can_have_anything_forgotten_that_is_younger_than_a_month(book: Book) -> None:
    book.tell(3, days_ago=30.9)
    book.chain()
    for keep in (timedelta(days=30), timedelta(0), timedelta(days=-500)):
        with pytest.raises(psycopg.Error, match="31 days at least"):
            book.store.forget(keep, 10)
    with pytest.raises(psycopg.Error, match="31 days at least"):
        book.sql("SELECT evergrant.audit_forget(NULL, 10)")
    assert _forget(book, timedelta(days=31)) == 0


def test_only_what_is_linked_and_only_from_the_beginning(book: Book) -> None:
    book.tell(2, days_ago=500)
    book.tell(1)
    book.tell(2, days_ago=500)
    book.chain()
    book.tell(1, days_ago=500)
    assert _forget(book) == 2
    assert book.sql("SELECT count(*) FROM evergrant.audit WHERE at < now() - interval '400 days'") == [(3,)]
    book.chain()
    assert book.verify().passed


def test_a_chain_goes_by_its_own_order_not_by_that_of_ids(book: Book) -> None:
    """A long transaction's row comes first in the chain, and far behind by its number."""
    assert book.chain() == 0
    with psycopg.connect(book.url) as slow:
        slow.execute("SELECT pg_current_xact_id()")
        book.tell(6, days_ago=500)
        slow.execute("INSERT INTO evergrant.audit (tenant, event, at) SELECT 'default', 'x', now() - '500 d'::interval")
    book.tell(1)
    book.chain()
    assert book.store.forget(KEEP, 3) == (3, True)
    assert book.sql("SELECT min(seq) FROM evergrant.audit_link WHERE tenant = 'default'") == [(4,)]
    book.chain()
    assert book.verify().passed
    assert _forget(book) == 4
    book.chain()
    assert book.verify().passed


def test_what_was_taken_out_of_a_chain_is_not_forgotten_before_the_rows_behind_it(book: Book) -> None:
    ids = book.tell(4, days_ago=500) + book.tell(3)
    book.chain()
    with book.by_force():
        book.sql("DELETE FROM evergrant.audit WHERE id = ANY(%s)", ([ids[1], ids[4]],))
    assert [_forget(book, batch=100) for _ in range(3)] == [3, 1, 0]
    book.chain()
    assert book.findings() == {Finding.ROW_MISSING}


def test_a_row_that_is_gone_does_not_count_as_old_by_itself(book: Book) -> None:
    book.tell(1, days_ago=500)
    [gone, _] = book.tell(2)
    book.tell(1, days_ago=500)
    book.chain()
    with book.by_force():
        book.sql("DELETE FROM evergrant.audit WHERE id = %s", (gone,))
    assert _forget(book, batch=100) == 1
    book.chain()
    assert book.findings() == {Finding.ROW_MISSING}


def test_it_waits_while_somebody_reads_the_chains(old: Book) -> None:
    reader = Book(old.url)
    with reader.store.undisturbed():
        assert _forget(old) == 0
    reader.close()
    assert _forget(old) == 14


def test_an_export_of_what_is_left_verifies_too(old: Book) -> None:
    _forget(old)
    old.chain()
    lines = old.export()
    assert json.loads(lines[0]).items() >= {"kind": "start", "tenant": "default", "seq": 10}.items()
    assert old.verify_lines(lines, old.store.anchors(None)).passed
