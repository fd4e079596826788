"""What every test can ask for. Nothing is started before a test asks."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator

import hypothesis
import pytest
import structlog
from redis import Redis

from tests.peers.oidc import OidcPeer
from tests.support import stack

hypothesis.settings.register_profile("busy", deadline=None)  # nothing is late on a machine with other things to do
hypothesis.settings.load_profile("busy")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts into the background deaf to Ctrl-C, and so would be every process that we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
stack.keep_servers_in_memory()


def pytest_collection_finish() -> None:
    """What has been collected stays: looking through half a million objects for garbage takes half a second."""
    gc.freeze()


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """Logs as they are before anybody has a say: workers and commands, run in this process, each have theirs."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgres() -> Iterator[stack.DatabaseServer]:
    """A PostgreSQL server, one for each test process."""
    with stack.database_server() as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres: stack.DatabaseServer) -> Iterator[str]:
    """The name of a database with the newest schema; do not connect to it."""
    with stack.template_database(postgres) as name:
        yield name


@pytest.fixture
def database_url(postgres: stack.DatabaseServer, template_database: str) -> Iterator[str]:
    """A database of this test's own with the newest schema."""
    with stack.new_database(postgres, template_database) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(postgres: stack.DatabaseServer, template_database: str) -> Iterator[str]:
    """One that a module's tests share."""
    with stack.new_database(postgres, template_database) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres: stack.DatabaseServer) -> Iterator[str]:
    """A database of this test's own with nothing in it."""
    with stack.new_database(postgres) as url:
        yield url


@pytest.fixture(scope="session")
def redis_server() -> Iterator[stack.RedisServer]:
    """A Redis server, one for each test process."""
    with stack.redis_server() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: stack.RedisServer) -> str:
    """A Redis database with nothing in it."""
    with Redis.from_url(redis_server.url) as redis:
        redis.flushdb()
    return redis_server.url


@pytest.fixture(scope="session")
def oidc_peer() -> Iterator[OidcPeer]:
    """An authorization server that nobody here wrote, one for each test process."""
    with OidcPeer() as peer:
        yield peer
