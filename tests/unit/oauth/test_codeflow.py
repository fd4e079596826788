"""The flow a person waits in, against the simulator: whatever the provider answers ends in an answer or a refusal."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.simulator import Simulator
from tests.simulator.client import consent
from vault.dialect import RequestStyle
from vault.egress.once import Heard, Http, Sent
from vault.egress.rules import Egress
from vault.errors import ConnectRefused
from vault.model import Answer
from vault.oauth import codeflow
from vault.oauth.codeflow import RequestsCodeExchange
from vault.provider import Client, ClientAuth, Provider
from vault.secret import Secret
from vault.wiring.clock import utc

CALLBACK = "http://127.0.0.1:8000/callback"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636, appendix B
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exchange sets a switch of oauthlib's; it is taken back after each test."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "")
    monkeypatch.delenv("OAUTHLIB_INSECURE_TRANSPORT")


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator({"acme": {}}) as running:
        yield running


@pytest.fixture
def provider(simulator: Simulator) -> Provider:
    config = simulator.application.providers["acme"].config
    return Provider(
        "acme",
        simulator.uri("acme", "authorize"),
        simulator.uri("acme", "token"),
        client=Client(config.client_id, Secret(config.client_secret)),
    )


def client(provider: Provider) -> Client:
    assert provider.client is not None
    return provider.client


def exchange() -> RequestsCodeExchange:
    return RequestsCodeExchange(Egress(["127.0.0.1"]), utc)


def agreed(provider: Provider, *scopes: str) -> Secret:
    """The owner agrees; returns the code."""
    uri = exchange().authorization(provider, CALLBACK, scopes, "xyzzy", VERIFIER, {}).url
    back = consent(uri)
    assert back["state"] == "xyzzy"
    return Secret(back["code"])


def fetch(provider: Provider, code: Secret, verifier: str = VERIFIER) -> Answer:
    return exchange().fetch(provider, CALLBACK, code, Secret(verifier), {})


def refused(provider: Provider, code: Secret, **more: str) -> ConnectRefused:
    with pytest.raises(ConnectRefused) as refusal:
        fetch(provider, code, **more)
    assert code.reveal() not in str(refusal.value)
    assert refusal.value.__cause__ is None
    return refusal.value


# ------------------------------------------------------------------------------------------------------ sending someone


def asked(provider: Provider, *scopes: str) -> dict[str, list[str]]:
    uri = RequestsCodeExchange(Egress(), utc).authorization(provider, CALLBACK, scopes, "st&te", VERIFIER, {}).url
    assert uri.startswith(provider.authorize_uri)
    return parse_qs(urlsplit(uri).query, strict_parsing=True)


FAR = Provider("far", "https://far.test/authorize?tenant=1", "https://far.test/token", client=Client("id", None))


def test_the_owner_is_sent_with_everything_the_provider_must_know() -> None:
    assert asked(FAR, "read", "write") == {
        "tenant": ["1"],
        "response_type": ["code"],
        "client_id": ["id"],
        "redirect_uri": [CALLBACK],
        "scope": ["read write"],
        "state": ["st&te"],
        "code_challenge": [CHALLENGE],
        "code_challenge_method": ["S256"],
    }


def test_the_challenge_is_made_of_the_verifier_and_does_not_tell_it() -> None:
    challenge = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    assert challenge == CHALLENGE
    assert VERIFIER not in json.dumps(asked(FAR))


def test_parameters_and_separators_of_the_provider_s_own_are_kept() -> None:
    found = asked(
        replace(FAR, scope_separator=",", authorize_parameters={"access_type": "offline", "prompt": "consent"}),
        "read",
        "write",
    )
    assert (found["scope"], found["access_type"], found["prompt"]) == (["read,write"], ["offline"], ["consent"])
    assert "scope" not in asked(FAR)


@pytest.mark.parametrize("uri", ["http://far.test/authorize", "ftp://far.test/", "//far.test/authorize", ""])
def test_nobody_is_sent_anywhere_without_tls(uri: str) -> None:
    for exchange in (RequestsCodeExchange(Egress(), utc), RequestsCodeExchange(Egress(["127.0.0.1"]), utc)):
        with pytest.raises(ConnectRefused) as refusal:
            exchange.authorization(replace(FAR, authorize_uri=uri), CALLBACK, (), "s", VERIFIER, {})
        assert refusal.value.reason == "insecure"


def test_no_code_goes_anywhere_without_tls() -> None:
    with pytest.raises(ConnectRefused) as refusal:
        fetch(replace(FAR, token_uri="http://far.test/token"), Secret("code"))
    assert refusal.value.reason == "insecure"


def test_without_hosts_that_were_named_oauthlib_stays_strict() -> None:
    RequestsCodeExchange(Egress(), utc)
    assert "OAUTHLIB_INSECURE_TRANSPORT" not in os.environ


# --------------------------------------------------------------------------------------------------------- coming back


@pytest.mark.parametrize(
    ("method", "accepted"), [(ClientAuth.BASIC, "basic"), (ClientAuth.BODY, "post"), (ClientAuth.NONE, "none")]
)
def test_a_code_becomes_tokens(simulator: Simulator, provider: Provider, method: ClientAuth, accepted: str) -> None:
    simulator.configure("acme", client_auth=accepted)
    provider = replace(provider, client_auth=method)
    answer = fetch(provider, agreed(provider, "read", "write"))
    assert (answer.scopes, answer.token_type, answer.expires_in) == (("read", "write"), "Bearer", timedelta(hours=1))
    assert answer.refresh_token is not None
    assert simulator.oracle().issued(answer.refresh_token.reveal())[0] == "acme"


def test_scopes_the_owner_struck_out_do_not_cost_the_tokens(simulator: Simulator, provider: Provider) -> None:
    """oauthlib would raise a bare Warning with the tokens inside."""
    code = agreed(provider, "read", "write")
    simulator.configure("acme", answer={"omit": ["scope"], "extra": {"scope": "read"}})
    answer = fetch(provider, code)
    assert answer.scopes == ("read",)
    assert answer.refresh_token


def test_an_answer_without_scopes_says_nothing_about_them(simulator: Simulator, provider: Provider) -> None:
    code = agreed(provider, "read")
    simulator.configure("acme", answer={"omit": ["scope"]})
    assert fetch(provider, code).scopes is None


def test_an_answer_is_read_as_a_refresh_s_is(simulator: Simulator, provider: Provider) -> None:
    code = agreed(provider, "read", "write")
    simulator.configure("acme", answer={"expires_in": "string", "scope_separator": ",", "omit": ["refresh_token"]})
    answer = fetch(replace(provider, scope_separator=","), code)
    assert (answer.expires_in, answer.scopes, answer.refresh_token) == (timedelta(hours=1), ("read", "write"), None)


# ------------------------------------------------------------------------------------------------------------ refusals


def test_a_code_that_was_used_is_refused(provider: Provider) -> None:
    code = agreed(provider)
    fetch(provider, code)
    refusal = refused(provider, code)
    assert refusal.reason == "exchange_refused"
    assert "invalid_grant" in str(refusal)


def test_a_verifier_of_somebody_else_s_is_refused(provider: Provider) -> None:
    refusal = refused(provider, agreed(provider), verifier="x" * 43)
    assert refusal.reason == "exchange_refused"
    assert not refusal.client_refused


def test_a_client_that_is_not_known_is_refused(simulator: Simulator, provider: Provider) -> None:
    code = agreed(provider)
    simulator.configure("acme", invalid_client=True)
    refusal = refused(provider, code)
    assert "invalid_client" in str(refusal)
    assert refusal.client_refused


def test_an_error_that_comes_with_200_is_an_error(simulator: Simulator, provider: Provider) -> None:
    simulator.configure("acme", errors_as_200=True)
    refusal = refused(provider, Secret("no-such-code"))
    assert (refusal.reason, "bad_refresh_token" in str(refusal)) == ("exchange_refused", True)


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("error_before", {"status": 503}),
        ("error_after", {"status": 500}),
        ("rate_limited", {"retry_after": 30}),
        ("not_json", {}),
        ("malformed", {}),
        ("missing", {"fields": ["access_token"]}),
        ("error_in_200", {}),
        ("redirect", {"location": "http://127.0.0.1:1/elsewhere"}),
        ("huge", {"size": 8 * 1024 * 1024}),
    ],
)
def test_every_answer_that_brings_no_token_is_a_refusal(
    simulator: Simulator, provider: Provider, kind: str, members: dict[str, Any]
) -> None:
    code = agreed(provider)
    simulator.add_fault("acme", kind, **members)
    assert refused(provider, code).reason == "exchange_refused"


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "reset_before", "reset_after", "truncated"])
def test_a_connection_that_breaks_is_a_provider_out_of_reach(
    simulator: Simulator, provider: Provider, kind: str
) -> None:
    code = agreed(provider)
    simulator.add_fault("acme", kind)
    assert refused(provider, code).reason == "provider_unreachable"


def test_nobody_there_is_a_provider_out_of_reach(provider: Provider) -> None:
    refusal = refused(replace(provider, token_uri="http://127.0.0.1:1/token"), Secret("code"))
    assert refusal.reason == "provider_unreachable"


def requests_heard(simulator: Simulator) -> int:
    return simulator.application.requests


@pytest.mark.parametrize("kind", ["drop_after", "error_before", "redirect", "not_json", "truncated"])
def test_a_code_is_sent_once_whatever_comes_of_it(simulator: Simulator, provider: Provider, kind: str) -> None:
    code = agreed(provider)
    simulator.add_fault("acme", kind, location=simulator.uri("acme", "userinfo"))
    before = requests_heard(simulator)
    refused(provider, code)
    assert requests_heard(simulator) - before == 1


def test_an_endless_answer_is_not_waited_for(
    simulator: Simulator, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that drip in keep every time-out between bytes from striking; a person waits, so the whole is bounded."""
    monkeypatch.setattr(codeflow, "DEADLINE", timedelta(seconds=0.5))
    code = agreed(provider)
    simulator.add_fault("acme", "drip", delay=6.0)
    begun = time.monotonic()
    assert refused(provider, code).reason == "provider_unreachable"
    assert time.monotonic() - begun < 10


def test_silence_is_not_waited_for_either(
    simulator: Simulator, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codeflow, "DEADLINE", timedelta(seconds=0.5))
    code = agreed(provider)
    simulator.add_fault("acme", "slow", delay=30.0)
    assert refused(provider, code).reason == "provider_unreachable"


# -------------------------------------------------------------------------------------------------------------- secrecy


def test_no_log_not_even_the_most_talkative_tells_a_secret(
    simulator: Simulator, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    """requests-oauthlib logs headers, bodies and tokens when it is told to debug."""
    caplog.set_level(logging.DEBUG)
    for name in ("requests_oauthlib", "oauthlib", "urllib3", "requests"):
        caplog.set_level(logging.DEBUG, name)
    for method in (ClientAuth.BASIC, ClientAuth.BODY):
        answer = fetch(replace(provider, client_auth=method), agreed(provider))
        assert answer.refresh_token is not None
        secret = client(provider).client_secret
        assert secret is not None
        for each in (answer.access_token, answer.refresh_token, secret, Secret(VERIFIER)):
            assert each.reveal() not in caplog.text
    code = agreed(provider)
    refused(provider, code, verifier="y" * 43)
    assert code.reveal() not in caplog.text


@pytest.mark.parametrize("code", ["4/0AfJohXkslashed", "4/0AfJohXk" + "very-long" * 20, "short"])
def test_a_code_that_the_provider_repeats_is_not_repeated_here(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    said = json.dumps({"error": f"no such code: {code}"}).encode()
    monkeypatch.setattr(Http, "send", lambda *_: Heard(400, said, None))
    assert "told what it was sent" in str(refused(provider, Secret(code)))


def test_a_parameter_that_is_not_sent_stands_in_no_address(provider: Provider) -> None:
    style = RequestStyle(names={"scope": "", "client_id": "client_key"})
    url = exchange().authorization(replace(provider, request=style), CALLBACK, ["read"], "xyzzy", VERIFIER, {}).url
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert ("" in query, "scope" in query, query["client_key"]) == (False, False, [client(provider).client_id])


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Sent]:
    """What would have left, without leaving."""
    heard: list[Sent] = []

    def send(_: object, request: Sent) -> Heard:
        heard.append(request)
        return Heard(0, b"", None, "connect")

    monkeypatch.setattr(Http, "send", send)
    return heard


def test_basic_authentication_is_encoded_as_a_refresh_encodes_it(sent: list[Sent]) -> None:
    """RFC 6749, section 2.3.1; a provider that reads it one way at the exchange reads it so at the refresh."""
    refused(replace(FAR, client=Client("a:b", Secret("p+q%/"))), Secret("code"))
    [header] = [line for line in sent[0].headers if line.startswith("Authorization: Basic ")]
    assert b64decode(header.removeprefix("Authorization: Basic ")) == b"a%3Ab:p%2Bq%25%2F"


def test_a_public_client_shows_no_secret(sent: list[Sent]) -> None:
    refused(replace(FAR, client=Client("id", Secret("hidden")), client_auth=ClientAuth.NONE), Secret("code"))
    [request] = sent
    body = parse_qs((request.body or b"").decode())
    assert (body["client_id"], "client_secret" in body) == (["id"], False)
    assert not any(line.startswith("Authorization") for line in request.headers)


def test_a_proxy_or_a_netrc_of_the_environment_is_not_asked(
    simulator: Simulator, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch(provider, agreed(provider)).refresh_token
