"""Houses and databases that are entered by roles that own nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integration.walls.house import WalledHouse, new_roles
from tests.simulator import SimulatorProcess
from tests.support import stack
from vault.secret import Secret
from vault.store.engine import Database
from vault.store.rights import Rights


@pytest.fixture(scope="module")
def roles(postgres: stack.DatabaseServer) -> Iterator[dict[str, str]]:
    """Roles for a file's databases."""
    with new_roles(postgres) as names:
        yield names


@pytest.fixture
def walled(
    roles: dict[str, str], database_url: str, simulator: SimulatorProcess, tmp_path: Path
) -> Iterator[WalledHouse]:
    built = WalledHouse(database_url, simulator, tmp_path, roles)
    yield built
    built.close()


@pytest.fixture(scope="module")
def granted_url(postgres: stack.DatabaseServer, template_database: str, roles: dict[str, str]) -> Iterator[str]:
    """One database for a file, in which every role has its rights."""
    with stack.new_database(postgres, template_database) as url:
        database = Database(Secret(url))
        for part, role in roles.items():
            Rights(database).grant(role, part)
        database.dispose()
        yield url


@pytest.fixture(scope="module")
def granted(granted_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The owner's session in it."""
    with psycopg.connect(granted_url, autocommit=True) as session:
        yield session
