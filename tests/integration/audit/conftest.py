"""Tests of the audit change nothing but its rows, and share a database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.audit.book import Book
from tests.support import stack


@pytest.fixture(scope="package")
def audited_database_url(postgres: stack.DatabaseServer, template_database: str) -> Iterator[str]:
    """A database for all tests of the audit."""
    with stack.new_database(postgres, template_database) as url:
        yield url


@pytest.fixture
def book(audited_database_url: str) -> Iterator[Book]:
    """An audit in which nothing was told yet."""
    made = Book(audited_database_url)
    made.empty()
    yield made
    made.close()
