"""One request to a provider and its answer, within a time and a size, over a connection of its own.

A connection that was kept could die under a request that libcurl then sends again by itself; here whoever asks decides
that. Redirects are not followed: the credential that authorises the call would go along.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, NamedTuple

import pycurl

from vault.egress.rules import Door, Egress
from vault.provider import TlsIdentity

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
    identity: TlsIdentity | None = None
    """The client certificate to show."""

    def __repr__(self) -> str:
        """Show what has no secret in it."""
        return f"<{self.method} {self.url.partition('?')[0]}>"


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
    """Requests, one at a time, to wherever they may go. Thread-safe."""

    def __init__(self, egress: Egress, deadline: timedelta, largest: int = MAX_BODY) -> None:
        self._egress, self._deadline, self._largest = egress, deadline, largest

    def send(self, request: Sent) -> Heard:
        """Send a request once, and wait for its answer."""
        answer, door, curl = _Answer(self._largest), Door(self._egress), pycurl.Curl()
        door.aim(request.url)
        try:
            self._egress.prepare(curl, door)
            self._prepare(curl, request, answer)
            curl.perform()
            return Heard(curl.getinfo(pycurl.RESPONSE_CODE), bytes(answer.body), _wait(answer.headers, curl))
        except pycurl.error as error:
            failure = _FAILURES.get(error.args[0], "no_answer")
            return Heard(0, b"", None, "refused_uri" if failure == "connect" and door.refused else failure)
        finally:
            curl.close()

    def _prepare(self, curl: pycurl.Curl, request: Sent, answer: _Answer) -> None:
        allow_http = self._egress.allows_plain(request.url)
        milliseconds = max(1, int(self._deadline.total_seconds() * 1000))
        options: Mapping[int, object] = {
            pycurl.URL: request.url.encode(), pycurl.PATH_AS_IS: 1,
            pycurl.PROTOCOLS: pycurl.PROTO_HTTPS | (pycurl.PROTO_HTTP if allow_http else 0),
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.FRESH_CONNECT: 1, pycurl.FORBID_REUSE: 1,
            pycurl.TIMEOUT_MS: milliseconds, pycurl.CONNECTTIMEOUT_MS: max(1, milliseconds // 2),
            pycurl.HTTPHEADER: (*request.headers, "Expect:"),
            pycurl.WRITEFUNCTION: answer.write, pycurl.HEADERFUNCTION: answer.header,
        }  # fmt: skip
        for option, value in options.items():
            curl.setopt(option, value)
        if request.identity is not None:
            curl.setopt(pycurl.SSLCERT_BLOB, request.identity.chain.reveal().encode())
            curl.setopt(pycurl.SSLKEY_BLOB, request.identity.key.reveal().encode())
        if request.method == "GET":
            curl.setopt(pycurl.HTTPGET, 1)
        elif request.body is not None or request.method == "POST":
            curl.setopt(pycurl.POSTFIELDS, request.body or b"")
        curl.setopt(pycurl.CUSTOMREQUEST, request.method)


class _Answer:
    def __init__(self, largest: int) -> None:
        self.body, self._largest = bytearray(), largest
        self.headers: dict[str, str] = {}

    def write(self, data: bytes) -> int:
        if len(self.body) + len(data) > self._largest:
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
    if not seconds and headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal() and len(reset) < 12:
        seconds = max(1, int(reset) - int(time.time()))
    return min(timedelta(seconds=seconds), LONGEST_WAIT) if seconds else None
