"""Reading what a token endpoint said, case by case, and everything malformed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vault.dialect import AnswerStyle, ErrorStyle, FurtherGrant, Meaning
from vault.model import Answer
from vault.oauth import answers
from vault.oauth.lives import life as read_life
from vault.outcome import (
    Ambiguous,
    Dead,
    Exchange,
    Misconfigured,
    NotSent,
    Outcome,
    Refreshed,
    StepNeeded,
    Throttled,
    Unknown,
)
from vault.provider import Provider, Strategy
from vault.secret import Secret

PLAIN = Provider("acme", "", "")
GITHUB = Provider("github", "", "", errors=ErrorStyle(codes={"bad_refresh_token": Meaning.DEAD}))
COMMAS = Provider("slack", "", "", scope_separator=",")
MINUTE = timedelta(minutes=1)


def heard(status: int, body: object = b"", retry_after: timedelta | None = None) -> Exchange:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Exchange(None, status, data, retry_after, True, "")


def read(status: int, body: object = b"", provider: Provider = PLAIN, retry_after: timedelta | None = None) -> Outcome:
    return answers.read(provider, heard(status, body, retry_after))


def assert_same(outcome: Outcome, expected: Outcome) -> None:
    """Outcomes of different classes are equal as tuples, and that is not meant here."""
    assert (type(outcome), outcome) == (type(expected), expected)


def answer(provider: Provider = PLAIN, **members: object) -> Answer:
    outcome = read(200, {"access_token": "at", **members}, provider)
    assert isinstance(outcome, Refreshed), outcome
    return outcome.answer


# ------------------------------------------------------------------------------------------------------ no answer came


@pytest.mark.parametrize("failure", ["connect", "resolve", "timeout", "tls", "too_late"])
def test_what_was_not_sent_spent_nothing(failure: str) -> None:
    assert_same(answers.read(PLAIN, Exchange(None, 0, b"", None, False, failure)), NotSent(failure))


@pytest.mark.parametrize("failure", ["certificate", "refused_uri"])
def test_what_only_the_operator_can_mend_is_not_tried_again_soon(failure: str) -> None:
    assert_same(answers.read(PLAIN, Exchange(None, 0, b"", None, False, failure)), Misconfigured(failure))


@pytest.mark.parametrize("failure", ["timeout", "reset", "closed", "truncated", "too_large", "protocol", "tls"])
def test_what_was_sent_and_not_answered_is_in_doubt(failure: str) -> None:
    assert_same(answers.read(PLAIN, Exchange(None, 0, b"", None, True, failure)), Ambiguous(failure))


# ------------------------------------------------------------------------------------------------ the classes, as told

TRANSIENT: list[tuple[int, object, Outcome]] = [
    (500, b"", Ambiguous("http_500")),
    (502, b"<html>", Ambiguous("http_502")),
    (503, {"error": "temporarily_unavailable"}, Ambiguous("http_503")),
    (504, b"", Ambiguous("http_504")),
    (599, b"", Ambiguous("http_599")),
    (408, b"", Ambiguous("http_408")),
    (425, b"", Throttled("http_425")),
    (429, {"error": "rate_limited"}, Throttled("http_429")),
    (429, {"error": "invalid_grant"}, Throttled("http_429")),
    (400, {"error": "temporarily_unavailable"}, Throttled("temporarily_unavailable")),
    (400, {"error": "server_error"}, Throttled("server_error")),
    (400, {"error": "slow_down"}, Throttled("slow_down")),
    (200, {"error": "server_error"}, Throttled("server_error")),
    (200, b"<html>We will be right back.</html>", Ambiguous("unreadable")),
    (200, b"", Ambiguous("unreadable")),
    (204, b"", Ambiguous("unreadable")),
    (400, b"<html>HubSpot has hiccups</html>", Throttled("http_400")),
    (403, b"<html>Request blocked</html>", Throttled("http_403")),
    (409, b"", Throttled("http_409")),
]
DOUBTED_5XX: list[tuple[int, object, Outcome]] = [
    (500, {"error": "invalid_grant"}, Ambiguous("http_500")),
    (503, {"error": "invalid_client"}, Ambiguous("http_503")),
    (500, {"access_token": "at"}, Ambiguous("http_500")),
]
OPERATOR: list[tuple[int, object, Outcome]] = [
    (401, {"error": "invalid_client"}, Misconfigured("invalid_client")),
    (400, {"error": "invalid_client"}, Misconfigured("invalid_client")),
    (400, {"error": "unauthorized_client"}, Misconfigured("unauthorized_client")),
    (400, {"error": "unsupported_grant_type"}, Misconfigured("unsupported_grant_type")),
    (400, {"error": "invalid_request"}, Misconfigured("invalid_request")),
    (400, {"error": "invalid_scope"}, Misconfigured("invalid_scope")),
    (401, {}, Misconfigured("no_code")),
    (200, {"error": "incorrect_client_credentials"}, Misconfigured("incorrect_client_credentials")),
    (200, {"ok": False, "error": "bad_client_secret"}, Misconfigured("bad_client_secret")),
    (301, b"", Misconfigured("redirected")),
    (302, {"access_token": "at"}, Misconfigured("redirected")),
    (308, b"", Misconfigured("redirected")),
]
DEAD: list[tuple[int, object, Outcome]] = [
    (400, {"error": "invalid_grant"}, Dead("invalid_grant")),
    (401, {"error": "invalid_grant"}, Dead("invalid_grant")),
    (403, {"error": "invalid_grant", "error_description": "revoked"}, Dead("invalid_grant")),
    (200, {"error": "invalid_grant"}, Dead("invalid_grant")),
]
USER_STEP: list[tuple[int, object, Outcome]] = [
    (400, {"error": "interaction_required"}, StepNeeded("interaction_required")),
    (400, {"error": "login_required"}, StepNeeded("login_required")),
    (400, {"error": "consent_required"}, StepNeeded("consent_required")),
    (403, {"error": "insufficient_scope"}, StepNeeded("insufficient_scope")),
]
UNKNOWN: list[tuple[int, object, Outcome]] = [
    (400, {"error": "odd"}, Unknown("odd")),
    (400, {"error": "bad_refresh_token"}, Unknown("bad_refresh_token")),
    (400, {}, Unknown("http_400")),
    (404, {"message": "not found"}, Unknown("http_404")),
    (400, {"error": {"code": 190, "message": "expired"}}, Unknown("http_400")),
    (400, {"error": 17}, Unknown("17")),
    (200, {"error": "Access Denied"}, Unknown("Access_Denied")),
]


@pytest.mark.parametrize(
    ("status", "body", "outcome"), [*TRANSIENT, *DOUBTED_5XX, *OPERATOR, *DEAD, *USER_STEP, *UNKNOWN]
)
def test_each_answer_is_put_into_its_class(status: int, body: object, outcome: Outcome) -> None:
    assert_same(read(status, body), outcome)


def test_github_says_it_with_a_word_of_its_own_and_status_200() -> None:
    assert_same(read(200, {"error": "bad_refresh_token"}, GITHUB), Dead("bad_refresh_token"))
    assert_same(read(200, {"error": "invalid_grant"}, GITHUB), Dead("invalid_grant"))


@pytest.mark.parametrize("status", [400, 409, 425, 429])
def test_patience_asked_for_is_passed_on(status: int) -> None:
    assert_same(read(status, b"later", retry_after=MINUTE), Throttled(f"http_{status}", MINUTE))
    assert_same(read(400, {"error": "slow_down"}, retry_after=MINUTE), Throttled("slow_down", MINUTE))
    assert_same(read(503, b"", retry_after=MINUTE), Ambiguous("http_503", MINUTE))


# -------------------------------------------------------------------------------------------------------------- tokens


def test_the_example_of_rfc_6749_section_5_1() -> None:
    body = {
        "access_token": "2YotnFZFEjr1zCsicMWpAA",
        "token_type": "example",
        "expires_in": 3600,
        "refresh_token": "tGzv3JOkF0XG5Qx2TlKWIA",
        "example_parameter": "example_value",
    }
    assert read(200, body) == Refreshed(
        Answer(Secret("2YotnFZFEjr1zCsicMWpAA"), Secret("tGzv3JOkF0XG5Qx2TlKWIA"), timedelta(hours=1), "example")
    )


@pytest.mark.parametrize("nothing", [{}, {"refresh_token": None}, {"refresh_token": ""}, {"refresh_token": 5}])
def test_no_refresh_token_means_the_old_one_stands(nothing: dict[str, Any]) -> None:
    """Spotify, Google, Sign in with Apple."""
    assert answer(**nothing).refresh_token is None


@pytest.mark.parametrize("absent", [None, "", 0, False])
def test_an_empty_error_beside_a_token_is_no_error(absent: object) -> None:
    assert answer(error=absent, refresh_token="rt").refresh_token == Secret("rt")


def test_an_error_beside_a_token_is_an_error() -> None:
    assert_same(read(200, {"access_token": "at", "error": "invalid_grant"}), Dead("invalid_grant"))


@pytest.mark.parametrize("status", [200, 201, 203])
def test_any_success_will_do(status: int) -> None:
    assert isinstance(read(status, {"access_token": "at"}), Refreshed)


@pytest.mark.parametrize("token", [None, "", 5, [], {}, True])
def test_a_success_without_a_token_is_in_doubt(token: object) -> None:
    assert_same(read(200, {"access_token": token, "refresh_token": "rt"}), Ambiguous("no_access_token"))


def test_long_tokens_are_tokens() -> None:
    assert answer(refresh_token="r" * 16_000).refresh_token == Secret("r" * 16_000)


@pytest.mark.parametrize("token", ["a\ud800b", "a\r\nX-Injected: 1", "a\x00b", "a\nb"])
def test_a_token_that_no_header_can_carry_is_not_taken_for_one(token: str) -> None:
    """RFC 6749, appendix A: tokens are visible ASCII. What cannot be encoded could be neither sealed nor sent."""
    assert_same(read(200, {"access_token": token}), Ambiguous("no_access_token"))
    assert_same(read(200, {"access_token": "at", "refresh_token": token}), Ambiguous("unreadable"))


@pytest.mark.parametrize("kind", [None, "", 5, "Be\x00arer", "a\ud800", "Bearer\r\nX: 1"])
def test_a_token_type_that_is_none_is_bearer(kind: object) -> None:
    assert answer(token_type=kind).token_type == "Bearer"


@pytest.mark.parametrize(
    ("scope", "provider", "expected"),
    [
        ("read write", PLAIN, ("read", "write")),
        ("read  write ", PLAIN, ("read", "write")),
        ("read,write", COMMAS, ("read", "write")),
        ("read, write", COMMAS, ("read", "write")),
        ("read+write", replace(PLAIN, scope_separator="+"), ("read", "write")),
        ("", PLAIN, ()),
        (None, PLAIN, None),
        (["read", "write"], PLAIN, ("read", "write")),
        ("read \x00", PLAIN, ("read",)),
        ("read \ud800", PLAIN, ("read",)),
    ],
)
def test_scopes_are_read_in_the_provider_s_way_of_writing_them(
    scope: object, provider: Provider, expected: tuple[str, ...] | None
) -> None:
    assert answer(provider, scope=scope).scopes == expected


def test_what_the_provider_s_row_names_is_kept_as_text() -> None:
    row = replace(PLAIN, answer=AnswerStyle(account="team.id", kept=("instance_url", "realm", "nothing", "deep.er")))
    said = {"team": {"id": 17}, "instance_url": "https://na1.example", "realm": True, "deep": {"er": "x"}}
    outcome = answers.read(row, heard(200, {"access_token": "at", **said}))
    assert isinstance(outcome, Refreshed)
    assert outcome.answer.account == "17"
    assert outcome.answer.extra == {"instance_url": "https://na1.example", "deep.er": "x"}


@pytest.mark.parametrize("value", [None, True, 1.5, [], {}, "", "a\nb", "x" * 2049])
def test_what_is_no_plain_text_is_not_kept(value: object) -> None:
    row = replace(PLAIN, answer=AnswerStyle(account="id", kept=("id",)))
    outcome = answers.read(row, heard(200, {"access_token": "at", "id": value}))
    assert isinstance(outcome, Refreshed)
    assert (outcome.answer.account, outcome.answer.extra) == (None, {})


@pytest.mark.parametrize("body", [{}, {"message": "maintenance"}, {"result": ""}, {"ok": True}])
def test_a_life_is_not_prolonged_by_an_answer_that_does_not_say_so(body: object) -> None:
    coros = replace(PLAIN, strategy=Strategy.EXTEND, errors=ErrorStyle(("result", "error"), frozenset({"0000"})))
    assert_same(read(200, body, coros), Ambiguous("no_access_token"))
    assert isinstance(read(200, {"result": "0000"}, coros), Refreshed)
    assert isinstance(read(200, body, replace(coros, errors=ErrorStyle())), Refreshed), "of others silence is consent"


PAIRS = replace(PLAIN, grants={"user": FurtherGrant("authed_user", "authed_user.id")})


def test_a_further_grant_is_read_beside_the_first() -> None:
    user = {"id": "U1", "access_token": "at-user", "refresh_token": "rt-user", "expires_in": 60, "scope": "search"}
    found = answer(PAIRS, refresh_token="rt", authed_user=user)
    further = found.grants["user"]
    assert (found.access_token.reveal(), found.account) == ("at", None)
    assert (further.access_token.reveal(), further.account, further.expires_in) == ("at-user", "U1", MINUTE)
    assert further.refresh_token == Secret("rt-user")
    assert further.scopes == ("search",)


@pytest.mark.parametrize("user", [None, "U1", [], {}, {"id": "U1"}, {"access_token": ""}])
def test_a_further_grant_that_did_not_come_is_none(user: object) -> None:
    assert answer(PAIRS, authed_user=user).grants == {}


@pytest.mark.parametrize(
    "user",
    [
        {"access_token": 5},
        {"access_token": ["at"]},
        {"access_token": "a\nb"},
        {"access_token": "a", "refresh_token": "\x00"},
    ],
)
def test_a_further_grant_that_cannot_be_read_is_not_passed_over(user: object) -> None:
    assert_same(read(200, {"access_token": "at", "authed_user": user}, PAIRS), Ambiguous("unreadable"))


def test_tokens_that_are_the_first_grant_s_are_not_a_further_one_s_too() -> None:
    nested = replace(PAIRS, answer=AnswerStyle(roots=("", "authed_user")))
    outcome = read(200, {"ok": True, "authed_user": {"access_token": "at"}}, nested)
    assert isinstance(outcome, Refreshed)
    assert outcome.answer.grants == {}


def test_a_form_encoded_answer_is_read_too() -> None:
    """GitHub, when it does not see our Accept header; Facebook."""
    body = b"access_token=ghu_a%2Bb&expires_in=28800&refresh_token=ghr_c&scope=&token_type=bearer"
    outcome = read(200, body, GITHUB)
    assert outcome == Refreshed(
        Answer(Secret("ghu_a+b"), Secret("ghr_c"), timedelta(hours=8), "bearer", scopes=()),
    )
    assert_same(read(200, b"error=bad_refresh_token&error_description=x", GITHUB), Dead("bad_refresh_token"))


@pytest.mark.parametrize(
    "body",
    [
        b"<a href='?a=1&access_token=x&'>sign in</a>",
        b"please sign in &error=invalid_grant",
        b"hello",
        b"a=b&c=d",
        b"access_token",
    ],
)
def test_a_page_is_not_taken_for_a_form(body: bytes) -> None:
    assert_same(read(200, body), Ambiguous("unreadable"))
    assert_same(read(400, body), Throttled("http_400"))


# --------------------------------------------------------------------------------------------------------------- lives


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (3600, 3600.0),
        ("3600", 3600.0),
        (" 3600 ", 3600.0),
        (3600.5, 3600.5),
        ("3600.0", 3600.0),
        (1, 1.0),
        (0, None),
        (-5, None),
        ("", None),
        ("soon", None),
        ("1:00:00", 86_400.0),
        (None, None),
        (True, None),
        ([3600], None),
        ({"s": 1}, None),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        (10**12, 315_360_000.0),
        (10**400, None),
        ("9" * 400, None),
        (1e308, 315_360_000.0),
    ],
)
def test_a_life_is_read_from_whatever_tells_it_and_is_ten_years_at_most(told: object, expected: float | None) -> None:
    life = None if expected is None else timedelta(seconds=expected)
    assert answer(expires_in=told).expires_in == life
    assert answer(refresh_token_expires_in=told).refresh_expires_in == life


@given(st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none(), st.lists(st.integers())))
def test_a_life_is_positive_or_not_told(value: object) -> None:
    life = read_life(value)
    assert life is None or timedelta(0) <= life <= timedelta(days=3650)


# ----------------------------------------------------------------------------------------------------------- malformed

BOMBS = [
    b"[" * 60_000,
    b'{"a":' * 12_000,
    b'{"access_token":' * 4_000 + b"1" + b"}" * 4_000,
    b'{"access_token": "at", "expires_in": ' + b"9" * 5_000 + b"}",
    b'{"access_token": "at", "expires_in": 1e999}',
    b'{"access_token": "at", "expires_in": NaN}',
    b'{"access_token": "at", "expires_in": -Infinity}',
    b'{"access_token": "at"',
    b'{"access_token": "at"} trailing',
    b'["access_token"]',
    b'"access_token"',
    b"null",
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    b'{"error": "\xff"}',
    b'{"error": "\\ud800"}',
    b"\x00" * 100,
]


@pytest.mark.parametrize("body", BOMBS, ids=lambda body: repr(body[:24]))
@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_bomb_is_an_answer_like_any_other(status: int, body: bytes) -> None:
    outcome = read(status, body)
    assert not isinstance(outcome, (Dead, StepNeeded))
    if status == 500:
        assert_same(outcome, Ambiguous("http_500"))


members = st.dictionaries(
    st.sampled_from(
        ["access_token", "refresh_token", "expires_in", "token_type", "scope", "error", "refresh_token_expires_in"]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
)
bodies = st.one_of(
    st.binary(),
    members.map(lambda document: json.dumps(document).encode()),
    members.map(lambda document: json.dumps(document, ensure_ascii=False).encode(errors="surrogatepass")),
)


@given(st.integers(0, 999), bodies, st.booleans(), st.sampled_from([PLAIN, GITHUB, COMMAS]))
@example(200, b'{"access_token":"a","expires_in":1' + b"0" * 400 + b"}", True, PLAIN)
def test_no_answer_whatever_makes_reading_it_fail(status: int, body: bytes, sent: bool, provider: Provider) -> None:
    outcome = answers.read(provider, Exchange(None, status, body, None, sent, "" if status else "reset"))
    if isinstance(outcome, Refreshed):
        found = outcome.answer
        texts = [found.access_token.reveal(), found.token_type, *(found.scopes or ())]
        texts += [found.refresh_token.reveal()] if found.refresh_token else []
        assert all(text.encode() and "\x00" not in text for text in texts)


@given(st.text())
@example("x" * 1000)
@example("ä\x00\n ü")
def test_a_code_from_outside_is_fit_for_a_log_and_a_column(code: str) -> None:
    outcome = read(400, {"error": code})
    word = outcome.code if isinstance(outcome, (Unknown, Dead, StepNeeded, Misconfigured)) else ""
    assert len(word) <= 64
    assert word.isascii()
    assert word.isprintable()
    assert " " not in word


@pytest.mark.parametrize(
    ("code", "of_client"),
    [
        ("invalid_client", True), ("unauthorized_client", True), ("no_code", True), ("bad_client_secret", True),
        ("invalid_request", False), ("invalid_scope", False), ("redirected", False), ("certificate", False),
    ],
)  # fmt: skip
def test_only_some_refusals_may_be_about_the_secret(code: str, of_client: bool) -> None:
    assert Misconfigured(code).of_client is of_client
