"""One web server at every address of a process's own Internet: whoever is reached by mistake answers as well.

It would be no test if what is inside a network refused what comes: here it has the right certificate and the answers
of a provider, so that whoever gets to it is served, and is seen.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from tests.support import certificates

DOMAIN: Final = "rebound.example"
"""The certificate is for any name directly below it. (It is a common name, which libcurl takes where no other is.)"""


class Visit(NamedTuple):
    """A request: the address it came to, the host it was for, and its path."""

    address: str
    host: str
    path: str


class Everybody:
    """A web server at every address: it gives whatever a provider would, and remembers where it was asked."""

    def __init__(self, home: Path) -> None:
        self.visits: list[Visit] = []
        self.authority = home / "authority.pem"
        self.authority.write_text(certificates.authority())
        made, own = certificates.leaf(f"*.{DOMAIN}", days=1), home / "everybody.pem"
        own.write_text(made.chain + made.key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(own)

    def start(self) -> None:
        """Listen at the port of HTTPS of all addresses."""
        server = _Server(("::", 443), _handler(self.visits))
        server.context = self._context
        threading.Thread(target=server.serve_forever, daemon=True).start()


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 256
    context: ssl.SSLContext

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socket.socket.bind(self.socket, self.server_address)  # without asking what the address is called

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        request.settimeout(10)
        with self.context.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, *_: object) -> None: ...


def _handler(visits: list[Visit]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            address = ip_address(self.connection.getsockname()[0])
            host = self.headers["host"]
            visits.append(Visit(str(getattr(address, "ipv4_mapped", None) or address), host, self.path))
            body = _ANSWERS.get(self.path, "{}").replace("HOST", host).replace("N", str(len(visits)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None: ...

    return Handler


_ANSWERS: Final[Mapping[str, str]] = {
    "/token": '{"access_token":"cnry-at-N","refresh_token":"cnry-rt-N","token_type":"Bearer","expires_in":3600}',
    "/introspect": '{"active": true}',
    "/.well-known/openid-configuration": '{"issuer":"https://HOST","token_endpoint":"https://HOST/token"}',
}
