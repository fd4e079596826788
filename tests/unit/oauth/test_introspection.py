"""What an issuer says of a token, over a real socket: only ``active`` being false says that it is not good."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.receiver import Receiver, status
from vault.dialect import Variable
from vault.egress.once import Heard, Http
from vault.egress.rules import Egress
from vault.oauth.introspection import MAX_BODY, HttpIntrospector, read
from vault.provider import Client, ClientAuth, Provider
from vault.secret import Secret
from vault.validation.outcome import Active, Inactive, Introspected, Unanswered
from vault.wiring.clock import utc

TOKEN = Secret("a+b/c=&d e")
SECOND = timedelta(seconds=1)


@pytest.fixture
def there() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def provider(there: Receiver, path: str = "/introspect", **fields: Any) -> Provider:
    client = fields.pop("client", Client("our id", Secret("our:secret")))
    return Provider("acme", "", "", introspect_uri=there.url(path), client=client, **fields)


def ask(there: Receiver, path: str = "/introspect", **fields: Any) -> Introspected:
    http = Http(Egress(["127.0.0.1"]), 5 * SECOND, MAX_BODY)
    return HttpIntrospector(http, utc).ask(provider(there, path, **fields), TOKEN)


def said(**members: Any) -> Introspected:
    return read(Heard(200, json.dumps(members).encode(), None))


def test_it_is_asked_as_our_registration(there: Receiver) -> None:
    there.answers["/introspect"] = status(200, b'{"active": true}')
    assert ask(there) == Active(None, (), None, None, None, (), None)
    [received] = there.received
    assert received.body == b"token=a%2Bb%2Fc%3D%26d+e&token_type_hint=access_token"
    assert received.headers["authorization"] == "Basic b3VyK2lkOm91ciUzQXNlY3JldA=="  # "our+id:our%3Asecret"
    ask(there, client_auth=ClientAuth.BODY)
    assert there.received[-1].body.endswith(b"&client_id=our+id&client_secret=our%3Asecret")
    ask(there, client=Client("ours", None), client_auth=ClientAuth.NONE)
    assert there.received[-1].body.endswith(b"&client_id=ours")


def test_where_addresses_have_variables_their_defaults_are_asked(there: Receiver) -> None:
    there.answers["/login/introspect"] = status(200, b'{"active": true}')
    host = {"host": Variable(re.compile("[a-z]+"), "login")}
    assert isinstance(ask(there, "/{host}/introspect", variables=host), Active)
    assert ask(there, "/{host}/introspect", variables={"host": Variable(re.compile("[a-z]+"))}) == Unanswered(
        "no_endpoint", operator=True
    )


def test_everything_it_says_is_read() -> None:
    found = said(
        active=True, sub="olga", scope="read  write", exp=1_800_000_000, nbf=1_700_000_000.5, client_id="app",
        aud=["music", "video"], iss="https://issuer.example", other={"ignored": True},
    )  # fmt: skip
    at = datetime(2027, 1, 15, 8, tzinfo=UTC)
    assert isinstance(found, Active)
    assert (found.subject, found.scopes, found.expires_at, found.client_id) == ("olga", ("read", "write"), at, "app")
    assert (found.audience, found.issuer) == (("music", "video"), "https://issuer.example")
    assert said(active=True, scope=["a", "b"], aud="music") == Active(
        None, ("a", "b"), None, None, None, ("music",), None
    )


def test_what_is_inactive_is_nothing_else() -> None:
    assert isinstance(said(active=False, sub=7, exp="whenever"), Inactive)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"[]", b'"active"', b"{}", b'{"active": "true"}', b'{"active": 1}', b'{"active": null}',
        b'{"active": "false"}', b'{"active": 0}', b"[" * 60_000, b"\xff\xfe", b'{"active": true, "exp": "soon"}',
        b'{"active": true, "exp": NaN}', b'{"active": true, "exp": Infinity}', b'{"active": true, "exp": -1}',
        b'{"active": true, "exp": true}', b'{"active": true, "sub": 7}', b'{"active": true, "sub": "a\\u0000b"}',
        b'{"active": true, "sub": "\\ud800"}', b'{"active": true, "scope": {"a": 1}}',
        b'{"active": true, "scope": "' + b"s " * 201 + b't"}', b'{"active": true, "aud": [["x"]]}',
        b'{"active": true, "sub": "' + b"s" * 513 + b'"}',
    ],
    ids=lambda body: repr(body[:40]),
)  # fmt: skip
def test_what_cannot_be_read_says_nothing_of_the_token(body: bytes) -> None:
    assert read(Heard(200, body, None)) == Unanswered("unreadable", operator=True)


def test_an_end_beyond_all_bounds_is_far_away() -> None:
    found = read(Heard(200, b'{"active": true, "exp": 1' + b"0" * 300 + b"}", None))
    assert isinstance(found, Active)
    assert found.expires_at is not None
    assert found.expires_at.year == 9000


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (500, b'{"active": false}', Unanswered("http_500")),
        (503, b"", Unanswered("http_503")),
        (408, b"", Unanswered("http_408")),
        (401, b'{"active": false}', Unanswered("client_refused", operator=True, of_client=True)),
        (400, b'{"error": "invalid_client"}', Unanswered("client_refused", operator=True, of_client=True)),
        (400, b'{"error": "invalid_request"}', Unanswered("http_400", operator=True, of_request=True)),
        (403, b"", Unanswered("http_403", operator=True, of_request=True)),
        (404, b'{"active": false}', Unanswered("http_404", operator=True, of_request=True)),
        (204, b"", Unanswered("http_204", operator=True, of_request=True)),
    ],
)
def test_no_other_answer_says_that_a_token_is_not_good(
    there: Receiver, code: int, body: bytes, expected: Unanswered
) -> None:
    there.answers["/introspect"] = status(code, body)
    assert ask(there) == expected


def test_it_says_itself_when_to_ask_again(there: Receiver) -> None:
    there.answers["/introspect"] = status(429, b"", **{"Retry-After": "7"})
    assert ask(there) == Unanswered("http_429", 7 * SECOND)
    there.answers["/introspect"] = status(429)
    assert ask(there) == Unanswered("http_429", 60 * SECOND)


def test_a_redirect_is_not_followed_since_our_secret_would_go_along(there: Receiver) -> None:
    there.answers["/introspect"] = status(307, Location=there.url("/elsewhere"))
    assert ask(there) == Unanswered("redirected", operator=True)
    assert there.at("/elsewhere") == []


def test_a_huge_answer_is_given_up(there: Receiver) -> None:
    there.answers["/introspect"] = status(200, b'{"active": true, "x": "' + b"." * MAX_BODY + b'"}')
    assert ask(there) == Unanswered("too_large")


def test_nobody_is_asked_where_requests_may_not_go(there: Receiver) -> None:
    closed = HttpIntrospector(Http(Egress(), 5 * SECOND), utc)
    assert closed.ask(provider(there), TOKEN) == Unanswered("refused_uri", operator=True)
    assert there.received == []


def test_nobody_is_asked_without_an_address_or_a_registration(there: Receiver) -> None:
    asking = HttpIntrospector(Http(Egress(["127.0.0.1"]), 5 * SECOND), utc)
    nowhere = Provider("acme", "", "", client=Client("ours", None))
    assert asking.ask(nowhere, TOKEN) == Unanswered("no_endpoint", operator=True)
    assert isinstance(asking.ask(provider(there, client=None), TOKEN), Unanswered)
    assert there.received == []
