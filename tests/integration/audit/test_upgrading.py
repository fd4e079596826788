"""A database that was in use before the audit was a chain."""

from __future__ import annotations

import psycopg
from alembic import command
from alembic.config import Config

from tests.integration.audit.book import Book
from vault.secret import Secret
from vault.store.engine import Database
from vault.store.schema import Schema, _config
from vault.store.tables import SCHEMA


def test_rows_told_before_the_upgrade_are_linked_after_it(empty_database_url: str) -> None:
    database = Database(Secret(empty_database_url))
    config: Config = _config()
    with database.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
    with psycopg.connect(empty_database_url) as session:
        session.execute(
            "INSERT INTO evergrant.audit (tenant, event) SELECT 't' || n % 3, 'x' FROM generate_series(1, 100) n"
        )
    Schema(database).upgrade()
    database.dispose()
    book = Book(empty_database_url)
    book.tell(5, "t1")
    assert book.chain(batch=7) == 105
    found = book.verify(book.store.anchors(None))
    assert (found.rows, found.tenants, found.anchors, found.problems) == (105, 3, 3, 0)
    in_order = (
        "SELECT array_agg(audit_id ORDER BY seq) = array_agg(audit_id ORDER BY audit_id) FROM evergrant.audit_link"
    )
    assert book.sql(f"{in_order} GROUP BY tenant") == [(True,)] * 3
    book.close()
