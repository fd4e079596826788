"""What every test of the store starts from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.store.rows import Rows


@pytest.fixture
def rows(database_url: str) -> Iterator[Rows]:
    """The rows of a fresh database."""
    made = Rows(database_url)
    yield made
    made.close()
