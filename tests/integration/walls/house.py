"""A house whose database is entered by roles that own nothing: one of a web app, one of a worker, one of an auditor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from tests.integration.house import House
from tests.simulator import Steering
from tests.support import stack

PARTS = ("web", "worker", "auditor")


def as_role(role: str, url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}:word@{parts.netloc.rpartition('@')[2]}"))


@contextmanager
def new_roles(postgres: stack.DatabaseServer) -> Iterator[dict[str, str]]:
    """Roles that may log in, and nothing else; databases that know them are gone when they go."""
    names = {part: f"{part}_{uuid4().hex[:8]}" for part in PARTS}
    with psycopg.connect(postgres.url, autocommit=True) as session:
        for name in names.values():
            session.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'word'").format(sql.Identifier(name)))
    yield names
    with psycopg.connect(postgres.url, autocommit=True) as session:
        for name in names.values():
            session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


class WalledHouse(House):
    """A house whose vault and worker each connect as a role of their kind."""

    def __init__(self, database_url: str, simulator: Steering, home: Path, roles: Mapping[str, str]) -> None:
        super().__init__(database_url, simulator, home)
        self.urls = {part: as_role(role, database_url) for part, role in roles.items()}
        owner = self.another_worker()
        for part, role in roles.items():
            owner.grant_rights(role, part)
        self.environment["VAULT_DATABASE_URL"] = self.urls["web"]
        assert self.vault  # made with the rights of a web app
        self.environment["VAULT_DATABASE_URL"] = self.urls["worker"]
