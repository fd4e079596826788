"""The servers that tests run against, and a database of its own for each test.

One PostgreSQL and one Redis per test process, started on first use, their files in memory where there is room. The
schema is built once, in a template; the database of a test is a copy of it, five hundred files: some hundredths of a
second in memory, some tenths on a disk that has other things to do. With ``VAULT_TEST_DATABASE_URL`` (or
``VAULT_DATABASE_URL``) and ``VAULT_TEST_REDIS_URL`` nothing is started and the given servers are used: databases are
created beside the given one and dropped again, the given Redis database is flushed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psutil
import psycopg
from psycopg import sql

from vault.secret import Secret
from vault.store.engine import Database
from vault.store.schema import Schema
from vault.testing.servers import EmbeddedPostgres, EmbeddedRedis

MEMORY: Final = Path("/dev/shm")  # nobody's secrets: the servers make directories of their own in it
ROOM: Final = 4 << 30
"""Bytes that must be free before we take any: the servers of a test run hold some hundreds of millions."""
SMALL_LOG: Final = {"min_wal_size": "32MB", "max_wal_size": "128MB"}
COPY_FILES: Final = sql.SQL("STRATEGY file_copy")
"""Quicker where a checkpoint costs nothing, as in a server of our own; elsewhere PostgreSQL knows better."""


class DatabaseServer(Protocol):
    """A PostgreSQL server on which tests may create databases."""

    @property
    def url(self) -> str:
        """Where to connect in order to create and drop databases."""
        ...

    def url_for(self, database: str) -> str:
        """The URL of another database of the server."""
        ...


class RedisServer(Protocol):
    """A server that speaks the Redis protocol, all of whose data may go."""

    @property
    def url(self) -> str:
        """Where to connect."""
        ...


class GivenServer:
    """A server somebody else runs."""

    def __init__(self, url: str) -> None:
        self.url = url

    def url_for(self, database: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))


def keep_servers_in_memory() -> None:
    """Have every process started from here put its temporary directories there, if there is room; ours stay."""
    tempfile.gettempdir()  # is asked once, and remembered: programs do not run everywhere from memory
    if (
        "TMPDIR" not in os.environ
        and os.access(MEMORY, os.W_OK)
        and min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) > ROOM
    ):
        os.environ["TMPDIR"] = str(MEMORY)


@contextmanager
def database_server() -> Iterator[DatabaseServer]:
    """The PostgreSQL given by the environment, or else one of our own that forgets everything at the end."""
    given = os.environ.get("VAULT_TEST_DATABASE_URL") or os.environ.get("VAULT_DATABASE_URL")
    if given:
        scheme, _, rest = given.partition("://")
        yield GivenServer(f"{scheme.split('+')[0]}://{rest}")  # without SQLAlchemy's driver name
    else:
        with EmbeddedPostgres.start(options=SMALL_LOG) as server:
            yield server


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """The Redis given by the environment, or else one of our own that forgets everything at the end."""
    given = os.environ.get("VAULT_TEST_REDIS_URL")  # never VAULT_REDIS_URL: what it names is in use, and we flush
    if given:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
        yield GivenServer(GivenServer(given).url_for(str(int(worker) % 16)))  # a database of its own for each process
    else:
        with EmbeddedRedis.start() as server:
            yield server


@contextmanager
def template_database(server: DatabaseServer) -> Iterator[str]:
    """A database with the schema and nothing else, to copy from."""
    with new_database(server) as url:
        build_schema(url)
        yield urlsplit(url).path.removeprefix("/")


@contextmanager
def new_database(server: DatabaseServer, template: str = "template0") -> Iterator[str]:
    """The URL of a fresh database, dropped afterwards together with whoever is still connected to it."""
    database = f"evergrant_test_{uuid4().hex[:12]}"
    name = sql.Identifier(database)
    how = COPY_FILES if isinstance(server, EmbeddedPostgres) else sql.SQL("")
    _administer(server, sql.SQL("CREATE DATABASE {} TEMPLATE {} {}").format(name, sql.Identifier(template), how))
    try:
        yield server.url_for(database)
    finally:
        _administer(server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def build_schema(url: str) -> None:
    """Bring an empty database to the newest schema, and leave no connection to it behind."""
    database = Database(Secret(url))
    try:
        Schema(database).upgrade()
    finally:
        database.dispose()


def _administer(server: DatabaseServer, statement: sql.Composed) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(statement)
