"""An app that is told of events: a small HTTP server that remembers every request, and misbehaves as it is told."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self

HUGE = 1 << 20


class Received(NamedTuple):
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None: ...


class Receiver:
    """Answers on paths of its own; what is not said is 204."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.at_once: defaultdict[str, int] = defaultdict(int)
        """How many requests of a path were being answered at a time, at most."""
        self._now: defaultdict[str, int] = defaultdict(int)
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def at(self, path: str) -> list[Received]:
        return [each for each in self.received if each.path == path]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with receiver._lock:
                    receiver.received.append(Received(self.path, headers, body))
                    receiver._now[self.path] += 1
                    receiver.at_once[self.path] = max(receiver.at_once[self.path], receiver._now[self.path])
                try:
                    receiver.answers.get(self.path, status(204))(self)
                except OSError:
                    self.close_connection = True
                finally:
                    with receiver._lock:
                        receiver._now[self.path] -= 1

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: object) -> None: ...

        return Handler


def status(code: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer with this."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def slowly(seconds: float) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer later."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        status(204)(handler)

    return answer


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Drop the connection without a word."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True
