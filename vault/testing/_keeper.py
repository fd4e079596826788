"""The keeper: a small process that owns one embedded server and outlives nobody.

Started by ``_process.Keeper`` as ``python -I -S _keeper.py``, never imported. It is the parent of the server and holds
the read end of a pipe whose only write end is with the owner. When that end closes, for whatever reason (a clean exit,
an exception, Ctrl-C, ``kill -9``), the keeper stops the server, removes the temporary directories and ends.

Why not ``PR_SET_PDEATHSIG`` alone: it fires when the *thread* that forked ends, it is lost when the server changes its
user, macOS has none, and nobody would be left to remove the directories. Here it is the second belt: the keeper has one
thread, so on Linux a ``kill -9`` of the keeper itself still takes the server down.

Protocol: the first argument is the specification in JSON (``home`` or null, ``stop``: signals with their patience in
seconds). The keeper answers with the directories it holds, or that the home is taken. From then on one JSON object a
line: ``do`` = ``run`` | ``start`` | ``stop`` | ``crash`` | ``signal`` | ``status``, and exactly one line back.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

POLL = 0.02  # seconds between two looks at something that has no descriptor to wait on
PATH_MAX = 60  # characters of a temporary directory: a socket in it must fit into 104 bytes (macOS; 108 on Linux)
LOCK_WAIT = 20.0  # seconds granted to the keeper of a killed owner to shut its server down
KILL_WAIT = 10.0  # seconds until a process tree that got SIGKILL must be gone
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class OwnerGone(Exception):
    """The owner closed its end of the pipe, or somebody asked the keeper to end."""


class ServerKeeper:
    """One server, its directories, and the pipe to the owner."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._stop_signals: list[tuple[int, float]] = spec["stop"]
        self._unread = b""
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        if self._libc is not None:
            # Orphaned children of a killed server come to us, so that we can reap them: PID 1 of a container may not.
            self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._server: int | None = None
        self._command: int | None = None
        self._exit_code = 0
        # SIGCHLD wakes select(), so that a server that ends by itself is reaped at once and does not stay a zombie.
        self._wake, wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._leave)
        # Made here and not by the owner: there is no instant at which a killed owner could leave it behind.
        parent = tempfile.gettempdir()
        if len(parent) > PATH_MAX:
            parent = "/tmp"  # noqa: S108  # mkdtemp makes the directory itself, unguessable and 0700
        self._scratch = Path(tempfile.mkdtemp(prefix="evergrant-", dir=parent))
        self._home = Path(spec["home"] or self._scratch / "home")

    def serve(self) -> None:
        """Answer the owner until it is gone, then leave nothing behind."""
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            (self._home / "log").write_bytes(b"")
            self._reply({"home": str(self._home), "scratch": str(self._scratch)})
            while True:
                order = self._read()
                self._reply(getattr(self, f"do_{order.pop('do')}")(**order))
        except (OwnerGone, BrokenPipeError):
            pass
        except OSError as error:
            self._reply({"error": str(error)})
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self.do_stop()
            shutil.rmtree(self._scratch, ignore_errors=True)

    def do_run(self, argv: list[str], env: dict[str, str]) -> dict[str, Any]:
        """Run a short command to its end; the owner's death cuts it short."""
        self._command = self._spawn(argv, env)
        while self._command is not None:
            if self._readable(POLL):
                raise OwnerGone  # the owner waits for our answer: only the end of the pipe can be there
            self._reap()
        return {"code": self._exit_code}

    def do_start(self, argv: list[str], env: dict[str, str]) -> dict[str, Any]:
        """Start the server; whether it is ready is for the owner to find out."""
        self._server = self._spawn(argv, env)
        return {"pid": self._server}

    def do_status(self) -> dict[str, Any]:
        """The server's pid, or null when it has ended."""
        self._reap()
        return {"pid": self._server}

    def do_signal(self, number: int) -> dict[str, Any]:
        """Send a signal to the server and to all its children (to freeze and to thaw it)."""
        for pid in self._tree():
            self._kill(pid, number)
        return {}

    def do_stop(self) -> dict[str, Any]:
        """Ask the server to end, ever less politely; afterwards none of its processes exist."""
        server = self.do_status()["pid"]
        if server is not None:
            self.do_signal(signal.SIGCONT)
            for number, patience in self._stop_signals:
                self._kill(server, number)
                if self._wait_gone([server], patience):
                    break
        return self.do_crash()

    def do_crash(self) -> dict[str, Any]:
        """SIGKILL the server and all its children, and wait until they are gone."""
        if self._server is not None:
            self._kill(self._server, signal.SIGSTOP)  # so that it does not answer the first death with a new child
        deadline = time.monotonic() + KILL_WAIT
        while (members := self._tree()) and time.monotonic() < deadline:
            for pid in members:
                self._kill(pid, signal.SIGKILL)
            self._wait_gone(members, 0.2)
        self._server = None
        return {}

    def _spawn(self, argv: list[str], env: dict[str, str]) -> int:
        pid = os.fork()
        if pid == 0:
            self._become(argv, env)
        return pid

    def _become(self, argv: list[str], env: dict[str, str]) -> NoReturn:
        """In the fresh child: turn into the command, or end with 127."""
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored survives exec
            if self._libc is not None:
                self._libc.prctl(PR_SET_PDEATHSIG, self._stop_signals[0][0], 0, 0, 0)
            log = os.open(self._home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(self._home)
            os.execve(argv[0], argv, env)  # noqa: S606  # what the owner, our parent, told us to run
        except BaseException as error:  # noqa: BLE001  # whatever it is, a fork must not return
            with contextlib.suppress(OSError):
                os.write(2, f"{argv[0]}: {error}\n".encode())
        os._exit(127)

    def _take_lock(self) -> None:
        """Hold the home for as long as we live: two servers on one directory would ruin it."""
        lock = os.open(self._home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + LOCK_WAIT
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._readable(POLL):
                    raise OwnerGone from None
                if time.monotonic() > deadline:
                    raise OSError(f"{self._home} is in use by another process") from None

    def _tree(self) -> list[int]:
        """The server first, then every other process that descends from it or from us."""
        parents = _parents()
        found = [self._server] if self._server in parents else []
        frontier = {os.getpid(), *found}
        while frontier:
            frontier = {pid for pid, parent in parents.items() if parent in frontier} - set(found)
            found.extend(sorted(frontier))
        return [pid for pid in found if not self._gone(pid)]

    def _gone(self, pid: int) -> bool:
        """Whether a process has ended, zombies of ours included."""
        self._reap()
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._command:
                    self._command, self._exit_code = None, os.waitstatus_to_exitcode(ended[1])
                elif ended[0] == self._server:
                    self._server = None

    def _wait_gone(self, pids: list[int], patience: float) -> bool:
        deadline = time.monotonic() + patience
        while not all(self._gone(pid) for pid in pids):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL / 4)
        return True

    @staticmethod
    def _kill(pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

    def _readable(self, timeout: float | None) -> bool:
        ready, _, _ = select.select([0, self._wake], [], [], timeout)
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 512)
            self._reap()
        return 0 in ready

    def _read(self) -> dict[str, Any]:
        while b"\n" not in self._unread:
            if self._readable(None):
                chunk = os.read(0, 65536)
                if not chunk:
                    raise OwnerGone
                self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        order: dict[str, Any] = json.loads(line)
        return order

    @staticmethod
    def _reply(answer: dict[str, Any]) -> None:
        os.write(1, json.dumps(answer).encode() + b"\n")

    @staticmethod
    def _leave(*_: object) -> None:
        raise OwnerGone


def _parents() -> dict[int, int]:
    """Every process and its parent, from /proc where there is one, else from ps(1)."""
    if not Path("/proc/self/stat").exists():
        ps = ["/bin/ps", "-A", "-o", "pid=,ppid="]
        listing = subprocess.run(ps, capture_output=True, text=True, check=False).stdout  # noqa: S603  # fixed words
        return {int(pid): int(parent) for pid, parent in (line.split() for line in listing.splitlines())}
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):  # it may end while we read
                # "pid (any name, even with brackets) state parent …"
                parents[int(entry.name)] = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
    return parents


if __name__ == "__main__":
    os.umask(0o077)
    with contextlib.suppress(OwnerGone):
        ServerKeeper(json.loads(sys.argv[1])).serve()
