"""A house with an HTTP face for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.house import House
from tests.integration.web.front import Front, opened


@pytest.fixture
def front(house: House) -> Iterator[Front]:
    with opened(house) as made:
        yield made
