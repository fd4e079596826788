"""One request to a provider and its answer, within a time and a size, over a connection of its own.

A connection that was kept could die under a request that libcurl then sends again by itself; here whoever asks decides
that. Redirects are not followed: the credential that authorises the call would go along.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import pycurl

MAX_BODY: Final = 1024 * 1024
"""Bytes of an answer; lists of a hundred registrations have fewer."""
LONGEST_WAIT: Final = timedelta(days=1)
_FAILURES: Final[Mapping[object, str]] = {
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    pycurl.E_COULDNT_RESOLVE_HOST: "resolve",
    pycurl.E_COULDNT_CONNECT: "connect",
    pycurl.E_SSL_CONNECT_ERROR: "tls",
    pycurl.E_PEER_FAILED_VERIFICATION: "certificate",
    pycurl.E_WRITE_ERROR: "too_large",
    pycurl.E_FILESIZE_EXCEEDED: "too_large",
    pycurl.E_UNSUPPORTED_PROTOCOL: "refused_uri",
}


class Sent(NamedTuple):
    """A request, complete."""

    method: str
    url: str
    headers: tuple[str, ...]
    body: bytes | None

    def __repr__(self) -> str:
        """Show what has no secret in it."""
        return f"<{self.method} {self.url}>"


class Heard(NamedTuple):
    """An answer. ``status`` 0: none came, or not whole; ``failure`` says why."""

    status: int
    body: bytes
    retry_after: timedelta | None
    failure: str = ""

    def __repr__(self) -> str:
        """Show what has no secret in it."""
        return f"<{self.failure or self.status}, {len(self.body)} bytes>"


class Http:
    """Requests, one at a time; plain HTTP only to hosts that the operator named, for tests."""

    def __init__(self, insecure_hosts: Iterable[str], deadline: timedelta, authorities: Path | None = None) -> None:
        self._insecure_hosts, self._deadline = frozenset(insecure_hosts), deadline
        self._authorities = authorities

    def send(self, request: Sent) -> Heard:
        """Send a request once, and wait for its answer."""
        answer = _Answer()
        curl = pycurl.Curl()
        try:
            self._prepare(curl, request, answer)
            curl.perform()
            return Heard(curl.getinfo(pycurl.RESPONSE_CODE), bytes(answer.body), _wait(answer.headers, curl))
        except pycurl.error as error:
            return Heard(0, b"", None, _FAILURES.get(error.args[0], "no_answer"))
        finally:
            curl.close()

    def _prepare(self, curl: pycurl.Curl, request: Sent, answer: _Answer) -> None:
        allow_http = (urlsplit(request.url).hostname or "") in self._insecure_hosts
        milliseconds = max(1, int(self._deadline.total_seconds() * 1000))
        options: Mapping[int, object] = {
            pycurl.URL: request.url, pycurl.PATH_AS_IS: 1, pycurl.PROXY: "", pycurl.NOSIGNAL: 1,
            pycurl.PROTOCOLS: pycurl.PROTO_HTTPS | (pycurl.PROTO_HTTP if allow_http else 0),
            pycurl.FOLLOWLOCATION: 0, pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.FRESH_CONNECT: 1, pycurl.FORBID_REUSE: 1,
            pycurl.TIMEOUT_MS: milliseconds, pycurl.CONNECTTIMEOUT_MS: max(1, milliseconds // 2),
            pycurl.HTTPHEADER: (*request.headers, "Expect:"),
            pycurl.WRITEFUNCTION: answer.write, pycurl.HEADERFUNCTION: answer.header,
        }  # fmt: skip
        for option, value in options.items():
            curl.setopt(option, value)
        if self._authorities is not None:
            curl.setopt(pycurl.CAINFO, str(self._authorities))
        if request.method == "GET":
            curl.setopt(pycurl.HTTPGET, 1)
        elif request.body is not None or request.method == "POST":
            curl.setopt(pycurl.POSTFIELDS, request.body or b"")
        curl.setopt(pycurl.CUSTOMREQUEST, request.method)


class _Answer:
    def __init__(self) -> None:
        self.body = bytearray()
        self.headers: dict[str, str] = {}

    def write(self, data: bytes) -> int:
        if len(self.body) + len(data) > MAX_BODY:
            return -1
        self.body += data
        return len(data)

    def header(self, line: bytes) -> None:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            self.headers[name.strip().lower()] = value.strip()


def _wait(headers: Mapping[str, str], curl: pycurl.Curl) -> timedelta | None:
    """Say how long not to ask: ``Retry-After``, or when a spent allowance is filled up again, as GitHub writes it."""
    seconds = curl.getinfo(pycurl.RETRY_AFTER)
    reset = headers.get("x-ratelimit-reset", "")
    if not seconds and headers.get("x-ratelimit-remaining") == "0" and reset.isdigit() and len(reset) < 12:
        seconds = max(1, int(reset) - int(time.time()))
    return min(timedelta(seconds=seconds), LONGEST_WAIT) if seconds else None
