"""Where a provider asks for client certificates: TLS in front of one that does not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509

from tests.support import certificates

HOST = "127.0.0.1"


class TlsFront:
    """Passes on what comes with a certificate of the test's authority, and remembers whose it was."""

    def __init__(self, home: Path, behind: tuple[str, int]) -> None:
        self.names: list[str] = []
        """Common names of those who connected, in order."""
        self.refused = 0
        self.received = 0
        """Bytes that came through TLS."""
        made, own, trusted = certificates.server(HOST), home / "server.pem", home / "authority.pem"
        own.write_text(made.chain + made.key)
        trusted.write_text(certificates.authority())
        self.authority = trusted
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(own)
        self._context.load_verify_locations(trusted)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._behind = behind
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        try:
            client = self._context.wrap_socket(connection, server_side=True)
        except (OSError, ssl.SSLError):
            self.refused += 1
            return
        with client, socket.create_connection(self._behind, timeout=30) as far:
            self.names.append(_common_name(client.getpeercert(binary_form=True) or b""))
            back = threading.Thread(target=_pass_on, args=(far, client), daemon=True)
            back.start()
            self.received += _pass_on(client, far)
            back.join(timeout=30)


def _common_name(certificate: bytes) -> str:
    subject = x509.load_der_x509_certificate(certificate).subject
    return str(subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def _pass_on(source: socket.socket, target: socket.socket) -> int:
    passed = 0
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := source.recv(65536):
            passed += len(data)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    return passed
