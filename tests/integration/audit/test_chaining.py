"""Chaining beside those who write: every row is linked once, whatever commits when, and whoever is killed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import psycopg
import pytest

from tests.integration import victims
from tests.integration.audit.book import Book
from tests.integration.house import NOBODY_HERE
from vault.audit.rows import NOTHING, AuditRow, Link, digest
from vault.ports import Ends
from vault.services import audit_verify
from vault.services.audit_verify import AuditVerifying
from vault.store.audit_chain import PostgresAudit

TENANTS = ["default", "umbra", "ünïcode 💎", ""]
ODD = [
    ("default", "x", None, "{}", "infinity"),
    ("default", "x", None, "[]", "-infinity"),
    ("default", "x", None, "null", "0044-03-15 12:00:00 BC"),
    ("default", "x", None, '"\\u00fc \\ud83d\\udc8e"', "200000-01-01"),
    ("ünïcode 💎", "", None, '{"a": 1.50, "é": [1e400, -0.0, {"": null}]}', "2026-01-01"),
    ("", "\t\n", "00000000-0000-0000-0000-000000000000", "{}", "2026-01-01"),
]


@pytest.fixture
def inserted(book: Book) -> Callable[[], int]:
    def count() -> int:
        [(number,)] = book.sql("SELECT count(*) FROM evergrant.audit")
        return int(number)

    return count


def assert_every_row_has_one_link(book: Book) -> None:
    [(rows, links, pairs)] = book.sql(
        "SELECT (SELECT count(*) FROM evergrant.audit), (SELECT count(*) FROM evergrant.audit_link),"
        " (SELECT count(DISTINCT a.id) FROM evergrant.audit a JOIN evergrant.audit_link l ON l.audit_id = a.id)"
    )
    assert rows == links == pairs
    found = book.verify(book.store.anchors(None))
    assert found.passed, found
    assert (found.rows, found.waiting) == (rows, 0)


def test_the_database_and_python_agree_about_rows_of_every_kind(book: Book) -> None:
    """The database digests when it chains, Python when it verifies."""
    for row in ODD:
        book.sql("INSERT INTO evergrant.audit (tenant, event, connection_id, detail, at) VALUES (%s,%s,%s,%s,%s)", row)
    assert book.chain() == len(ODD)
    assert_every_row_has_one_link(book)
    first = book.store.span("default", 0, 1, 1)[0]
    assert isinstance(first.row, AuditRow)
    assert digest(NOTHING, 1, first.row) == first.digest


def test_chaining_again_changes_nothing(book: Book) -> None:
    book.tell(10)
    assert book.chain(batch=3) == 10
    before = book.sql("SELECT * FROM evergrant.audit_link ORDER BY seq")
    assert book.chain(batch=3) == 0
    assert book.sql("SELECT * FROM evergrant.audit_link ORDER BY seq") == before
    assert [row[1] for row in before] == list(range(1, 11))


def test_rows_wait_for_an_older_transaction_and_are_no_problem_meanwhile(book: Book) -> None:
    assert book.chain() == 0
    with psycopg.connect(book.url) as slow:
        slow.execute("INSERT INTO evergrant.audit (tenant, event) VALUES ('default', 'slow')")
        book.tell(3)
        assert book.chain() == 0
        assert book.verify()[:6] == (0, 0, 3, 0, 0, 0)
        slow.commit()
    assert book.chain() == 4
    assert book.sql("SELECT event FROM evergrant.audit_link l JOIN evergrant.audit a ON a.id = l.audit_id"
                    " ORDER BY seq")[0] == ("slow",)  # fmt: skip
    assert_every_row_has_one_link(book)


def _write(url: str, seed: int, until: Event) -> int:
    """Tell a lot, in transactions short and long, some of which come to nothing."""
    chance, told = random.Random(seed), 0
    with psycopg.connect(url) as session:
        while not until.is_set():
            number = chance.randint(1, 6)
            for _ in range(number):
                said = chance.choice(TENANTS), f"event {chance.random()}"
                session.execute("INSERT INTO evergrant.audit (tenant, event) VALUES (%s, %s)", said)
                time.sleep(chance.choice([0, 0, 0, 0.002, 0.02]))
            if chance.random() < 0.2:
                session.rollback()
            else:
                session.commit()
                told += number
    return told


def _chain(url: str, until: Event) -> int:
    book, linked = Book(url), 0
    while not until.is_set():
        linked += book.store.chain(17)[0]
    book.close()
    return linked


def test_many_writers_beside_two_that_chain_and_one_that_verifies(book: Book, inserted: Callable[[], int]) -> None:
    """Rows are committed in another order than they are numbered; none is left out, none is linked twice."""
    enough = Event()
    with ThreadPoolExecutor(8) as threads:
        writing = [threads.submit(_write, book.url, seed, enough) for seed in range(5)]
        chaining = [threads.submit(_chain, book.url, enough) for _ in range(2)]
        ends = time.monotonic() + 4
        verified = 0
        while time.monotonic() < ends:
            found = book.verify(book.store.anchors(None))
            assert found.passed, found
            verified += 1
        enough.set()
        told, linked = sum(each.result() for each in writing), sum(each.result() for each in chaining)
    assert verified > 3
    assert told == inserted() > 100
    assert linked + book.chain() == told
    assert_every_row_has_one_link(book)


class _Growing(PostgresAudit):
    """Chains that grow while they are read."""

    def __init__(self, book: Book) -> None:
        super().__init__(book.database)
        self._book, self._left = book, 6

    def links(self, after: tuple[str, int], limit: int, tenant: str | None) -> tuple[list[Link], dict[str, Ends]]:
        read = super().links(after, limit, tenant)
        if self._left:
            self._left -= 1
            for each in ("a", "b"):
                self._book.tell(1, each)
            self._book.chain()
        return read


def test_chains_may_grow_while_they_are_verified(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is held against the head that it had when its last link was read."""
    monkeypatch.setattr(audit_verify, "BATCH", 3)
    for tenant in ("a", "b", "c"):
        book.tell(2, tenant)
    book.chain()
    growing = _Growing(book)
    found = AuditVerifying(growing, named=9, progress=lambda _: None).run(None, ())
    growing.close()
    assert found.passed, found
    assert found.rows > 6


@pytest.fixture
def environment(book: Book, tmp_path: Path) -> dict[str, str]:
    return {"VAULT_DATABASE_URL": book.url, "VAULT_REDIS_URL": NOBODY_HERE, "VAULT_HOME": str(tmp_path)}


def test_whoever_chains_may_be_killed_at_any_moment(book: Book, environment: dict[str, str]) -> None:
    """The next one goes on where a whole batch ended."""
    chance, part_done = random.Random(11), 0
    book.sql("INSERT INTO evergrant.audit (tenant, event) SELECT 't' || n % 5, 'x' FROM generate_series(1, 12000) n")
    for _ in range(6):
        with victims.asleep(victims.chain_in_small_steps, environment):
            book.tell(3)
            time.sleep(0.15 + chance.random() * 0.2)
        [(links,)] = book.sql("SELECT count(*) FROM evergrant.audit_link")
        part_done += 0 < links < 12_000
        assert book.verify().passed
    assert part_done > 1, "some were killed at work"
    book.chain()
    assert_every_row_has_one_link(book)


def test_a_database_restored_where_transactions_count_from_less(book: Book) -> None:
    """What was linked stays linked; what was not, and what comes, is linked though its numbers were passed before."""
    book.tell(5)
    book.chain()
    ahead = "UPDATE evergrant.audit SET xid = (xid::text::bigint + 1000000)::text::xid8"
    with book.by_force():  # as a dump of a cluster a million transactions older, whose last three rows had no link
        for table in ("audit_link", "audit_head"):
            book.sql(f"DELETE FROM evergrant.{table}")
        book.sql(ahead)
    book.sql("UPDATE evergrant.audit_cursor SET place = 'elsewhere', xid = '0', id = 0")
    book.chain()
    with book.by_force():
        book.sql("UPDATE evergrant.audit_cursor SET xid = '1000900', place = 'elsewhere'")
    left = book.tell(3)
    assert book.verify().passed  # nobody knows yet what is overdue here
    assert book.chain(batch=2) == 3
    book.tell(2)
    assert book.chain(batch=2) == 2
    assert_every_row_has_one_link(book)
    assert len(left) == 3


def test_rows_of_before_the_chain_are_linked_first(book: Book) -> None:
    """The upgrade gives them all its own transaction; they are walked in order of their ids."""
    book.tell(7)
    with book.by_force():
        book.sql("UPDATE evergrant.audit SET xid = '750'")
    assert book.chain(batch=2) == 7
    told = book.sql("SELECT audit_id FROM evergrant.audit_link ORDER BY seq")
    assert told == sorted(told)
    assert_every_row_has_one_link(book)


def test_a_batch_is_read_along_the_index_with_thousands_linked_before(book: Book) -> None:
    """What it costs follows what is new."""
    book.sql("INSERT INTO evergrant.audit (tenant, event) SELECT 'default', 'x' FROM generate_series(1, 20000) n")
    book.chain(batch=20_000)
    book.tell(5)
    before = _reads(book)
    assert book.chain() == 5
    assert _reads(book) - before < 50


def _reads(book: Book) -> int:
    """Rows of the audit that were read so far, by any way."""
    book.sql("SELECT pg_stat_force_next_flush()")
    book.store.close()
    time.sleep(0.1)
    [(number,)] = book.sql(
        "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_all_tables"
        " WHERE relid = 'evergrant.audit'::regclass"
    )
    return int(number)
