"""A house whose database is entered by roles that own nothing: one of a web app, one of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tests.integration.house import House
from tests.simulator import SimulatorProcess
from tests.support import stack
from vault.secret import Secret
from vault.store.engine import Database
from vault.store.rights import Rights


def as_role(role: str, url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}:word@{parts.netloc.rpartition('@')[2]}"))


@pytest.fixture(scope="module")
def roles(postgres: stack.DatabaseServer) -> Iterator[dict[str, str]]:
    """Roles that may log in, and nothing else; databases that know them are gone when they go."""
    names = {part: f"{part}_{uuid4().hex[:8]}" for part in ("web", "worker", "auditor")}
    with psycopg.connect(postgres.url, autocommit=True) as session:
        for name in names.values():
            session.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'word'").format(sql.Identifier(name)))
    yield names
    with psycopg.connect(postgres.url, autocommit=True) as session:
        for name in names.values():
            session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


class WalledHouse(House):
    """A house whose vault and worker each connect as a role of their kind."""

    urls: dict[str, str]


@pytest.fixture
def walled(
    roles: dict[str, str], database_url: str, simulator: SimulatorProcess, tmp_path: Path
) -> Iterator[WalledHouse]:
    built = WalledHouse(database_url, simulator, tmp_path)
    built.urls = {part: as_role(role, database_url) for part, role in roles.items()}
    owner = built.another_worker()
    for part, role in roles.items():
        owner.grant_rights(role, part)
    built.environment["VAULT_DATABASE_URL"] = built.urls["web"]
    assert built.vault  # made with the rights of a web app
    built.environment["VAULT_DATABASE_URL"] = built.urls["worker"]
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
