"""What surrounds every request: its id, its size, its time, its headers, and an answer whatever happens inside."""

from __future__ import annotations

import asyncio
import re
import sys
import time
import traceback
import uuid
from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vault import count_request
from vault.web.problems import Problem, of_request

MOST_BYTES: Final = 512 * 1024
"""Of a body: the longest value, with every character of it written as JSON would at its longest."""
BODY_TIME: Final = timedelta(seconds=20)
"""For a body to come in."""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
log = structlog.get_logger(__name__)


class Surroundings:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, access_log: bool) -> None:
        self._app, self._access_log = app, access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope["evergrant.request_id"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await _Exchange(self._app, scope, receive, send, request_id).run(everything=self._access_log)


class _Exchange:
    """One request and its answer."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self._app, self._scope, self._receive, self._send = app, scope, receive, send
        self._request_id, self._status = request_id, 0

    async def run(self, *, everything: bool) -> None:
        began = time.perf_counter()
        try:
            body = await self._body()
            await self._app(self._scope, _replayed(body, self._receive), self._answer)
        except Problem as problem:
            await self._instead(problem)
        except Exception as error:  # noqa: BLE001  # whatever it is: the caller gets an answer, the operator a line
            log.error("http.failed", error=type(error).__name__, at=_places(error))
            await self._instead(Problem("internal"))
        finally:
            route = getattr(self._scope.get("route"), "path", "none")
            seconds = time.perf_counter() - began
            count_request(route, self._status, seconds)
            if everything or self._status >= HTTPStatus.BAD_REQUEST:
                method, took = self._scope["method"], round(seconds * 1e3, 1)
                log.info("http.request", method=method, endpoint=route, status=self._status, ms=took)

    async def _body(self) -> bytes | None:
        """Read the whole body; None: there is none."""
        headers = Headers(scope=self._scope)
        length = headers.get("content-length", "")
        if self._scope["http_version"].startswith("1") and not (length or "transfer-encoding" in headers):
            return None  # HTTP/2 and later bring bodies without saying so before
        if length.isdecimal() and int(length[:12]) > MOST_BYTES:
            raise Problem("too_large", f"a body has {MOST_BYTES:,} bytes at most")
        read = bytearray()
        try:
            async with asyncio.timeout(BODY_TIME.total_seconds()):
                more = True
                while more:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise Problem("malformed")
                    read += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(read) > MOST_BYTES:
                        raise Problem("too_large", f"a body has {MOST_BYTES:,} bytes at most")
        except TimeoutError:
            raise Problem("slow") from None
        return bytes(read)

    async def _answer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-ID"] = self._request_id
        await self._send(message)

    async def _instead(self, problem: Problem) -> None:
        if not self._status:
            await of_request(self._request_id, problem)(self._scope, self._receive, self._answer)


def _replayed(body: bytes | None, receive: Receive) -> Receive:
    if body is None:
        return receive
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _places(error: BaseException) -> Sequence[str]:
    """Say where an error comes from; its message may hold what was sent, and is not told."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    root = sys.prefix
    return [f"{frame.filename.removeprefix(root)}:{frame.lineno}" for frame in frames]
