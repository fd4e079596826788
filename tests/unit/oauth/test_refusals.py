"""What each provider's row makes of its provider's ways of saying no; row by row of what is known about them."""

from __future__ import annotations

import json

import pytest

from vault.dialect import ErrorPattern, ErrorStyle, Meaning
from vault.oauth import answers
from vault.oauth.providers import FileProviders
from vault.outcome import Ambiguous, Dead, Exchange, Misconfigured, Outcome, Refreshed, StepNeeded, Throttled, Unknown
from vault.provider import Provider, Strategy

REGISTRY = FileProviders([], {})


def read(provider: Provider | str, status: int, body: object) -> Outcome:
    row = REGISTRY.get(provider) if isinstance(provider, str) else provider
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answers.read(row, Exchange(None, status, data, None, True, ""))


def entra(number: int, code: str = "invalid_grant") -> dict[str, object]:
    return {"error": code, "error_description": f"AADSTS{number}: …", "error_codes": [number]}


@pytest.mark.parametrize(
    ("name", "status", "body", "outcome"),
    [
        ("github", 200, {"error": "bad_refresh_token"}, Dead("bad_refresh_token")),
        ("github", 200, b"error=bad_refresh_token&error_description=gone", Dead("bad_refresh_token")),
        ("github", 200, {"error": "incorrect_client_credentials"}, Misconfigured("incorrect_client_credentials")),
        ("hubspot", 400, {"status": "BAD_REFRESH_TOKEN", "message": "m"}, Dead("BAD_REFRESH_TOKEN")),
        ("hubspot", 400, {"status": "BAD_CLIENT_ID", "message": "m"}, Misconfigured("BAD_CLIENT_ID")),
        ("hubspot", 400, {"status": "error", "message": "m"}, Unknown("error")),
        ("slack", 200, {"ok": False, "error": "token_revoked"}, Dead("token_revoked")),
        ("slack", 200, {"ok": False, "error": "invalid_refresh_token"}, Dead("invalid_refresh_token")),
        ("slack", 200, {"ok": False, "error": "bad_client_secret"}, Misconfigured("bad_client_secret")),
        ("slack", 200, {"ok": False, "error": "ratelimited"}, Throttled("ratelimited")),
        ("slack", 200, {"ok": False, "error": "account_inactive"}, StepNeeded("account_inactive")),
        ("slack", 200, {"ok": False, "error": "who_knows"}, Unknown("who_knows")),
        ("microsoft", 400, entra(700082), Dead("700082")),
        ("microsoft", 400, entra(700084), Dead("700084")),
        ("microsoft", 400, entra(50173), Dead("50173")),
        ("microsoft", 400, entra(50076, "interaction_required"), StepNeeded("50076")),
        ("microsoft", 400, entra(50076), StepNeeded("50076")),
        ("microsoft", 401, entra(7000215, "invalid_client"), Misconfigured("7000215")),
        ("microsoft", 400, entra(90033, "temporarily_unavailable"), Throttled("90033")),
        ("microsoft", 400, entra(1), Dead("invalid_grant")),
        ("hubspot", 400, b"<html>oops</html>", Throttled("http_400")),
        ("zoho", 200, {"error": "Access Denied", "status": "failure"}, Throttled("Access_Denied")),
        ("zoho", 200, {"error": "invalid_code"}, Dead("invalid_code")),
        ("zoho", 200, {"error": "invalid_client_secret"}, Misconfigured("invalid_client_secret")),
        ("salesforce", 400, {"error": "invalid_client_id"}, Misconfigured("invalid_client_id")),
        (
            "dropbox",
            400,
            {"error": "invalid_client: Invalid client_id or client_secret"},
            Misconfigured("invalid_client"),
        ),
        ("dropbox", 400, {"error": "who_knows: invalid_client"}, Unknown("who_knows__invalid_client")),
        ("twitch", 403, {"status": 403, "message": "invalid client secret"}, Misconfigured("invalid_client_secret")),
        ("box", 409, b"", Throttled("http_409")),
        ("facebook", 400, {"error": {"code": 190, "message": "expired"}}, Dead("190")),
        ("facebook", 400, {"error": {"code": 4, "message": "too many calls"}}, Throttled("4")),
        ("facebook", 400, {"error": {"code": 17_000}}, Unknown("17000")),
        ("instagram", 400, {"error": {"code": 190, "message": "expired"}}, Dead("190")),
        ("tiktok_business", 200, {"code": 40105, "message": "refresh token is invalid"}, Dead("40105")),
        ("tiktok_business", 200, {"code": 40001, "message": "bad app"}, Misconfigured("40001")),
        ("tiktok_business", 200, {"code": 50000, "message": "sorry"}, Throttled("50000")),
        ("coros", 200, {"result": "5001", "message": "?"}, Unknown("5001")),
        ("twitch", 400, {"status": 400, "message": "Invalid refresh token"}, Dead("Invalid_refresh_token")),
        ("fitbit", 400, {"errors": [{"errorType": "invalid_grant"}], "success": False}, Dead("invalid_grant")),
        ("exact_online", 500, {"error": "invalid_grant"}, Ambiguous("http_500")),
        ("google_service", 400, {"error": "invalid_grant"}, Unknown("invalid_grant")),
    ],
)
def test_a_provider_s_no_means_what_its_row_says(name: str, status: int, body: object, outcome: Outcome) -> None:
    found = read(name, status, body)
    assert (type(found), found) == (type(outcome), outcome)


def row(style: ErrorStyle, **more: object) -> Provider:
    return Provider("acme", "", "", errors=style, **more)  # type: ignore[arg-type]


def test_a_dead_grant_may_be_told_in_free_text_or_by_a_status_alone() -> None:
    import re

    text = row(ErrorStyle(patterns=(ErrorPattern(Meaning.DEAD, re.compile("(?i)refresh token (has )?expired")),)))
    assert read(text, 403, b"Sorry: refresh token expired.") == Dead("http_403")
    assert read(text, 200, b"Refresh token has expired") == Dead("http_200")
    assert read(text, 400, {"error": "odd", "message": "Refresh token expired"}) == Dead("odd")
    assert read(text, 403, b"Request blocked") == Throttled("http_403")
    assert read(text, 503, b"refresh token expired") == Ambiguous("http_503"), "a 5xx outranks whatever its body says"
    status = row(ErrorStyle(statuses={403: Meaning.DEAD}))
    assert read(status, 403, b"") == Dead("http_403")
    assert read(status, 403, {"error": "invalid_client"}) == Dead("invalid_client")
    assert read(Provider("plain", "", ""), 403, b"") == Throttled("http_403"), "nobody is taken for dead by default"


def test_a_row_s_word_outranks_the_standard_s() -> None:
    style = ErrorStyle(codes={"invalid_grant": Meaning.TRANSIENT, "invalid_client": Meaning.DEAD})
    assert read(row(style), 400, {"error": "invalid_grant"}) == Throttled("invalid_grant")
    assert read(row(style), 401, {"error": "invalid_client"}) == Dead("invalid_client")


def test_codes_that_mean_all_is_well_are_none() -> None:
    style = ErrorStyle(members=("code", "error"), success=frozenset({"0", "OK"}))
    for said in (0, "0", "OK", None, "", False):
        assert isinstance(read(row(style), 200, {"code": said, "access_token": "at"}), Refreshed), said
    for odd in (True, [1], {"a": 1}):
        assert not isinstance(read(row(style), 200, {"code": odd, "access_token": "at"}), Refreshed), odd


def test_an_extension_brings_no_token_and_anything_else_must() -> None:
    assert isinstance(read(row(ErrorStyle(), strategy=Strategy.EXTEND), 200, {"result": "0000"}), Refreshed)
    assert read(row(ErrorStyle()), 200, {"result": "0000"}) == Ambiguous("no_access_token")
