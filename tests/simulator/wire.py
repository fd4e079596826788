"""HTTP/1.1 as bytes: reading requests and writing answers, as little of it as OAuth clients need.

Clients repeat the same head in every request, byte for byte, so parsed heads are remembered.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote_plus

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
_MOST_HEADS_REMEMBERED = 2048

JSON = b"application/json"
FORM = b"application/x-www-form-urlencoded"
HTML = b"text/html; charset=utf-8"


class BadRequest(Exception):
    """The bytes are no request that this server reads; the connection is closed after a 400."""


class Head(NamedTuple):
    """A request without its body. Header names are in lower case."""

    method: str
    path: tuple[str, ...]
    query: str
    headers: dict[str, str]
    content_length: int
    keep_alive: bool


class Request(NamedTuple):
    """A complete request."""

    head: Head
    body: bytes

    def form(self) -> dict[str, str]:
        """The parameters of the query and of the urlencoded body, the body's winning."""
        parameters = parse_form(self.head.query) if self.head.query else {}
        if self.body:
            parameters.update(parse_form(self.body.decode("utf-8", "replace")))
        return parameters


_heads: dict[bytes, Head] = {}


def read_request(data: bytes) -> tuple[Request | None, int]:
    """Read one request from the start of the data.

    Returns:
        The request and the number of bytes it took, or (None, 0) when more bytes are needed.

    Raises:
        BadRequest: the data cannot become a request.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > MAX_HEAD:
            raise BadRequest("head too large")
        return None, 0
    raw = data[:end]
    head = _heads.get(raw)
    if head is None:
        head = parse_head(raw)
        if len(_heads) >= _MOST_HEADS_REMEMBERED:
            _heads.clear()
        _heads[raw] = head
    start = end + 4
    if not head.content_length:
        return Request(head, b""), start
    stop = start + head.content_length
    if len(data) < stop:
        return None, 0
    return Request(head, data[start:stop]), stop


def wants_continue(data: bytes) -> bool:
    """Whether the head is complete and asks to be told to go on before the body is sent."""
    end = data.find(b"\r\n\r\n")
    return end >= 0 and len(data) == end + 4 and b"100-continue" in data[:end].lower()


def parse_head(raw: bytes) -> Head:
    """Parse a request line and header fields.

    Raises:
        BadRequest: malformed, chunked or too large.
    """
    lines = raw.decode("latin-1").split("\r\n")
    try:
        method, target, version = lines[0].split(" ")
    except ValueError:
        raise BadRequest("malformed request line") from None
    if "://" in target:
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    path, _, query = target.partition("?")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest("malformed header field")
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise BadRequest("chunked bodies are not read")
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY:
        raise BadRequest("bad content length")
    connection = headers.get("connection", "").lower()
    keep_alive = "keep-alive" in connection if version == "HTTP/1.0" else "close" not in connection
    return Head(method, tuple(path.strip("/").split("/")), query, headers, int(length), keep_alive)


def parse_form(text: str) -> dict[str, str]:
    """Decode `a=1&b=2`; of a repeated name the last value counts."""
    parameters = {}
    for piece in text.split("&"):
        name, _, value = piece.partition("=")
        if "%" in piece or "+" in piece:
            name, value = unquote_plus(name), unquote_plus(value)
        parameters[name] = value
    return parameters


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status.value: _status_line(status.value) for status in HTTPStatus}


def write_answer(status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> bytes:
    """One answer as bytes. `extra` is further header lines, each ending in CRLF."""
    line = _STATUS_LINES.get(status) or _status_line(status)
    return b"%sContent-Type: %s\r\nCache-Control: no-store\r\n%sContent-Length: %d\r\n\r\n%s" % (
        line,
        content_type,
        extra,
        len(body),
        body,
    )
