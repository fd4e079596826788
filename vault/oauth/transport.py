"""Many POSTs at once through libcurl's multi interface, each sent once.

libcurl quietly sends a request again when a kept connection dies before the first byte of the answer; for a refresh
token that is a replay. It can only do so by rewinding the body, so the body is given through a callback that cannot
be rewound: the transfer then fails (``CURLE_SEND_FAIL_REWIND``) and we know that the answer was lost. A request
without a body gets a connection of its own, and is asked about before its head leaves, which has the token in it.

The deadline is ours, not libcurl's: a process that was paused past it finds the answer waiting in its socket, and
libcurl would look at the clock before it looks there.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta

import pycurl

from vault.egress.rules import Door, Egress
from vault.outcome import Exchange, TokenRequest
from vault.provider import TlsIdentity

MAX_BODY = 64 * 1024
"""Bytes of an answer; a larger one is cut off and not read."""
IDLE_LIFE_S = 20
"""A kept connection is not used after being idle for this long: a stale one is the commonest self-made lost answer."""
LOOK_EVERY_S = 0.1
"""How often transfers past their deadline are looked for."""
POOL = 1024
"""Easy handles kept for the next request: making one costs a third of a request."""

_FAILURES = {
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    pycurl.E_COULDNT_RESOLVE_HOST: "resolve",
    pycurl.E_COULDNT_CONNECT: "connect",
    pycurl.E_SSL_CONNECT_ERROR: "tls",
    pycurl.E_PEER_FAILED_VERIFICATION: "certificate",
    pycurl.E_RECV_ERROR: "reset",
    pycurl.E_SEND_ERROR: "reset",
    pycurl.E_GOT_NOTHING: "closed",
    pycurl.E_SEND_FAIL_REWIND: "closed",
    pycurl.E_PARTIAL_FILE: "truncated",
    pycurl.E_WRITE_ERROR: "too_large",
    pycurl.E_FILESIZE_EXCEEDED: "too_large",
    pycurl.E_UNSUPPORTED_PROTOCOL: "refused_uri",
    pycurl.E_URL_MALFORMAT: "refused_uri",
}


class _Transfer:
    """One easy handle and what it is carrying."""

    __slots__ = (
        "body",
        "curl",
        "door",
        "monotonic",
        "overdue_at",
        "request",
        "room",
        "send_until",
        "set_for",
        "too_late",
        "unsent",
    )

    def __init__(self, share: pycurl.CurlShare, monotonic: Callable[[], float], egress: Egress) -> None:
        self.curl = curl = pycurl.Curl()
        self.door = Door(egress)
        self.monotonic = monotonic
        self.send_until = 0.0
        self.too_late = False
        self.body: list[bytes] = []
        self.room = MAX_BODY
        self.overdue_at = 0.0
        self.set_for: tuple[object, ...] = ()
        self.request: TokenRequest
        self.unsent: io.BytesIO
        curl.setopt(pycurl.SHARE, share)
        egress.prepare(curl, self.door)
        curl.setopt(pycurl.POST, 1)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.MAXAGE_CONN, IDLE_LIFE_S)
        curl.setopt(pycurl.READFUNCTION, self._read)
        curl.setopt(pycurl.PREREQFUNCTION, self._connected)
        curl.setopt(pycurl.WRITEFUNCTION, self._write)

    def _read(self, size: int) -> bytes | int:
        """Give libcurl the body, which it asks for as it sends: a process paused until now must not any more."""
        if self._is_too_late():
            return pycurl.READFUNC_ABORT
        return self.unsent.read(size)

    def _connected(self, *_: object) -> int:
        """Let libcurl write the head: the whole request, where there is no body to be asked for."""
        late = not self.request.body and self._is_too_late()
        return pycurl.PREREQFUNC_ABORT if late else pycurl.PREREQFUNC_OK

    def _is_too_late(self) -> bool:
        self.too_late = self.monotonic() > self.send_until
        return self.too_late

    def _write(self, data: bytes) -> int:
        self.room -= len(data)
        if self.room < 0:
            return -1
        self.body.append(data)
        return len(data)

    def load(self, request: TokenRequest, *, allow_http: bool) -> None:
        """Prepare the handle for a request."""
        curl = self.curl
        self.request = request
        self.door.aim(request.uri)
        self.body = []
        self.room = MAX_BODY
        self.unsent = io.BytesIO(request.body)
        curl.setopt(pycurl.POSTFIELDSIZE, len(request.body))
        now, seconds = self.monotonic(), request.deadline.total_seconds()
        self.overdue_at = now + seconds
        self.send_until = now + request.send_within.total_seconds()
        self.too_late = False
        alone = not request.body
        wanted = (request.uri, request.headers, allow_http, seconds, alone, request.method, request.identity)
        if wanted != self.set_for:  # the next request mostly goes to the same client's endpoint
            curl.setopt(pycurl.URL, request.uri.encode())
            curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS | (pycurl.PROTO_HTTP if allow_http else 0))
            curl.setopt(pycurl.HTTPHEADER, (*request.headers, "Expect:"))
            curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(seconds * 500)))
            curl.setopt(pycurl.FRESH_CONNECT, int(alone))
            curl.setopt(pycurl.FORBID_REUSE, int(alone))
            curl.setopt(pycurl.HTTPGET if request.method == "GET" else pycurl.POST, 1)
            self._present(request.identity)
            self.set_for = wanted

    def _present(self, identity: TlsIdentity | None) -> None:
        """Show a client certificate; libcurl keeps connections that were made with different ones apart."""
        if identity is not None:
            self.curl.setopt(pycurl.SSLCERT_BLOB, identity.chain.reveal().encode())
            self.curl.setopt(pycurl.SSLKEY_BLOB, identity.key.reveal().encode())
        elif self.set_for and self.set_for[-1] is not None:
            self.curl.unsetopt(pycurl.SSLCERT_BLOB)
            self.curl.unsetopt(pycurl.SSLKEY_BLOB)

    def ended(self) -> Exchange:
        """Tell how a completed transfer ended."""
        curl = self.curl
        wait = curl.getinfo(pycurl.RETRY_AFTER)
        return Exchange(
            self.request.tag,
            curl.getinfo(pycurl.RESPONSE_CODE),
            b"".join(self.body),
            timedelta(seconds=wait) if wait else None,
            True,
            "",
        )

    def failed(self, failure: str) -> Exchange:
        """Tell how a failed transfer ended; ``sent`` unless nothing that matters of the request can have left."""
        if self.too_late:  # headers may have left, the token has not
            return Exchange(self.request.tag, 0, b"", None, False, "too_late")
        sent = self.curl.getinfo(pycurl.REQUEST_SIZE) > 0
        if failure == "connect" and self.door.refused:
            failure = "refused_uri"
        if sent and failure == "refused_uri":  # libcurl's code for an answer that is not HTTP is the same
            failure = "protocol"
        return Exchange(self.request.tag, 0, b"", None, sent, failure, self.curl.getinfo(pycurl.RESPONSE_CODE))


class CurlTransport:
    """``Transport`` on libcurl; belongs to one thread."""

    def __init__(self, egress: Egress, monotonic: Callable[[], float]) -> None:
        self._egress, self._monotonic = egress, monotonic
        self._http_allowed: dict[str, bool] = {}
        self._share = pycurl.CurlShare()
        self._share.setopt(pycurl.SH_SHARE, pycurl.LOCK_DATA_DNS)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, 1024)
        self._idle: list[_Transfer] = []
        self._busy: dict[pycurl.Curl, _Transfer] = {}
        self._look_at = 0.0
        self.in_flight = 0

    def start(self, request: TokenRequest) -> None:
        """See ``Transport.start``."""
        transfer = self._idle.pop() if self._idle else _Transfer(self._share, self._monotonic, self._egress)
        transfer.load(request, allow_http=self._allows_http(request.uri))
        self._busy[transfer.curl] = transfer
        self._multi.add_handle(transfer.curl)
        self.in_flight += 1

    def _allows_http(self, uri: str) -> bool:
        """Whether a token may go to this address unencrypted: only to hosts the operator named, for tests."""
        allowed = self._http_allowed.get(uri)
        if allowed is None:
            allowed = self._http_allowed[uri] = self._egress.allows_plain(uri)
        return allowed

    def poll(self, timeout: timedelta) -> list[Exchange]:
        """See ``Transport.poll``.

        Telling libcurl which socket is ready (``socket_action``) was tried and costs a third more than letting it look
        at all of them: what it saves in looking goes into callbacks.
        """
        ended = self._step()
        if ended or not self.in_flight:
            return ended
        until = self._monotonic() + timeout.total_seconds()
        while not ended and (left := until - self._monotonic()) > 0:
            self._multi.select(min(left, LOOK_EVERY_S))
            ended = self._step()
        return ended

    def _step(self) -> list[Exchange]:
        self._multi.perform()
        ended: list[Exchange] = []
        while True:
            queued, good, bad = self._multi.info_read()
            ended.extend(self._release(curl).ended() for curl in good)
            ended.extend(self._release(curl).failed(_FAILURES.get(code, "protocol")) for curl, code, _ in bad)
            if not queued:
                break
        now = self._monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            overdue = [transfer.curl for transfer in self._busy.values() if now >= transfer.overdue_at]
            ended.extend(self._release(curl).failed("timeout") for curl in overdue)
        return ended

    def _release(self, curl: pycurl.Curl) -> _Transfer:
        transfer = self._busy.pop(curl)
        self._multi.remove_handle(curl)
        self.in_flight -= 1
        if len(self._idle) < POOL:
            self._idle.append(transfer)
        return transfer

    def close(self) -> None:
        """See ``Transport.close``."""
        for transfer in self._busy.values():
            self._multi.remove_handle(transfer.curl)
        self._busy.clear()
        self._idle.clear()
        self.in_flight = 0
        self._multi.close()
