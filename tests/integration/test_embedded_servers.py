"""Embedded servers: they serve, they come back after a crash, and nothing of them outlives their owner."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from redis.exceptions import TimeoutError as RedisTimeout

from vault.testing import _binaries
from vault.testing.servers import EmbeddedPostgres, EmbeddedRedis, ServerError, find_postgres, find_redis

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0  # seconds until something that happens by itself counts as not happening

OWNER = """
import json, os, sys, time
from vault.testing.servers import EmbeddedPostgres, EmbeddedRedis
postgres, redis = EmbeddedPostgres.start(), EmbeddedRedis.start()
if "fork" in sys.argv and os.fork() == 0:
    time.sleep(3600)
keepers = [server._keeper._process.pid for server in (postgres, redis)]
homes = [str(server._keeper.scratch) for server in (postgres, redis)]
print(json.dumps({"pids": [postgres.pid, redis.pid, *keepers], "homes": homes}), flush=True)
if "raise" in sys.argv:
    raise RuntimeError("as tests do")
time.sleep(3600)
"""


def wait_until(claim: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not claim():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.02)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.startswith("Z")


def children(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in (line.split() for line in listing.splitlines()) if int(parent) == pid]


def run_python(program: str, *words: str, before: Sequence[str] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-c", program, *words],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )


def ask(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def durable() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres.start(durable=True) as server:
        ask(server.url, "CREATE TABLE kept (word text)")
        yield server


@pytest.fixture
def owners() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that own servers; what is left of them is killed."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for owner in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(owner.pid, signal.SIGKILL)
        owner.communicate()


# ------------------------------------------------------------------------------------------------------------ postgres


def test_postgres_is_reached_by_its_socket_alone_and_only_by_us(durable: EmbeddedPostgres) -> None:
    assert ask(durable.url, "SHOW listen_addresses") == [("",)]
    assert ask(durable.url, "SELECT current_user") == [("vault",)]
    socket = next(durable._keeper.scratch.glob(".s.PGSQL.*"))
    assert len(os.fsencode(socket)) < 104
    assert durable._keeper.scratch.stat().st_mode & 0o077 == 0


def test_what_was_committed_survives_a_crash_under_open_connections(durable: EmbeddedPostgres) -> None:
    sessions = [psycopg.connect(durable.url) for _ in range(5)]
    ask(durable.url, "INSERT INTO kept VALUES ('crash')")
    pid, family = durable.pid, children(durable.pid)
    durable.crash()
    assert not any(exists(member) for member in (pid, *family))
    with pytest.raises(psycopg.OperationalError):
        sessions[0].execute("SELECT 1")
    url = durable.url
    durable.restart()
    assert durable.url == url
    assert ask(url, "SELECT count(*) FROM kept WHERE word = 'crash'") == [(1,)]


def test_it_comes_back_after_somebody_else_killed_its_postmaster(durable: EmbeddedPostgres) -> None:
    session = psycopg.connect(durable.url)
    ask(durable.url, "INSERT INTO kept VALUES ('killed')")
    os.kill(durable.pid, signal.SIGKILL)
    durable.restart()
    assert ask(durable.url, "SELECT count(*) FROM kept WHERE word = 'killed'") == [(1,)]
    session.close()


def test_it_can_be_stopped_for_a_while(durable: EmbeddedPostgres) -> None:
    durable.stop()
    assert not durable.running
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(durable.url)
    durable.restart()
    assert durable.running
    assert ask(durable.url, "SELECT 1") == [(1,)]


def test_a_frozen_server_answers_nobody_until_it_thaws(durable: EmbeddedPostgres) -> None:
    durable.freeze()
    try:
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(durable.url, connect_timeout=2)
    finally:
        durable.thaw()
    assert ask(durable.url, "SELECT 1") == [(1,)]


def test_other_databases_have_urls_of_their_own(durable: EmbeddedPostgres) -> None:
    with psycopg.connect(durable.url, autocommit=True) as connection:
        connection.execute('CREATE DATABASE "with / and ?"')
    assert ask(durable.url_for("with / and ?"), "SELECT current_database()") == [("with / and ?",)]


def test_a_home_is_kept_and_an_interrupted_beginning_is_begun_again() -> None:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory, "postgres")
        (home / "data.new" / "base").mkdir(parents=True)
        with EmbeddedPostgres.start(home) as server:
            ask(server.url, "CREATE TABLE kept AS SELECT 7 AS seven")
        assert sorted(path.name for path in home.iterdir()) == ["data", "lock", "log"]
        with EmbeddedPostgres.start(home, options={"work_mem": "5MB"}) as server:
            assert ask(server.url, "SELECT seven, current_setting('work_mem') FROM kept") == [(7, "5MB")]
        (home / "data" / "PG_VERSION").write_text("9\n")
        with pytest.raises(ServerError, match=r"was made by PostgreSQL 9, .* or remove the directory"):
            EmbeddedPostgres.start(home)


def test_a_server_that_does_not_start_says_why_and_is_gone() -> None:
    with pytest.raises(ServerError, match="no_such_setting"):
        EmbeddedPostgres.start(options={"no_such_setting": "1"})


# --------------------------------------------------------------------------------------------------------------- redis


def test_redis_keeps_what_it_wrote_through_a_crash_and_comes_back_on_its_port() -> None:
    with EmbeddedRedis.start(options={"appendfsync": "always"}) as server:
        with Redis.from_url(server.url) as redis:
            assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            redis.set("word", "kept")
        pid, url = server.pid, server.url
        server.crash()
        assert not exists(pid)
        server.restart()
        assert server.url == url
        with Redis.from_url(url) as redis:
            assert redis.get("word") == b"kept"


def test_a_frozen_redis_answers_nobody_until_it_thaws() -> None:
    with EmbeddedRedis.start() as server, Redis.from_url(server.url, socket_timeout=0.2, retry=None) as redis:
        server.freeze()
        with pytest.raises(RedisTimeout):
            redis.ping()
        server.thaw()
        with Redis.from_url(server.url) as again:
            assert again.ping()
        server.freeze()  # and a frozen one can be closed all the same
    assert not exists(server.pid)


def test_a_port_that_is_taken_is_an_error_when_it_was_asked_for() -> None:
    with EmbeddedRedis.start() as server, pytest.raises(ServerError, match=r"(?i)address already in use"):
        EmbeddedRedis.start(port=server.port)


# --------------------------------------------------------------------------------------------------------------- owner


@pytest.mark.parametrize(
    ("words", "number"),
    [
        pytest.param([], signal.SIGKILL, id="kill -9"),
        pytest.param([], signal.SIGINT, id="Ctrl-C"),
        pytest.param(["fork"], signal.SIGKILL, id="kill -9, while a forked child lives on"),
        pytest.param(["raise"], None, id="exception"),
    ],
)
def test_nothing_outlives_the_owner(
    words: list[str], number: signal.Signals | None, owners: list[subprocess.Popen[str]]
) -> None:
    owner = run_python(OWNER, *words)
    owners.append(owner)
    assert owner.stdout is not None
    told = json.loads(owner.stdout.readline())
    everybody = [*told["pids"], *children(told["pids"][0])]
    if number is signal.SIGINT:
        os.killpg(owner.pid, number)  # as a terminal does
    elif number is not None:
        assert all(exists(pid) for pid in told["pids"])
        owner.send_signal(number)
    wait_until(lambda: not any(exists(pid) for pid in everybody), f"the end of {everybody}")
    wait_until(lambda: not any(Path(home).exists() for home in told["homes"]), "the end of the directories")


def test_the_home_of_a_killed_owner_is_free_for_the_next(owners: list[subprocess.Popen[str]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        owner = run_python(OWNER.replace(".start()", ".start(__import__('pathlib').Path(sys.argv[1]))", 1), directory)
        owners.append(owner)
        assert owner.stdout is not None
        owner.stdout.readline()
        owner.kill()
        with EmbeddedPostgres.start(Path(directory)) as server:
            assert ask(server.url, "SELECT 1") == [(1,)]


# ----------------------------------------------------------------------------------------------------- users, binaries

SERVE_ONCE = """
import os, psycopg
from vault.testing.servers import EmbeddedPostgres, EmbeddedRedis
with EmbeddedPostgres.start() as postgres, EmbeddedRedis.start():
    postgres.crash()
    postgres.restart()
    with psycopg.connect(postgres.url) as connection:
        print(os.geteuid(), os.stat(postgres.home / "data").st_uid, connection.execute("SELECT 1").fetchone()[0])
"""

# It may look into directories of root's, where this checkout or its Python may lie; apart from that, anybody.
ANYBODY = ("setpriv", "--clear-groups", "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search")
only_root = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")


@only_root
@pytest.mark.parametrize("uid", [65534, 54321], ids=["a user", "a uid without an entry in the password file"])
def test_an_ordinary_user_can_run_both(uid: int, owners: list[subprocess.Popen[str]]) -> None:
    if (
        uid == 54321
        and subprocess.run([*ANYBODY, f"--reuid={uid}", "unshare", "--user", "true"], check=False).returncode
    ):
        pytest.skip("user namespaces are forbidden here")
    owners.append(run_python(SERVE_ONCE, before=[*ANYBODY, f"--reuid={uid}", f"--regid={uid}"]))
    told, _ = owners[0].communicate(timeout=60)
    assert told.split() == [str(uid), str(uid), "1"]


@only_root
def test_root_without_user_namespaces_runs_postgres_as_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owners: list[subprocess.Popen[str]]
) -> None:
    (tmp_path / "setpriv").symlink_to(str(shutil.which("setpriv")))
    monkeypatch.setenv("PATH", str(tmp_path))  # no unshare
    owners.append(run_python(SERVE_ONCE))
    told, _ = owners[0].communicate(timeout=60)
    assert told.split() == ["0", "65534", "1"]


@pytest.mark.parametrize(
    ("find", "places", "remedies"),
    [
        (find_postgres, "_postgres_directories", ("evergrant[embedded]", "PATH", "VAULT_DATABASE_URL")),
        (find_redis, "_redis_binaries", ("evergrant[embedded]", "PATH", "VAULT_REDIS_URL")),
    ],
)
def test_a_machine_without_binaries_is_told_what_to_do(
    find: Callable[[], Path], places: str, remedies: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_binaries, places, list)
    with pytest.raises(ServerError) as told:
        find()
    assert all(remedy in str(told.value) for remedy in remedies)


@pytest.mark.parametrize(("find", "name"), [(find_postgres, "VAULT_POSTGRES_BIN"), (find_redis, "VAULT_REDIS_SERVER")])
def test_a_choice_that_does_not_exist_is_not_replaced_in_silence(
    find: Callable[[], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "/nowhere")
    with pytest.raises(ServerError, match=f"{name}=/nowhere"):
        find()
