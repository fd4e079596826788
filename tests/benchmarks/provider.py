"""A token endpoint that costs next to nothing: `python -m tests.benchmarks.provider`.

The engine must be what is measured, so this is no provider but the cheapest thing that looks like one: every refresh
token is good, and answered with new tokens after the latency it was told by `POST /latency/<milliseconds>`. For a
provider with rules, see `tests.simulator`.
"""

from __future__ import annotations

import contextlib
import gc
import selectors
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

_CHECKOUT = Path(__file__).resolve().parents[2]
_BODY = (
    b'{"access_token":"ya29.%016x' + b"a" * 200 + b'","expires_in":3600,"refresh_token":"1//%016x' + b"r" * 84 + b'",'
    b'"scope":"read","token_type":"Bearer"}'
)
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_BODY % (0, 0)) + _BODY
)


class TokenEndpoint:
    """One thread, one selector. Answers wait in the order they came, since the latency is the same for all of them."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._waiting: deque[tuple[float, socket.socket]] = deque()
        self._unread: dict[socket.socket, bytes] = {}
        self._latency = 0.0
        self._count = 0

    def serve(self, lifeline: int) -> None:
        """Answer until the file descriptor `lifeline` reaches its end, as a pipe does when its other side is gone."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(lifeline, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select(self._pause()):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._receive(key.fileobj)
                else:
                    return
            self._answer_due()

    def _pause(self) -> float | None:
        return max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                peer, _ = self._listener.accept()
                peer.setblocking(False)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(peer, selectors.EVENT_READ)

    def _receive(self, peer: socket.socket) -> None:
        try:
            data = peer.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(peer)
            self._unread.pop(peer, None)
            peer.close()
            return
        if self._unread:
            data = self._unread.pop(peer, b"") + data
        end = data.find(b"\r\n\r\n")
        if end < 0 or len(data) < end + 4 + _content_length(data):
            self._unread[peer] = data
        elif data.startswith(b"POST /latency/"):
            self._latency = int(data[14:].split(None, 1)[0]) / 1000
            self._answer(peer)
        elif self._latency:
            self._waiting.append((time.monotonic() + self._latency, peer))
        else:
            self._answer(peer)

    def _answer_due(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            self._answer(self._waiting.popleft()[1])

    def _answer(self, peer: socket.socket) -> None:
        self._count += 1
        with contextlib.suppress(OSError):
            peer.send(_ANSWER % (self._count, self._count))


def _content_length(data: bytes) -> int:
    at = data.find(b"ontent-Length: ")
    if at < 0:
        at = data.lower().find(b"ontent-length: ")
    return int(data[at + 15 : data.index(b"\r\n", at)]) if at >= 0 else 0


class ProviderProcess:
    """The endpoint in a process of its own, which ends when its parent does."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.provider"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_CHECKOUT)
        assert self.process.stdout is not None
        self.base_uri = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        self.token_uri = f"{self.base_uri}/token"

    def set_latency(self, milliseconds: int) -> None:
        """Hold back every answer from now on so long."""
        request = urllib.request.Request(f"{self.base_uri}/latency/{milliseconds}", data=b"x")
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()

    def close(self) -> None:
        """End the process."""
        self.process.communicate(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


if __name__ == "__main__":
    gc.disable()  # it makes no cycles
    endpoint = TokenEndpoint()
    print(endpoint.port, flush=True)
    endpoint.serve(sys.stdin.fileno())
