"""Nobody changes the audit by mistake, whoever they are; the message says what it is."""

from __future__ import annotations

import psycopg
import pytest

from tests.integration.audit.book import Book


@pytest.mark.parametrize("table", ["audit", "audit_link"])
@pytest.mark.parametrize(
    "statement",
    ["UPDATE {} SET tenant = tenant", "DELETE FROM {}", "DELETE FROM {} WHERE false", "TRUNCATE {}"],
)
def test_not_even_a_superuser(book: Book, table: str, statement: str) -> None:
    book.tell(2)
    book.chain()
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="the audit is append-only"):
        book.sql(statement.format(f"evergrant.{table}"))
    assert book.verify()[:2] == (2, 1)


def test_the_word_that_retention_leaves_for_the_trigger_counts_in_its_own_transaction_only(book: Book) -> None:
    book.tell(1)
    book.sql("SELECT set_config('evergrant.audit_forgetting', pg_current_xact_id()::text, false)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        book.sql("DELETE FROM evergrant.audit")
