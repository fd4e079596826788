"""A proxy in front of a KMS that speaks HTTP: it passes calls on, and makes trouble exactly when told to.

    with FaultProxy("127.0.0.1:5000", AwsDialect()) as kms:
        kms.latency = 0.02                                       # every call, from now on
        with kms.trouble(Answer(503), operation="Decrypt", value="acme"):
            ...
        assert kms.calls["Decrypt"] == 3

Real sockets on both sides. What a request asks for is read by a ``Dialect``, one for each kind of KMS.
"""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Final, Literal, NamedTuple, Protocol

_PATIENCE_S = 30.0
_HOP_BY_HOP = frozenset({"connection", "content-length", "date", "host", "server", "transfer-encoding"})


class Request(NamedTuple):
    """A request as it came in; the names of headers are in small letters."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Asked(NamedTuple):
    """What a request asks for, as far as its KMS has such a thing."""

    operation: str
    key: str = ""
    region: str = ""
    context: Mapping[str, str] = {}


class Answer(NamedTuple):
    """An answer as it goes out."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Dialect(Protocol):
    """How one kind of KMS is spoken to."""

    def read(self, request: Request) -> Asked:
        """Say what a request asks for."""

    def onward(self, request: Request, asked: Asked) -> Request:
        """Say what the stand-in behind the proxy is asked instead."""

    def back(self, answer: Answer, request: Request, asked: Asked) -> Answer:
        """Turn the stand-in's answer into the one the real KMS would give."""


Act = Answer | Literal["garbage", "pass", "reset", "truncate"]
"""Answer with this; or with what is no JSON; as ever; close the connection unanswered; half-way through the answer."""

GARBAGE: Final = Answer(200, b"<html>Welcome to the hotel's network!</html>", {"content-type": "text/html"})


@dataclass(eq=False)
class Trouble:
    """What is wrong, and for whom: what is left open fits everybody."""

    act: Act
    operation: str | None = None
    key: str | None = None
    """Part of the key's name, as it was asked for."""
    region: str | None = None
    value: str | None = None
    """One of the encryption context, such as a tenant."""
    delay: float = 0.0
    """Seconds before anything else happens."""
    times: int | None = None
    """So often, then no more."""

    def fits(self, asked: Asked) -> bool:
        return (
            self.times != 0
            and self.operation in (None, asked.operation)
            and (self.key is None or self.key in asked.key)
            and self.region in (None, asked.region)
            and (self.value is None or self.value in asked.context.values())
        )


@dataclass
class Seen:
    """A call that came in."""

    asked: Asked
    request: Request = field(repr=False)


class FaultProxy:
    """Listens on a free loopback port between ``with`` and its end, one thread for each connection."""

    def __init__(self, target: str, dialect: Dialect) -> None:
        """Nothing is opened yet.

        Args:
            target: ``HOST:PORT`` of the stand-in behind it.
            dialect: How it is spoken to.
        """
        self.target, self.dialect = target, dialect
        self.latency = 0.0
        """Seconds after which a call is answered, at the earliest."""
        self.seen: list[Seen] = []
        """Every call, answered or not, in the order in which they came."""
        self._troubles: list[Trouble] = []
        self._lock, self._closed = Lock(), Event()

    def __enter__(self) -> FaultProxy:
        self._server = _Server(self)
        self.port = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def calls(self) -> Counter[str]:
        """How often each operation was asked for."""
        return Counter(seen.asked.operation for seen in list(self.seen))

    @contextmanager
    def trouble(
        self,
        act: Act = "pass",
        *,
        operation: str | None = None,
        key: str | None = None,
        region: str | None = None,
        value: str | None = None,
        delay: float = 0.0,
        times: int | None = None,
    ) -> Iterator[Trouble]:
        """Make trouble for the calls that fit, until the block ends. The newest trouble comes first."""
        trouble = Trouble(act, operation, key, region, value, delay, times)
        with self._lock:
            self._troubles.insert(0, trouble)
        try:
            yield trouble
        finally:
            with self._lock:
                self._troubles.remove(trouble)

    def forget(self) -> None:
        """Forget the calls seen so far."""
        self.seen.clear()

    def _met(self, request: Request) -> tuple[Asked, Act, float]:
        """Take note of a call, and say what is to happen to it."""
        asked = self.dialect.read(request)
        with self._lock:
            self.seen.append(Seen(asked, request))
            trouble = next((each for each in self._troubles if each.fits(asked)), None)
            if trouble is None:
                return asked, "pass", 0.0
            if trouble.times is not None:
                trouble.times -= 1
            return asked, trouble.act, trouble.delay

    def _answer(self, request: Request, asked: Asked) -> Answer:
        onward = self.dialect.onward(request, asked)
        behind = HTTPConnection(self.target, timeout=_PATIENCE_S)
        try:
            behind.request(onward.method, onward.path, onward.body, dict(onward.headers))
            got = behind.getresponse()
            headers = {name.lower(): value for name, value in got.getheaders() if name.lower() not in _HOP_BY_HOP}
            return self.dialect.back(Answer(got.status, got.read(), headers), request, asked)
        finally:
            behind.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away, or a stand-in that did, is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16  # head and body of an answer leave together

    def _handle(self) -> None:
        begun, proxy = time.monotonic(), self.server.proxy
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = Request(self.command, self.path, headers, body)
        asked, act, delay = proxy._met(request)
        if delay and proxy._closed.wait(delay):
            return
        answer = proxy._answer(request, asked) if act in ("pass", "truncate") else act
        proxy._closed.wait(max(0.0, begun + proxy.latency - time.monotonic()))
        if answer == "reset":
            self._reset()
        else:
            self._send(GARBAGE if isinstance(answer, str) else answer, cut=act == "truncate")

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 - the names are the base class's

    def _send(self, answer: Answer, *, cut: bool) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
        self.wfile.flush()
        self.close_connection = cut

    def _reset(self) -> None:
        """Close so that the other side is told at once, and loses what it has not read."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """The tests look at ``seen``."""
