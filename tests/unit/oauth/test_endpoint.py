"""How a refresh is asked for, in each provider's dialect, and that requests-oauthlib would ask and read the same."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from oauthlib.oauth2 import OAuth2Error
from requests.adapters import BaseAdapter
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from vault.oauth.endpoint import OAuthEndpoint
from vault.outcome import Dead, Exchange, Misconfigured, Refreshed, StepNeeded, Throttled, TokenRequest, Unknown
from vault.provider import Client, ClientAuth, Provider
from vault.secret import Secret

DEADLINE = timedelta(seconds=10)
WITHIN = timedelta(seconds=5)
CLIENT = Client("client-1", Secret("s3cret"))
PUBLIC = Client("client-1", None)
ACME = Provider("acme", "https://acme.test/authorize", "https://acme.test/token", client=CLIENT)

visible = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1)  # RFC 6749, appendix A
anything = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def NOW() -> datetime:  # noqa: N802
    return datetime(2026, 11, 21, tzinfo=UTC)


def asked(provider: Provider, refresh_token: str = "rt") -> TokenRequest:
    request = OAuthEndpoint(NOW).refresh_request(provider, Secret(refresh_token), "tag", DEADLINE, WITHIN)
    assert isinstance(request, TokenRequest), request
    return request


def headers(request: TokenRequest) -> dict[str, str]:
    pairs = [line.partition(": ") for line in request.headers]
    return {name.lower(): value for name, _, value in pairs}


def form(request: TokenRequest) -> dict[str, str]:
    """The body's members, each of which must be there once (RFC 6749, section 3.2)."""
    members = parse_qs(request.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    assert all(len(values) == 1 for values in members.values())
    return {name: values[0] for name, values in members.items()}


def basic(request: TokenRequest) -> tuple[str, str]:
    scheme, _, value = headers(request)["authorization"].partition(" ")
    assert scheme == "Basic"
    client_id, _, secret = b64decode(value, validate=True).decode().partition(":")
    return unquote_plus(client_id), unquote_plus(secret)


# ------------------------------------------------------------------------------------------------------------ requests


def test_a_refresh_is_a_form_that_asks_for_json() -> None:
    request = asked(ACME)
    assert (request.tag, request.uri, request.deadline, request.send_within) == (
        "tag",
        "https://acme.test/token",
        DEADLINE,
        WITHIN,
    )
    assert headers(request)["content-type"] == "application/x-www-form-urlencoded"
    assert headers(request)["accept"] == "application/json"
    assert form(request) == {"grant_type": "refresh_token", "refresh_token": "rt"}


@pytest.mark.parametrize(
    ("method", "client", "members", "header"),
    [
        (ClientAuth.BASIC, CLIENT, {}, True),
        (ClientAuth.BODY, CLIENT, {"client_id": "client-1", "client_secret": "s3cret"}, False),
        (ClientAuth.NONE, CLIENT, {"client_id": "client-1"}, False),
        (ClientAuth.BASIC, PUBLIC, {"client_id": "client-1"}, False),
        (ClientAuth.BODY, PUBLIC, {"client_id": "client-1"}, False),
        (ClientAuth.NONE, PUBLIC, {"client_id": "client-1"}, False),
    ],
)
def test_the_client_shows_who_it_is_in_the_provider_s_way_and_in_one_way_only(
    method: ClientAuth, client: Client, members: dict[str, str], header: bool
) -> None:
    provider = replace(ACME, client=client, client_auth=method, revoke_uri="https://acme.test/revoke")
    request = asked(provider)
    assert form(request) == {"grant_type": "refresh_token", "refresh_token": "rt", **members}
    assert ("authorization" in headers(request)) is header
    if header:
        assert basic(request) == ("client-1", "s3cret")
    revocation = OAuthEndpoint(NOW).revoke_request(provider, Secret("rt"), "tag", DEADLINE)
    assert isinstance(revocation, TokenRequest)
    assert form(revocation) == {"token": "rt", "token_type_hint": "refresh_token", **members}
    assert revocation.headers == request.headers


def test_basic_authentication_encodes_both_halves_before_joining_them() -> None:
    """RFC 6749, section 2.3.1: a colon, a plus or a percent sign in either half would otherwise be misread."""
    provider = replace(ACME, client=Client("a:b c", Secret("p+q%/ü")))
    header = headers(asked(provider))["authorization"]
    assert b64decode(header.removeprefix("Basic ")) == b"a%3Ab+c:p%2Bq%25%2F%C3%BC"
    assert basic(asked(provider)) == ("a:b c", "p+q%/ü")


@given(anything, anything, anything, st.sampled_from([ClientAuth.BASIC, ClientAuth.BODY, ClientAuth.NONE]))
def test_whatever_it_consists_of_arrives_as_it_is(token: str, client_id: str, secret: str, method: ClientAuth) -> None:
    provider = replace(ACME, client_auth=method, client=Client(client_id, Secret(secret)))
    request = asked(provider, token)
    assert form(request)["refresh_token"] == token
    if method is ClientAuth.BASIC:
        assert basic(request) == (client_id, secret)
    else:
        assert form(request)["client_id"] == client_id
        assert form(request).get("client_secret") == (secret if method is ClientAuth.BODY else None)
    assert not any("\n" in line or "\r" in line for line in request.headers)


def test_the_refresh_may_have_an_address_of_its_own() -> None:
    """Figma and about sixteen more."""
    assert asked(replace(ACME, refresh_uri="https://acme.test/refresh")).uri == "https://acme.test/refresh"


def test_scopes_are_sent_only_where_they_are_wanted() -> None:
    """Tidal wants them on refresh."""
    provider = replace(ACME, scopes=("read", "write"), scope_separator=",")
    assert "scope" not in form(asked(provider))
    assert form(asked(replace(provider, scope_on_refresh=True)))["scope"] == "read,write"
    assert "scope" not in form(asked(replace(provider, scopes=(), scope_on_refresh=True)))


def test_a_provider_without_a_revocation_endpoint_is_not_asked() -> None:
    assert OAuthEndpoint(NOW).revoke_request(ACME, Secret("rt"), "tag", DEADLINE) is None


def test_a_client_that_was_exchanged_is_the_one_that_asks_from_then_on() -> None:
    endpoint = OAuthEndpoint(NOW)

    def client_of(provider: Provider) -> tuple[str, str]:
        request = endpoint.refresh_request(provider, Secret("rt"), None, DEADLINE, WITHIN)
        assert isinstance(request, TokenRequest)
        return basic(request)

    assert client_of(ACME) == ("client-1", "s3cret")
    assert client_of(replace(ACME, client=Client("client-2", Secret("other")))) == ("client-2", "other")
    assert client_of(replace(ACME, name="other", client=Client("client-3", Secret("x")))) == ("client-3", "x")
    assert client_of(ACME) == ("client-1", "s3cret")


# --------------------------------------------------------------------------------------------------- requests-oauthlib


class Far(BaseAdapter):
    """The other side of a requests session: keeps what it was sent, answers as it is told."""

    def __init__(self, status: int = 200, body: bytes = b'{"access_token": "at"}') -> None:
        super().__init__()
        self.status, self.body = status, body
        self.heard: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self.heard.append(request)
        response = requests.Response()
        response.status_code = self.status
        response.request = request
        response._content = self.body
        return response

    def close(self) -> None:
        """Nothing is open."""


def through_oauthlib(provider: Provider, far: Far, refresh_token: str = "rt") -> dict[str, Any]:
    """Refresh as an application does that follows the documentation of requests-oauthlib."""
    client = provider.client
    assert client is not None
    secret = client.client_secret.reveal() if client.client_secret else None
    scope = list(provider.scopes) if provider.scope_on_refresh and provider.scopes else None
    session = OAuth2Session(client.client_id, scope=scope)
    session.mount("https://", far)
    more: dict[str, Any] = {}
    if provider.client_auth is ClientAuth.BASIC and secret is not None:
        more["auth"] = HTTPBasicAuth(client.client_id, secret)
    else:
        more["client_id"] = client.client_id
        if provider.client_auth is ClientAuth.BODY and secret is not None:
            more["client_secret"] = secret
    token: dict[str, Any] = session.refresh_token(
        provider.refresh_uri or provider.token_uri, refresh_token=refresh_token, **more
    )
    return token


DIALECTS = [
    pytest.param(ACME, id="basic"),
    pytest.param(replace(ACME, client_auth=ClientAuth.BODY), id="Google, GitHub"),
    pytest.param(replace(ACME, client_auth=ClientAuth.NONE), id="Spotify with PKCE"),
    pytest.param(replace(ACME, client_auth=ClientAuth.BODY, client=PUBLIC), id="public client"),
    pytest.param(replace(ACME, scope_on_refresh=True, scopes=("r_usr", "w_usr")), id="Tidal"),
    pytest.param(replace(ACME, refresh_uri="https://acme.test/refresh"), id="Figma"),
]


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize("refresh_token", ["rt", "1//0g-_~.a/b+c=&d", "with space%20"])
def test_our_request_is_the_one_requests_oauthlib_sends(provider: Provider, refresh_token: str) -> None:
    far = Far(body=b'{"access_token": "at", "scope": "r_usr w_usr"}')
    through_oauthlib(provider, far, refresh_token)
    [theirs] = far.heard
    ours = asked(provider, refresh_token)
    body = theirs.body if isinstance(theirs.body, str) else (theirs.body or b"").decode()
    assert (theirs.method, theirs.url) == ("POST", ours.uri)
    assert dict(parse_qsl(body)) == form(ours)
    assert theirs.headers.get("Authorization") == headers(ours).get("authorization")
    for name in ("content-type", "accept"):
        assert theirs.headers[name] == headers(ours)[name]


TOKENS: list[Any] = [
    pytest.param({"access_token": "a", "expires_in": 3600, "refresh_token": "b", "scope": "x y"}, id="RFC 6749"),
    pytest.param({"access_token": "a", "expires_in": 3600}, id="Spotify, Google: no refresh token"),
    pytest.param({"access_token": "a", "token_type": "bearer", "expires_in": "28800"}, id="a life in words"),
    pytest.param({"access_token": "a", "instance_url": "https://x", "token_type": "Bearer"}, id="Salesforce: no life"),
    pytest.param({"access_token": "a", "expires_in": 1800.0, "refresh_token": "b"}, id="a life with a point"),
    pytest.param({"access_token": "a", "expires_in": None, "scope": ""}, id="nulls"),
    pytest.param({"access_token": "a" * 4000, "refresh_token": "b" * 4000, "token_type": "Bearer"}, id="HubSpot: long"),
]


@pytest.mark.parametrize("members", TOKENS)
@pytest.mark.parametrize("encode", [json.dumps, lambda m: "&".join(f"{k}={v}" for k, v in m.items() if v is not None)])
def test_we_read_the_tokens_requests_oauthlib_reads(members: dict[str, Any], encode: Any) -> None:
    body = encode(members).replace(" ", "+" if encode is not json.dumps else " ").replace("https://", "").encode()
    if encode is not json.dumps:
        members = {name: str(value).removesuffix(".0") for name, value in members.items() if value is not None}
        body = body.replace(b".0", b"")
    theirs = through_oauthlib(ACME, Far(200, body))
    outcome = OAuthEndpoint(NOW).read(ACME, Exchange(None, 200, body, None, True, ""))
    assert isinstance(outcome, Refreshed)
    ours = outcome.answer
    assert ours.access_token.reveal() == theirs["access_token"]
    assert (ours.refresh_token or Secret("rt")).reveal() == theirs["refresh_token"]
    life = ours.expires_in
    assert (None if life is None else life.total_seconds()) == theirs.get("expires_in")
    assert list(ours.scopes or ()) == [scope for scope in theirs.get("scope") or () if scope]
    assert ours.token_type.lower() == theirs.get("token_type", "Bearer").lower()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_grant", Dead),
        (400, "invalid_client", Misconfigured),
        (401, "invalid_client", Misconfigured),
        (400, "unauthorized_client", Misconfigured),
        (400, "invalid_request", Misconfigured),
        (400, "invalid_scope", Misconfigured),
        (400, "unsupported_grant_type", Misconfigured),
        (400, "temporarily_unavailable", Throttled),
        (400, "server_error", Throttled),
        (400, "interaction_required", StepNeeded),
        (400, "login_required", StepNeeded),
        (400, "consent_required", StepNeeded),
        (200, "bad_refresh_token", Unknown),
        (400, "no_such_code", Unknown),
    ],
)
def test_where_requests_oauthlib_reads_an_error_we_read_the_same(
    status: int, code: str, kind: type[Dead | Misconfigured | Throttled | StepNeeded | Unknown]
) -> None:
    body = json.dumps({"error": code, "error_description": "text"}).encode()
    with pytest.raises(OAuth2Error) as theirs:
        through_oauthlib(ACME, Far(status, body))
    ours = OAuthEndpoint(NOW).read(ACME, Exchange(None, status, body, None, True, ""))
    assert isinstance(ours, kind)
    assert theirs.value.error == (ours.cause if isinstance(ours, Throttled) else ours.code)


def test_where_we_differ_from_requests_oauthlib_it_would_lose_a_token() -> None:
    """It takes a change of scopes for a warning that it raises, the tokens inside; we take the tokens."""
    body = b'{"access_token": "a", "refresh_token": "b", "scope": "less"}'
    provider = replace(ACME, scope_on_refresh=True, scopes=("less", "more"))
    with pytest.raises(Warning, match="Scope has changed"):
        through_oauthlib(provider, Far(200, body))
    outcome = OAuthEndpoint(NOW).read(provider, Exchange(None, 200, body, None, True, ""))
    assert isinstance(outcome, Refreshed)
    assert (outcome.answer.refresh_token, outcome.answer.scopes) == (Secret("b"), ("less",))


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({}, "no_code"),
        ({"error": "invalid_client"}, "invalid_client"),
        ({"error": "no token cnry-rt-1234567890"}, "told_what_it_was_sent"),
        ({"error": "bad s3cret"}, "told_what_it_was_sent"),
    ],
)
def test_a_refusal_s_code_is_kept_unless_it_repeats_what_was_sent(said: dict[str, str], code: str) -> None:
    exchange = Exchange(None, 401, json.dumps(said).encode(), None, True, "")
    outcome = OAuthEndpoint(NOW).read(ACME, exchange, None, Secret("cnry-rt-1234567890"))
    assert getattr(outcome, "code", None) == code
