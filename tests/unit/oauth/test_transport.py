"""The transport against real sockets: each request reaches a server once or not at all, and we know which."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vault.egress.rules import Egress
from vault.oauth import transport as transport_module
from vault.oauth.transport import CurlTransport
from vault.outcome import Exchange, TokenRequest

HOST = "127.0.0.1"
NOBODY = f"http://{HOST}:1/token"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
PATIENCE = timedelta(seconds=10)

Answering = Callable[[socket.socket, int], None]


def reply(data: bytes) -> Answering:
    """Answer, and keep the connection."""
    return lambda connection, _: connection.sendall(data)


def close(connection: socket.socket, _: int = 0) -> None:
    connection.close()


def reset(connection: socket.socket, _: int = 0) -> None:
    """Close with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Server:
    """Reads whole requests on loopback, keeps them, and answers each as told.

    `answer` gets the request's number, `echo` the request, `greet` each new connection with its number.
    """

    def __init__(
        self,
        answer: Answering | None = None,
        greet: Answering | None = None,
        echo: Callable[[socket.socket, bytes], None] | None = None,
    ) -> None:
        self.answer = answer or reply(OK)
        self.greet = greet
        self.echo = echo
        self.requests: list[bytes] = []
        self.connections = 0
        self.ended = threading.Semaphore(0)
        self._listener = socket.create_server((HOST, 0))
        self.uri = f"http://{HOST}:{self._listener.getsockname()[1]}/token"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.greet is not None:
                self.greet(connection, self.connections)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        try:
            while connection.fileno() >= 0:
                more = connection.recv(65536)
                if not more:
                    break
                data += more
                while (size := _request_size(data)) is not None:
                    seen, data = data[:size], data[size:]
                    self.requests.append(seen)
                    if self.echo is not None:
                        self.echo(connection, seen)
                    else:
                        self.answer(connection, len(self.requests))
        except OSError:
            pass
        finally:
            connection.close()
            self.ended.release()

    def close(self) -> None:
        self._listener.close()


def _request_size(data: bytes) -> int | None:
    head, end, _ = data.partition(b"\r\n\r\n")
    if not end:
        return None
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    size = len(head) + 4 + (lengths[0] if lengths else 0)
    return size if len(data) >= size else None


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as everything:
        yield everything


@pytest.fixture
def serve(stack: ExitStack) -> Callable[..., Server]:
    def start(*parts: Any, **more: Any) -> Server:
        server = Server(*parts, **more)
        stack.callback(server.close)
        return server

    return start


@pytest.fixture
def transport(stack: ExitStack) -> CurlTransport:
    made = CurlTransport(Egress([HOST]), time.monotonic)
    stack.callback(made.close)
    return made


def request(
    uri: str,
    body: bytes = b"grant_type=refresh_token",
    deadline: timedelta = PATIENCE,
    tag: object = None,
    send_within: timedelta | None = None,
) -> TokenRequest:
    headers = ("Content-Type: application/x-www-form-urlencoded", "Authorization: Basic eA==")
    return TokenRequest(tag, uri, headers, body, deadline, send_within or deadline)


def ends(transport: CurlTransport, count: int = 1) -> list[Exchange]:
    found: list[Exchange] = []
    until = time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < until, "no end came"
        found += transport.poll(timedelta(milliseconds=100))
    return found


def post(transport: CurlTransport, uri: str, **more: object) -> Exchange:
    transport.start(request(uri, **more))  # type: ignore[arg-type]
    [end] = ends(transport)
    assert transport.in_flight == 0
    return end


# ------------------------------------------------------------------------------------------------------------ answered


def test_a_request_arrives_as_it_was_written_and_its_tag_comes_back(
    transport: CurlTransport, serve: Callable[..., Server]
) -> None:
    server = serve(reply(b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello"))
    end = post(transport, server.uri, tag="mine")
    assert end == Exchange("mine", 201, b"hello", None, True, "")
    [seen] = server.requests
    head, _, body = seen.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /token HTTP/1.1"
    assert "Content-Type: application/x-www-form-urlencoded" in lines
    assert "Authorization: Basic eA==" in lines
    assert not any(line.lower().startswith(("expect:", "transfer-encoding:")) for line in lines)
    assert body == b"grant_type=refresh_token"


def test_a_chunked_answer_is_an_answer(transport: CurlTransport, serve: Callable[..., Server]) -> None:
    server = serve(reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"))
    assert post(transport, server.uri).body == b"{}"


def test_many_at_once_each_get_their_own_answer(transport: CurlTransport, serve: Callable[..., Server]) -> None:
    def echo(connection: socket.socket, request: bytes) -> None:
        body = request.partition(b"\r\n\r\n")[2]
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    server = serve(echo=echo)
    bodies = [b"token-%d" % number for number in range(100)]
    for body in bodies:
        transport.start(request(server.uri, body, tag=body))
    assert transport.in_flight == 100
    found = ends(transport, 100)
    assert sorted(seen.partition(b"\r\n\r\n")[2] for seen in server.requests) == sorted(bodies)
    assert all(end.status == 200 and end.body == end.tag for end in found)
    assert transport.in_flight == 0


def test_handles_are_used_again_and_forget_what_they_carried(
    transport: CurlTransport, serve: Callable[..., Server]
) -> None:
    limited = serve(reply(b"HTTP/1.1 429 Slow\r\nRetry-After: 30\r\nContent-Length: 4\r\n\r\nwait"))
    plain, huge = serve(), serve(reply(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000))
    assert post(transport, limited.uri).retry_after == timedelta(seconds=30)
    assert post(transport, plain.uri, body=b"x" * 5000) == Exchange(None, 200, b"{}", None, True, "")
    assert post(transport, huge.uri).failure == "too_large"
    assert post(transport, NOBODY) == Exchange(None, 0, b"", None, False, "connect")
    assert post(transport, plain.uri, body=b"short") == Exchange(None, 200, b"{}", None, True, "")
    assert plain.requests[-1].endswith(b"\r\n\r\nshort")


@pytest.mark.parametrize(
    ("header", "shortest", "longest"),
    [
        ("Retry-After: 120\r\n", 120, 120),
        ("", None, None),
        ("Retry-After: soon\r\n", None, None),
        ("Retry-After: 0\r\n", None, None),
        ("Retry-After: {in_a_minute}\r\n", 50, 61),
        ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", None, None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(
    transport: CurlTransport,
    serve: Callable[..., Server],
    header: str,
    shortest: float | None,
    longest: float | None,
) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
    text = f"HTTP/1.1 503 Busy\r\n{header.format(in_a_minute=date)}Content-Length: 0\r\n\r\n"
    end = post(transport, serve(reply(text.encode())).uri)
    if shortest is None or longest is None:
        assert end.retry_after is None
    else:
        assert end.retry_after is not None
        assert shortest <= end.retry_after.total_seconds() <= longest


def test_a_redirect_is_an_answer_and_is_not_followed(transport: CurlTransport, serve: Callable[..., Server]) -> None:
    other = serve()
    server = serve(reply(f"HTTP/1.1 307 Go\r\nLocation: {other.uri}\r\nContent-Length: 0\r\n\r\n".encode()))
    assert post(transport, server.uri).status == 307
    assert (len(server.requests), len(other.requests)) == (1, 0)


@pytest.mark.parametrize(("size", "failure"), [(64 * 1024, ""), (64 * 1024 + 1, "too_large"), (10**7, "too_large")])
@pytest.mark.parametrize("told", [True, False])
def test_an_answer_is_read_up_to_64_kib(
    transport: CurlTransport, serve: Callable[..., Server], size: int, failure: str, told: bool
) -> None:
    length = b"Content-Length: %d\r\n" % size if told else b"Connection: close\r\n"

    def answer(connection: socket.socket, _: int) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + b"x" * size)
        connection.close()

    end = post(transport, serve(answer).uri)
    assert (end.failure, end.sent, len(end.body)) == (failure, True, 0 if failure else size)


# --------------------------------------------------------------------------------------------- what of it was received


def test_nobody_there_nothing_sent(transport: CurlTransport) -> None:
    assert post(transport, NOBODY) == Exchange(None, 0, b"", None, False, "connect")


def test_no_such_host_nothing_sent(transport: CurlTransport) -> None:
    assert post(transport, "https://nobody.invalid/token") == Exchange(None, 0, b"", None, False, "resolve")


@pytest.mark.parametrize("uri", ["http://acme.test/token", "ftp://acme.test/token", "file:///etc/passwd", "", "x"])
def test_what_is_not_https_is_not_even_tried(transport: CurlTransport, uri: str) -> None:
    end = post(transport, uri)
    assert (end.status, end.sent) == (0, False)
    assert end.failure in ("refused_uri", "resolve")


def test_plain_http_is_for_the_hosts_that_were_named(stack: ExitStack, serve: Callable[..., Server]) -> None:
    server = serve()
    strict = CurlTransport(Egress(["localhost"]), time.monotonic)
    stack.callback(strict.close)
    assert post(strict, server.uri) == Exchange(None, 0, b"", None, False, "refused_uri")
    assert server.connections == 0
    assert post(strict, server.uri.replace(HOST, "localhost")).status == 200
    assert post(strict, server.uri).failure == "refused_uri"  # the handle does not remember the permission


@pytest.mark.parametrize("end_it", [close, reset])
def test_a_connection_that_dies_after_the_request_was_read_leaves_us_in_doubt(
    transport: CurlTransport, serve: Callable[..., Server], end_it: Answering
) -> None:
    server = serve(end_it)
    end = post(transport, server.uri)
    assert (end.status, end.sent) == (0, True)
    assert end.failure in ("closed", "reset")
    assert len(server.requests) == 1


def test_half_an_answer_is_none(transport: CurlTransport, serve: Callable[..., Server]) -> None:
    def half(connection: socket.socket, _: int) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        connection.close()

    assert post(transport, serve(half).uri) == Exchange(None, 0, b"", None, True, "truncated", seen=200)


def test_what_was_seen_of_an_answer_is_not_told_of_the_next(
    transport: CurlTransport, serve: Callable[..., Server]
) -> None:
    def half(connection: socket.socket, _: int) -> None:
        connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\n{")
        connection.close()

    def nothing(connection: socket.socket, _: int) -> None:
        connection.close()

    assert post(transport, serve(half).uri).seen == 503
    assert post(transport, serve(nothing).uri).seen == 0


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00\x01\x02\x03", b"HTTP/9.9 abc\r\n\r\n"])
def test_what_is_not_http_leaves_us_in_doubt(
    transport: CurlTransport, serve: Callable[..., Server], answer: bytes
) -> None:
    def talk(connection: socket.socket, _: int) -> None:
        connection.sendall(answer)
        connection.close()

    end = post(transport, serve(talk).uri)
    assert (end.status, end.sent, end.failure) == (0, True, "protocol")


# ----------------------------------------------------------------------------------- once, also on a kept connection


def after_the_first(answer: Answering) -> Answering:
    def either(connection: socket.socket, number: int) -> None:
        (reply(OK) if number == 1 else answer)(connection, number)

    return either


def test_connections_are_kept(transport: CurlTransport, serve: Callable[..., Server]) -> None:
    server = serve()
    assert [post(transport, server.uri).status for _ in range(5)] == [200] * 5
    assert (server.connections, len(server.requests)) == (1, 5)


@pytest.mark.parametrize("end_it", [close, reset])
def test_a_kept_connection_that_dies_after_the_server_read_the_request_is_not_sent_again(
    transport: CurlTransport, serve: Callable[..., Server], end_it: Answering
) -> None:
    """libcurl by itself would: the server would see a refresh token twice."""
    server = serve(after_the_first(end_it))
    assert post(transport, server.uri).status == 200
    end = post(transport, server.uri)
    assert (end.status, end.sent) == (0, True)
    assert (server.connections, len(server.requests)) == (1, 2)


@pytest.mark.parametrize("end_it", [close, reset])
def test_a_kept_connection_that_died_before_is_replaced_and_the_request_arrives_once(
    transport: CurlTransport, serve: Callable[..., Server], end_it: Answering
) -> None:
    def answer_and_end(connection: socket.socket, number: int) -> None:
        connection.sendall(OK)
        if number == 1:
            end_it(connection, number)

    server = serve(answer_and_end)
    first = post(transport, server.uri)
    assert server.ended.acquire(timeout=10)
    second = post(transport, server.uri)
    assert first.status == 200
    if second.status == 200:
        assert (server.connections, len(server.requests)) == (2, 2)
    else:  # the news of the end had not arrived when we wrote
        assert len(server.requests) == 1


@pytest.mark.parametrize("end_it", [close, reset])
def test_a_request_without_a_body_is_not_sent_again_either(
    transport: CurlTransport, serve: Callable[..., Server], end_it: Answering
) -> None:
    """Without a body there is nothing to rewind, so such a request never travels on a kept connection (Gong)."""
    server = serve(after_the_first(end_it))
    assert post(transport, server.uri, body=b"").status == 200
    end = post(transport, server.uri, body=b"")
    assert (end.status, end.sent) == (0, True)
    assert (server.connections, len(server.requests)) == (2, 2)


def test_a_request_without_a_body_does_not_use_a_connection_kept_by_others_nor_leave_one(
    transport: CurlTransport, serve: Callable[..., Server]
) -> None:
    server = serve()
    for body in (b"x", b"", b"x", b""):
        assert post(transport, server.uri, body=body).status == 200
    assert (server.connections, len(server.requests)) == (3, 4)


def test_a_connection_that_was_idle_for_long_is_not_used_again(
    stack: ExitStack, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "IDLE_LIFE_S", 1)
    transport = CurlTransport(Egress([HOST]), time.monotonic)
    stack.callback(transport.close)
    server = serve()
    post(transport, server.uri)
    time.sleep(2.1)  # libcurl counts idleness in whole seconds of its own clock
    assert post(transport, server.uri).status == 200
    assert (server.connections, len(server.requests)) == (2, 2)


# ------------------------------------------------------------------------------------------------------------ deadline

SOON = timedelta(milliseconds=300)


def took(act: Callable[[], Exchange]) -> tuple[Exchange, float]:
    begun = time.monotonic()
    return act(), time.monotonic() - begun


def test_the_deadline_counts_from_the_start_to_the_last_byte(
    transport: CurlTransport, serve: Callable[..., Server]
) -> None:
    """A byte now and then keeps every time-out between bytes from striking; the whole is bounded nevertheless."""
    stop = threading.Event()

    def drip(connection: socket.socket, _: int) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        while not stop.wait(0.02):
            connection.sendall(b"x")

    try:
        end, seconds = took(lambda: post(transport, serve(drip).uri, deadline=SOON))
    finally:
        stop.set()
    assert (end.status, end.sent, end.failure) == (0, True, "timeout")
    assert 0.3 <= seconds < 3


def test_silence_is_a_timeout_in_doubt(transport: CurlTransport, serve: Callable[..., Server]) -> None:
    server = serve(lambda connection, number: None)
    end = post(transport, server.uri, deadline=SOON)
    assert (end.status, end.sent, end.failure) == (0, True, "timeout")
    assert len(server.requests) == 1


def test_a_timeout_while_connecting_sent_nothing(transport: CurlTransport, stack: ExitStack) -> None:
    """A listener whose queue is full does not answer further callers at all."""
    full = stack.enter_context(socket.socket())
    full.bind((HOST, 0))
    full.listen(0)
    for _ in range(3):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(full.getsockname())
    end = post(transport, f"http://{HOST}:{full.getsockname()[1]}/token", deadline=SOON)
    assert (end.status, end.sent, end.failure) == (0, False, "timeout")


def test_an_answer_that_came_while_we_were_paused_is_not_thrown_away(
    transport: CurlTransport, serve: Callable[..., Server]
) -> None:
    answered = threading.Event()

    def answer(connection: socket.socket, _: int) -> None:
        connection.sendall(OK)
        answered.set()

    transport.start(request(serve(answer).uri, deadline=SOON))
    until = time.monotonic() + 10
    while not answered.is_set() and time.monotonic() < until:
        if found := transport.poll(timedelta(0)):
            break
    else:
        time.sleep(0.5)  # the pause, past the deadline
        found = ends(transport)
    assert [end.status for end in found] == [200]


@pytest.mark.parametrize(("method", "body"), [("POST", b"refresh_token=1"), ("POST", b""), ("GET", b"")])
def test_a_process_that_was_paused_until_its_claim_ran_out_does_not_send_any_more(
    transport: CurlTransport, serve: Callable[..., Server], method: str, body: bytes
) -> None:
    """Where there is no body the token is in the address (Zoom, Instagram), and it is the head that must not leave."""
    server = serve()
    late = request(f"{server.uri}?refresh_token=1", body, send_within=timedelta(milliseconds=1))
    transport.start(late._replace(method=method))
    time.sleep(0.05)  # the pause
    [end] = ends(transport)
    assert (end.status, end.sent, end.failure) == (0, False, "too_late")
    assert server.requests == []


def test_others_are_not_held_up_by_one_that_is_silent(transport: CurlTransport, serve: Callable[..., Server]) -> None:
    silent, quick = serve(lambda connection, number: None), serve()
    transport.start(request(silent.uri, tag="silent", deadline=timedelta(seconds=30)))
    transport.start(request(quick.uri, tag="quick"))
    [end] = ends(transport)
    assert (end.tag, transport.in_flight) == ("quick", 1)


# ----------------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody vouches for, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


def test_a_server_that_cannot_show_who_it_is_gets_nothing(serve: Callable[..., Server], certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    received: list[bytes] = []

    def shake_hands(connection: socket.socket, _: int) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as wrapped:
                received.append(wrapped.recv(65536))
        except (OSError, ssl.SSLError):
            received.append(b"")

    server = serve(greet=shake_hands)
    transport = CurlTransport(Egress([HOST], ["127.0.0.0/8"]), time.monotonic)
    end = post(transport, server.uri.replace("http://", "https://").replace(HOST, "localhost"))
    assert end == Exchange(None, 0, b"", None, False, "certificate")
    assert b"".join(received) == b""


@pytest.mark.parametrize("greet", [close, reset, reply(b"HTTP/1.1 400 Bad Request\r\n\r\n")])
def test_a_server_that_does_not_speak_tls_gets_nothing(
    transport: CurlTransport, serve: Callable[..., Server], greet: Answering
) -> None:
    server = serve(greet=greet)
    end = post(transport, server.uri.replace("http://", "https://"))
    assert (end.status, end.sent) == (0, False)
    assert end.failure in ("tls", "reset", "connect")
    assert not any(b"grant_type" in seen for seen in server.requests)


# ---------------------------------------------------------------------------------------------------------------- rest


def test_the_environment_s_proxy_is_not_asked(
    stack: ExitStack, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, server = serve(), serve()
    for name in ("http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.uri)
    transport = CurlTransport(Egress([HOST]), time.monotonic)
    stack.callback(transport.close)
    assert post(transport, server.uri).status == 200
    assert (len(proxy.requests), len(server.requests)) == (0, 1)


def test_polling_with_nothing_in_flight_returns_at_once(transport: CurlTransport) -> None:
    begun = time.monotonic()
    assert transport.poll(timedelta(seconds=30)) == []
    assert time.monotonic() - begun < 5


def test_polling_returns_after_its_time_when_nothing_ended(
    transport: CurlTransport, serve: Callable[..., Server]
) -> None:
    transport.start(request(serve(lambda connection, number: None).uri))
    begun = time.monotonic()
    assert transport.poll(timedelta(milliseconds=200)) == []
    assert 0.2 <= time.monotonic() - begun < 5


def test_closing_drops_what_is_in_flight(serve: Callable[..., Server]) -> None:
    server = serve(lambda connection, number: None)
    transport = CurlTransport(Egress([HOST]), time.monotonic)
    transport.start(request(server.uri))
    until = time.monotonic() + 10
    while not server.requests and time.monotonic() < until:
        transport.poll(timedelta(milliseconds=10))
    transport.close()
    assert server.ended.acquire(timeout=10)
    assert transport.in_flight == 0
