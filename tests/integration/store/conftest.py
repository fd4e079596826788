"""What every test of the store starts from.

Copying the template costs two tenths of a second, emptying a few tables two thousandths; most tests here leave nothing
behind but rows, and share a database.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.store.rows import Rows
from tests.support import stack


@pytest.fixture(scope="session")
def shared_database_url(postgres: stack.DatabaseServer, template_database: str) -> Iterator[str]:
    """A database for all tests that change nothing but rows."""
    with stack.new_database(postgres, template_database) as url:
        yield url


@pytest.fixture
def rows(shared_database_url: str) -> Iterator[Rows]:
    """A database without a row in it."""
    made = Rows(shared_database_url)
    made.empty()
    yield made
    made.close()


@pytest.fixture
def own_rows(database_url: str) -> Iterator[Rows]:
    """A database of this test's own, whose tables it may change, and whose statistics begin at nothing."""
    made = Rows(database_url)
    yield made
    made.close()
