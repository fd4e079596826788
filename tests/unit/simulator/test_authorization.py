"""The authorization code flow with PKCE, driven by requests-oauthlib as an application would."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any
from urllib.parse import urlencode

import pytest
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from tests.simulator.client import ConsentFailed, consent, follow

from .conftest import Rig

CALLBACK = "http://127.0.0.1:8000/callback"


@pytest.fixture(autouse=True)
def _loopback_needs_no_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


def _session(rig: Rig, **members: Any) -> OAuth2Session:
    client_id = rig.client()["client_id"]
    return OAuth2Session(client_id, redirect_uri=CALLBACK, scope=["read", "write"], pkce="S256", **members)


def _connect(rig: Rig, session: OAuth2Session, account: str = "alice") -> dict[str, Any]:
    uri, _ = session.authorization_url(rig.simulator.uri("acme", "authorize"), login_hint=account)
    token: dict[str, Any] = session.fetch_token(
        rig.simulator.uri("acme", "token"),
        authorization_response=follow(uri),
        client_secret=rig.client()["client_secret"],
    )
    return token


def _authorize(rig: Rig, **changes: str) -> str:
    parameters = {
        "response_type": "code",
        "client_id": rig.client()["client_id"],
        "redirect_uri": CALLBACK,
        "state": "xyzzy",
        "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",  # RFC 7636, appendix B
        "code_challenge_method": "S256",
        "login_hint": "alice",
    }
    return f"{rig.simulator.uri('acme', 'authorize')}?{urlencode(parameters | changes)}"


def _exchange(rig: Rig, code: str, **changes: str) -> tuple[int, str]:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    }
    answer = rig.post("token", form | rig.client() | changes)
    return answer.status, answer.json().get("error", "")


def test_connect_read_and_refresh_through_requests_oauthlib(rig: Rig) -> None:
    session = _session(rig)
    token = _connect(rig, session)
    assert (token["token_type"], token["expires_in"], token["scope"]) == ("Bearer", 3600, ["read", "write"])
    assert session.get(rig.simulator.uri("acme", "userinfo")).json()["sub"] == "alice"
    assert rig.oracle.issued(token["refresh_token"])[:2] == ("acme", "alice")

    client_id, client_secret = rig.client().values()
    fresh = session.refresh_token(rig.simulator.uri("acme", "token"), client_id=client_id, client_secret=client_secret)
    assert rig.oracle.current_refresh_tokens("alice") == {fresh["refresh_token"]}
    assert session.get(rig.simulator.uri("acme", "api")).status_code == 200


def test_basic_authentication(rig: Rig) -> None:
    rig.configure(client_auth="basic")
    token = _connect(rig, _session(rig))
    auth = HTTPBasicAuth(*rig.client().values())
    fresh = _session(rig).refresh_token(rig.simulator.uri("acme", "token"), token["refresh_token"], auth=auth)
    assert fresh["access_token"] != token["access_token"]
    assert rig.refresh(token["refresh_token"]).json()["error"] == "invalid_client"


def test_post_authentication_only(rig: Rig) -> None:
    rig.configure(client_auth="post")
    first = rig.grant()
    headers = {"Authorization": "Basic ZXZlcmdyYW50Og=="}
    answer = rig.post("token", {"grant_type": "refresh_token", "refresh_token": first}, headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    right = b64encode(":".join(rig.client().values()).encode()).decode()
    answer = rig.post(
        "token", {"grant_type": "refresh_token", "refresh_token": first}, {"Authorization": f"Basic {right}"}
    )
    assert answer.status == 401
    rig.rotate(first)


def test_a_public_client_needs_no_secret(rig: Rig) -> None:
    rig.configure(client_auth="none")
    answer = rig.refresh(rig.grant(), client_secret="")
    assert answer.status == 200


def test_the_callback_carries_code_state_and_issuer(rig: Rig) -> None:
    callback = consent(_authorize(rig))
    assert callback.keys() == {"code", "state", "iss"}
    assert callback["state"] == "xyzzy"
    assert callback["iss"] == f"{rig.simulator.base_uri}/acme"


def test_denied_consent(rig: Rig) -> None:
    callback = consent(_authorize(rig, deny="1"))
    assert (callback["error"], callback["state"]) == ("access_denied", "xyzzy")
    assert "code" not in callback


@pytest.mark.parametrize("change", [{"client_id": "somebody"}, {"redirect_uri": "https://evil.example/callback"}])
def test_strangers_are_not_redirected(rig: Rig, change: dict[str, str]) -> None:
    with pytest.raises(ConsentFailed):
        consent(_authorize(rig, **change))


def test_redirect_uris_are_compared_exactly(rig: Rig) -> None:
    rig.configure(redirect_uris=[CALLBACK])
    assert "code" in consent(_authorize(rig))
    with pytest.raises(ConsentFailed):
        consent(_authorize(rig, redirect_uri=CALLBACK + "/"))


@pytest.mark.parametrize("change", [{"code_challenge": ""}, {"code_challenge_method": "plain"}])
def test_pkce_is_required(rig: Rig, change: dict[str, str]) -> None:
    assert consent(_authorize(rig, **change))["error"] == "invalid_request"


def test_the_verifier_must_match(rig: Rig) -> None:
    code = consent(_authorize(rig))["code"]
    assert _exchange(rig, code, code_verifier="x" * 43) == (400, "invalid_grant")
    assert _exchange(rig, code, code_verifier="") == (400, "invalid_grant")
    assert _exchange(rig, code) == (200, "")


def test_the_redirect_uri_must_match(rig: Rig) -> None:
    code = consent(_authorize(rig))["code"]
    assert _exchange(rig, code, redirect_uri="http://127.0.0.1:8000/other") == (400, "invalid_grant")


def test_a_code_works_once_and_its_reuse_kills_what_it_gave(rig: Rig) -> None:
    code = consent(_authorize(rig))["code"]
    assert _exchange(rig, code) == (200, "")
    assert rig.oracle.alive("alice")
    assert _exchange(rig, code) == (400, "invalid_grant")
    assert not rig.oracle.alive("alice")


def test_a_code_does_not_last(rig: Rig) -> None:
    code = consent(_authorize(rig))["code"]
    rig.simulator.advance(61)
    assert _exchange(rig, code) == (400, "invalid_grant")


def test_a_refresh_token_only_for_those_who_ask(rig: Rig) -> None:
    rig.configure(offline_parameters={"access_type": "offline"})
    assert "refresh_token" not in _connect(rig, _session(rig))
    assert _exchange(rig, consent(_authorize(rig, access_type="offline"))["code"]) == (200, "")
    assert len(rig.oracle.current_refresh_tokens("alice")) == 1


def test_client_credentials(rig: Rig) -> None:
    answer = rig.post("token", {"grant_type": "client_credentials", "scope": "batch"} | rig.client()).json()
    assert answer["scope"] == "batch"
    assert "refresh_token" not in answer
    assert rig.bearer(answer["access_token"]).status == 200


def test_unknown_grant_type(rig: Rig) -> None:
    answer = rig.post("token", {"grant_type": "password"} | rig.client())
    assert (answer.status, answer.json()["error"]) == (400, "unsupported_grant_type")


def test_a_refresh_cannot_widen_the_scope(rig: Rig) -> None:
    first = rig.grant()
    assert rig.refresh(first, scope="read admin").json()["error"] == "invalid_scope"
    assert rig.refresh(first, scope="read").status == 200


def test_revoking_a_refresh_token_ends_the_grant(rig: Rig) -> None:
    first = rig.grant()
    fresh = rig.refresh(first).json()
    assert rig.post("revoke", {"token": fresh["refresh_token"]} | rig.client()).status == 200
    assert not rig.oracle.alive("alice")
    assert rig.bearer(fresh["access_token"]).status == 401
    assert rig.post("revoke", {"token": "unknown"} | rig.client()).status == 200
    assert rig.post("revoke", {"token": "unknown"}).status == 401


def test_revoking_an_access_token_leaves_the_grant(rig: Rig) -> None:
    fresh = rig.refresh(rig.grant()).json()
    assert rig.bearer(fresh["access_token"]).status == 200
    assert rig.post("revoke", {"token": fresh["access_token"]} | rig.client()).status == 200
    assert rig.bearer(fresh["access_token"]).status == 401
    assert not rig.oracle.access_token_live(fresh["access_token"])
    rig.rotate(fresh["refresh_token"])


def test_introspection(rig: Rig) -> None:
    fresh = rig.refresh(rig.grant()).json()
    for kind in ("access_token", "refresh_token"):
        assert rig.post("introspect", {"token": fresh[kind]} | rig.client()).json()["active"] is True
    assert rig.post("introspect", {"token": fresh["access_token"]}).status == 401
    rig.simulator.kill_account("acme", "alice")
    for kind in ("access_token", "refresh_token"):
        assert rig.post("introspect", {"token": fresh[kind]} | rig.client()).json() == {"active": False}


def test_an_expired_bearer_is_refused(rig: Rig) -> None:
    fresh = rig.refresh(rig.grant()).json()
    rig.simulator.advance(3601)
    answer = rig.bearer(fresh["access_token"])
    assert (answer.status, "invalid_token" in answer.headers["WWW-Authenticate"]) == (401, True)


def test_errors_as_github_sends_them(rig: Rig) -> None:
    rig.configure(errors_as_200=True, answer={"form": True})
    first = rig.grant()
    assert rig.refresh(first).text.startswith("access_token=cnry-at-")
    answer = rig.refresh(first)
    assert (answer.status, answer.text.partition("&")[0]) == (200, "error=bad_refresh_token")


def test_answers_in_another_dress(rig: Rig) -> None:
    rig.configure(
        rotation={"refresh_token_life": 1000},
        answer={
            "nest": "data",
            "rename": {"access_token": "accessToken"},
            "omit": ["token_type"],
            "extra": {"ok": True},
            "expires_in": "milliseconds",
            "refresh_token_expires_in": "x_refresh_token_expires_in",
        },
    )
    answer = rig.refresh(rig.grant()).json()
    assert answer["ok"] is True
    assert answer["data"].keys() == {
        "accessToken",
        "expires_in",
        "refresh_token",
        "x_refresh_token_expires_in",
        "scope",
    }
    assert answer["data"]["expires_in"] == 3_600_000
    assert answer["data"]["x_refresh_token_expires_in"] == 1000


def test_parameters_may_come_as_json_or_in_the_query(rig: Rig) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": rig.grant()} | rig.client()
    parts = rig.post(f"token?{urlencode(form)}", {})
    assert parts.status == 200
    form["refresh_token"] = parts.json()["refresh_token"]
    with rig.connect() as connection:
        body = json.dumps(form).encode()
        head = f"POST /acme/token HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
