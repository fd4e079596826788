"""An HTTP or HTTPS server on loopback that answers as it is told, and breaks as it is told."""

from __future__ import annotations

import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOST = "127.0.0.1"


class Request(NamedTuple):
    """What somebody wants."""

    method: str
    path: tuple[str, ...]
    headers: Mapping[str, str]
    body: dict[str, str]


class Answer(NamedTuple):
    """What they get."""

    status: int
    body: object
    headers: Mapping[str, str] = {}


class Fault(NamedTuple):
    """What goes wrong with every answer until told otherwise."""

    answer: Answer | None = None
    """In the place of the true answer."""
    raw: bytes | None = None
    """In the place of its body."""
    delay: float = 0.0
    """Seconds before it is sent."""
    cut: bool = False
    """Only half of its body arrives."""


class FaultyServer:
    """Answers with ``answer``, and spoils it by ``fault``; ``seen`` counts the words of the paths asked for."""

    def __init__(self, answer: Callable[[Request], Answer], *, tls: ssl.SSLContext | None = None) -> None:
        self.fault = Fault()
        self.seen: Counter[str] = Counter()
        self._answer, self._closing = answer, threading.Event()
        self._server = ThreadingHTTPServer((HOST, 0), self._handler())
        self.address = f"{HOST}:{self._server.server_port}"
        if tls is not None:
            # The handshake belongs to the connection's own thread: whoever dawdles over it must not hold up others.
            listener = self._server.socket
            self._server.socket = tls.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> FaultyServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805  # the handler's own self is the other one
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = tuple(urlsplit(self.path).path.strip("/").split("/"))
                server.seen.update(path)
                request = Request(self.command, path, self.headers, json.loads(content or b"{}"))  # type: ignore[arg-type]
                fault = server.fault
                status, body, headers = fault.answer or server._answer(request)
                if server._closing.wait(fault.delay):  # also when it was set long ago
                    self.close_connection = True
                    return
                self._send(status, json.dumps(body).encode() if fault.raw is None else fault.raw, headers, fault.cut)

            def _send(self, status: int, body: bytes, headers: Mapping[str, str], cut: bool) -> None:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if cut else body)
                self.close_connection = self.close_connection or cut

            do_GET = do_POST = do_PUT = _serve  # noqa: N815  # the names BaseHTTPRequestHandler looks for

            def log_message(self, *_: object) -> None: ...

        return Handler


@cache
def _certificate() -> bytes:
    """A key and a certificate for this machine that signs for itself, in PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(pem, form, serialization.NoEncryption()) + certificate.public_bytes(pem)


@contextmanager
def trusted() -> Iterator[ssl.SSLContext]:
    """A TLS context for servers on loopback, whose certificate clients believe meanwhile, and no proxy in between."""
    with TemporaryDirectory() as directory:
        file = Path(directory) / "loopback.pem"
        file.write_bytes(_certificate())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("REQUESTS_CA_BUNDLE", str(file))
            environment.setenv("NO_PROXY", "*")
            yield context
