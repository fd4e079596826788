"""The server loop: one thread, one selector, keep-alive connections, answers that may be late, dripping or never.

It knows nothing about OAuth. In each round it reads what has arrived, lets the application answer, calls `commit`
once, and only then sends. That order is what makes the journal trustworthy.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

from tests.simulator.wire import BadRequest, Request, read_request, wants_continue, write_answer

Ending = Literal["keep", "close", "reset"]
_DRIPS = 20
_RESET = struct.pack("ii", 1, 0)
_READ_SIZE = 16 * 1024  # larger ones are mapped anew by malloc at every call, which costs 10 µs


class Reply:
    """An answer and how it is to reach the client, or not.

    Args:
        payload: the bytes to send, possibly none.
        event: id of the journal event whose loss matters, 0 when nothing was processed.
        delay: seconds to hold the answer back.
        drip: seconds over which the bytes are spread.
        ending: what becomes of the connection afterwards.
        resume: asked for the real reply once `delay` is over, so that processing itself is late.
    """

    __slots__ = ("delay", "drip", "ending", "event", "payload", "resume")

    def __init__(
        self,
        payload: bytes,
        event: int = 0,
        delay: float = 0.0,
        drip: float = 0.0,
        ending: Ending = "keep",
        resume: Callable[[], Reply] | None = None,
    ) -> None:
        self.payload = payload
        self.event = event
        self.delay = delay
        self.drip = drip
        self.ending = ending
        self.resume = resume


class Application(Protocol):
    """What the loop serves."""

    def answer(self, request: Request) -> Reply:
        """Process one request."""

    def commit(self) -> None:
        """Make everything processed so far durable; answers are sent after this returns."""

    def undelivered(self, event: int, reason: str) -> None:
        """Learn that the answer belonging to that event did not reach its client."""


class Connection:
    """One client connection; at most one answer is under way at a time."""

    __slots__ = ("buffer", "busy", "closed", "ending", "event", "out", "socket", "writing")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.buffer = b""
        self.out = b""
        self.busy = False
        self.closed = False
        self.writing = False
        self.ending: Ending = "keep"
        self.event = 0


class Loop:
    """Accepts, reads, answers, sends, until `stop`."""

    def __init__(self, application: Application, host: str = "127.0.0.1", port: int = 0) -> None:
        """Bind and listen; connections are accepted once `run` is called. Port 0 picks a free one."""
        self._application = application
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server((host, port), backlog=1024)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._bell, self._bell_rope = socket.socketpair()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._touched: list[Connection] = []
        self._connections: set[Connection] = set()
        self._running = True
        self.host, self.port = self._listener.getsockname()[:2]

    def watch(self, fileobj: socket.socket | int) -> None:
        """Stop as soon as this becomes readable, for instance standard input at its end."""
        self._selector.register(fileobj, selectors.EVENT_READ)

    def stop(self) -> None:
        """End `run` soon; callable from any thread and from signal handlers."""
        self._running = False
        with contextlib.suppress(OSError):
            self._bell_rope.send(b"x")

    def run(self) -> None:
        """Serve until stopped, then close every connection and record the answers still held back as lost."""
        try:
            while self._running:
                self._round()
        finally:
            for connection in list(self._connections):
                self._close(connection, "server stopped" if connection.busy or connection.out else None)
            self._application.commit()
            for sock in (self._listener, self._bell, self._bell_rope):
                sock.close()
            self._selector.close()

    def _round(self) -> None:
        timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for key, mask in self._selector.select(timeout):
            connection = key.data
            if connection is not None:
                if mask & selectors.EVENT_READ:
                    self._read(connection)
                else:
                    self._touched.append(connection)
            elif key.fileobj is self._listener:
                self._accept()
            else:
                self._running = False
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()
        self._application.commit()
        touched, self._touched = self._touched, []
        for connection in touched:
            self._send(connection)

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + delay, next(self._order), action))

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # nobody left in the queue, or no descriptor left for them
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock)
            self._connections.add(connection)
            self._selector.register(sock, selectors.EVENT_READ, connection)

    def _read(self, connection: Connection) -> None:
        if connection.closed:
            return
        try:
            data = connection.socket.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self._close(connection, "reset by the client")
            return
        if not data:
            # The client's kernel answers bytes for a vanished process with RST, which shows as a pending error here.
            failed = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            unsent = connection.busy or connection.out
            self._close(connection, "closed by the client" if unsent or failed else None)
            return
        if not connection.busy and not connection.out:
            connection.event = 0  # whoever sends more has had the answer before
        connection.buffer = connection.buffer + data if connection.buffer else data
        if not connection.busy:
            self._process(connection)

    def _process(self, connection: Connection) -> None:
        while connection.buffer and not connection.busy and connection.ending == "keep":
            try:
                request, size = read_request(connection.buffer)
            except BadRequest as error:
                connection.ending = "close"
                self._queue(connection, write_answer(400, str(error).encode(), b"text/plain"))
                return
            if request is None:
                if wants_continue(connection.buffer):
                    self._queue(connection, b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            connection.buffer = connection.buffer[size:]
            reply = self._ask(partial(self._application.answer, request))
            if not request.head.keep_alive and reply.ending == "keep":
                reply.ending = "close"
            self._deliver(connection, reply)

    def _ask(self, question: Callable[[], Reply]) -> Reply:
        try:
            return question()
        except Exception:  # noqa: BLE001  # a bug in here must be seen, and must not end a run of hours
            traceback.print_exc(file=sys.stderr)
            return Reply(write_answer(500, b"the simulator itself failed, see its standard error", b"text/plain"))

    def _deliver(self, connection: Connection, reply: Reply) -> None:
        connection.event = reply.event
        if reply.delay > 0:
            connection.busy = True
            delay, reply.delay = reply.delay, 0.0
            self._later(delay, lambda: self._deliver_late(connection, reply))
            return
        connection.ending = reply.ending
        if reply.drip > 0:
            connection.busy = True
            self._drip(connection, reply.payload, reply.drip / _DRIPS, -(-len(reply.payload) // _DRIPS))
            return
        connection.busy = False
        self._queue(connection, reply.payload)

    def _deliver_late(self, connection: Connection, reply: Reply) -> None:
        if reply.resume is not None:  # processing happens even when nobody is waiting any more
            ending, reply = reply.ending, self._ask(reply.resume)
            if reply.ending == "keep":
                reply.ending = ending
            if connection.closed and reply.event:
                self._application.undelivered(reply.event, "closed by the client")
                self._application.commit()
        if not connection.closed:
            self._deliver(connection, reply)
            if not connection.busy:
                self._process(connection)

    def _drip(self, connection: Connection, payload: bytes, pause: float, size: int) -> None:
        if connection.closed:
            return
        rest = payload[size:]
        connection.busy = bool(rest)
        self._queue(connection, payload[:size])
        if rest:
            self._later(pause, lambda: self._drip(connection, rest, pause, size))

    def _queue(self, connection: Connection, payload: bytes) -> None:
        connection.out = connection.out + payload if connection.out else payload
        self._touched.append(connection)

    def _send(self, connection: Connection) -> None:
        if connection.closed:
            return
        out = connection.out
        if out:
            try:
                sent = connection.socket.send(out)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._close(connection, "reset by the client")
                return
            connection.out = out = out[sent:] if sent < len(out) else b""
        if bool(out) != connection.writing:
            connection.writing = bool(out)
            mask = selectors.EVENT_READ | selectors.EVENT_WRITE if out else selectors.EVENT_READ
            self._selector.modify(connection.socket, mask, connection)
        if not out and not connection.busy and connection.ending != "keep":
            self._close(connection, None)

    def _close(self, connection: Connection, lost_because: str | None) -> None:
        if connection.closed:
            return
        connection.closed = True
        self._connections.discard(connection)
        self._selector.unregister(connection.socket)
        if connection.ending == "reset":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.socket.close()
        if lost_because and connection.event:
            self._application.undelivered(connection.event, lost_because)
            self._application.commit()
