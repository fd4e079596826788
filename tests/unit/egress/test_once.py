"""One request over a real socket: bounded, not redirected, sent once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler

import pytest

from tests.support.receiver import Receiver, reset, slowly, status
from vault.egress.once import MAX_BODY, Heard, Http, Sent
from vault.egress.rules import Egress

SECOND = timedelta(seconds=1)


@pytest.fixture
def there() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def send(there: Receiver, path: str, deadline: timedelta = 5 * SECOND) -> Heard:
    return Http(Egress(["127.0.0.1"]), deadline).send(Sent("POST", there.url(path), ("X-Mine: 1",), b"{}"))


def test_what_is_sent_arrives_as_it_was_written(there: Receiver) -> None:
    there.answers["/a/%2E%2E"] = status(200, b'{"ok": true}')
    assert send(there, "/a/%2E%2E") == Heard(200, b'{"ok": true}', None)
    [received] = there.received
    assert (received.path, received.body, received.headers["x-mine"]) == ("/a/%2E%2E", b"{}", "1")


@pytest.mark.parametrize("reset_at", ["\u00b2", "\u00b9\u00b2", "-1", "1e9", ""])
def test_an_allowance_that_is_filled_up_at_no_time_is_not_waited_for(there: Receiver, reset_at: str) -> None:
    spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset_at}
    there.answers["/spent"] = status(403, b"", **spent)
    assert send(there, "/spent") == Heard(403, b"", None)


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirects_are_not_followed(there: Receiver, code: int) -> None:
    there.answers["/moved"] = status(code, Location=there.url("/elsewhere"))
    assert send(there, "/moved").status == code
    assert there.at("/elsewhere") == []


def test_an_answer_that_never_ends_is_given_up(there: Receiver) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(50):
            handler.wfile.write(b".")
            time.sleep(0.05)

    there.answers["/drip"] = drip
    began = time.monotonic()
    assert send(there, "/drip", SECOND / 2).failure == "timeout"
    assert time.monotonic() - began < 2


def test_an_answer_that_is_too_large_is_given_up(there: Receiver) -> None:
    there.answers["/huge"] = status(200, b"." * (MAX_BODY + 1))
    assert send(there, "/huge") == Heard(0, b"", None, "too_large")


def test_a_request_is_sent_once_whatever_becomes_of_its_answer(there: Receiver) -> None:
    there.answers["/reset"] = reset
    assert send(there, "/reset").status == 0
    assert len(there.received) == 1


def test_nobody_there_is_no_answer() -> None:
    assert Http(Egress(["127.0.0.1"]), SECOND).send(Sent("GET", "http://127.0.0.1:1/", (), None)).failure == "connect"


def test_plain_http_is_refused_where_the_operator_has_not_allowed_it(there: Receiver) -> None:
    assert Http(Egress(), SECOND).send(Sent("GET", there.url("/"), (), None)).failure == "refused_uri"
    assert there.received == []


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry_After": "7"}, 7, 7),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "in ten minutes"}, 500, 600),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "1"}, 1, 1),
        ({"Retry_After": "99999999"}, 21_600, 86_400),
    ],
)
def test_how_long_not_to_ask_is_heard(there: Receiver, headers: dict[str, str], least: int, most: int) -> None:
    soon = str(int(time.time()) + 600)
    there.answers["/later"] = status(
        403, b"", **{name: soon if word[0] == "i" else word for name, word in headers.items()}
    )
    wait = send(there, "/later").retry_after
    assert wait is not None
    assert least * SECOND <= wait <= most * SECOND


def test_an_allowance_that_is_left_is_no_reason_to_wait(there: Receiver) -> None:
    there.answers["/no"] = status(403, x_ratelimit_remaining="12", x_ratelimit_reset="99999999999")
    assert send(there, "/no").retry_after is None


def test_a_slow_one_is_waited_for_within_the_deadline(there: Receiver) -> None:
    there.answers["/slow"] = slowly(0.3)
    assert send(there, "/slow").status == 204
