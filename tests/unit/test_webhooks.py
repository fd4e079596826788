"""Webhook signatures: what others sign opens here, what is signed here opens there, and nothing else does."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from vault.errors import SignatureInvalid
from vault.secret import Secret
from vault.webhooks import TOLERANCE, Style, generate, is_secret, sign, verify

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ONE, TWO, OTHER = (generate(fill.__mul__) for fill in (b"1", b"2", b"3"))
SIGNATURE_HEADER = {
    Style.STANDARD: "webhook-signature",
    Style.GITHUB: "X-Hub-Signature-256",
    Style.STRIPE: "Stripe-Signature",
}


def headers(style: Style, *secrets: Secret, body: bytes = b"{}", at: datetime = NOW) -> dict[str, str]:
    return sign(style, secrets or (ONE,), body, now=at, message_id="msg_1")


def refused(style: Style, given: Mapping[str, str], body: bytes = b"{}", *secrets: Secret) -> bool:
    try:
        verify(style, secrets or (ONE,), given, body, now=NOW)
    except SignatureInvalid:
        return True
    return False


# ------------------------------------------------------------------------------------------------------------- vectors


def test_the_example_of_standard_webhooks() -> None:
    """The vector of the specification's own libraries (their tests call it "sign function works")."""
    secret, at = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), datetime.fromtimestamp(1614265330, UTC)
    body, message_id = b'{"test": 2432232314}', "msg_p5jXN8AQM9LWM0D4loKWxJek"
    made = sign(Style.STANDARD, [secret], body, now=at, message_id=message_id)
    assert made == {
        "webhook-id": message_id,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    verify(Style.STANDARD, [secret], made, body, now=at)


def test_the_example_of_github() -> None:
    """GitHub's documentation, "Validating webhook deliveries", "Testing the webhook payload validation"."""
    secret = Secret("It's a Secret to Everybody")
    made = sign(Style.GITHUB, [secret], b"Hello, World!", now=NOW)
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert made == {"X-Hub-Signature-256": f"sha256={digest}"}
    verify(Style.GITHUB, [secret], made, b"Hello, World!", now=NOW)


def test_the_form_of_stripe() -> None:
    """Stripe's documentation, "Verify webhook signatures manually": another scheme beside ``v1`` is passed over."""
    key, at = "whsec_test_secret", datetime.fromtimestamp(1492774577, UTC)
    digest = hmac.new(key.encode(), b'1492774577.{"id": "evt_1"}', hashlib.sha256).hexdigest()
    header = f"t=1492774577,v1={digest},v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39"
    verify(Style.STRIPE, [Secret(key)], {"Stripe-Signature": header}, b'{"id": "evt_1"}', now=at)
    assert sign(Style.STRIPE, [Secret(key)], b'{"id": "evt_1"}', now=at) == {
        "Stripe-Signature": f"t=1492774577,v1={digest}"
    }


# ------------------------------------------------------------------------------------------------------------- interop


@settings(deadline=None)
@given(body=st.text(), secret=st.binary(min_size=24, max_size=64))
def test_what_we_sign_their_library_accepts(body: str, secret: bytes) -> None:
    ours = Secret("whsec_" + b64encode(secret).decode())
    made = sign(Style.STANDARD, [OTHER, ours], body.encode(errors="replace"), now=datetime.now(UTC), message_id="e-1")
    Webhook(ours.reveal()).verify(body.encode(errors="replace"), made, json_parse=False)


@settings(deadline=None)
@given(body=st.text(st.characters(codec="utf-8")), secret=st.binary(min_size=24, max_size=64))
def test_what_their_library_signs_we_accept(body: str, secret: bytes) -> None:
    text = "whsec_" + b64encode(secret).decode()
    signature = Webhook(text).sign("e-1", NOW, body)
    theirs = {
        "Webhook-Id": "e-1",
        "Webhook-Timestamp": str(int(NOW.timestamp())),
        "Webhook-Signature": f"v1a,bm90IG91cnM= {signature}",
    }
    verify(Style.STANDARD, [OTHER, Secret(text)], theirs, body.encode(), now=NOW)


def test_what_is_not_ours_their_library_refuses() -> None:
    made = headers(Style.STANDARD, at=datetime.now(UTC))
    with pytest.raises(WebhookVerificationError):
        Webhook(TWO.reveal()).verify(b"{}", made)


# ---------------------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("style", Style)
@settings(deadline=None)
@given(body=st.binary(), flip=st.integers(min_value=0))
def test_a_flipped_bit_is_found(style: Style, body: bytes, flip: int) -> None:
    made = headers(style, body=body)
    verify(style, [ONE], made, body, now=NOW)
    bits = bytearray(body or b"\0")
    bits[flip // 8 % len(bits)] ^= 1 << flip % 8
    assert refused(style, made, bytes(bits))


@pytest.mark.parametrize("style", Style)
@settings(deadline=None)
@given(header=st.text())
def test_whatever_stands_in_a_header_is_refused_by_the_one_error(style: Style, header: str) -> None:
    assert refused(style, {**headers(style), SIGNATURE_HEADER[style]: header})


@settings(deadline=None)
@given(message_id=st.text(), instant=st.text())
def test_hostile_ids_and_instants_are_refused(message_id: str, instant: str) -> None:
    made = headers(Style.STANDARD)
    if message_id != made["webhook-id"]:
        assert refused(Style.STANDARD, {**made, "webhook-id": message_id})
    if instant != made["webhook-timestamp"]:
        assert refused(Style.STANDARD, {**made, "webhook-timestamp": instant})


@pytest.mark.parametrize("style", Style)
def test_during_an_overlap_either_secret_will_do(style: Style) -> None:
    made = headers(style, ONE, TWO)
    verify(style, [ONE], made, b"{}", now=NOW)
    verify(style, [OTHER, ONE], made, b"{}", now=NOW)
    assert refused(style, made, b"{}", TWO) is (style is Style.GITHUB), "its header has room for one"
    assert refused(style, made, b"{}", OTHER)
    assert refused(style, made, b"{}", Secret(""))


@pytest.mark.parametrize("style", [Style.STANDARD, Style.STRIPE])
@pytest.mark.parametrize("way", [1, -1])
def test_a_signature_counts_for_five_minutes_both_ways(style: Style, way: int) -> None:
    at = NOW + way * TOLERANCE
    verify(style, [ONE], headers(style, at=at), b"{}", now=NOW)
    assert refused(style, headers(style, at=at + way * SECOND))


@pytest.mark.parametrize(
    ("style", "change"),
    [
        (Style.STANDARD, {"webhook-timestamp": "1e9"}),
        (Style.STANDARD, {"webhook-timestamp": " 1772366400"}),
        (Style.STANDARD, {"webhook-timestamp": "+1772366400"}),
        (Style.STANDARD, {"webhook-timestamp": "١٧٧٢٣٦٦٤٠٠"}),
        (Style.STANDARD, {"WEBHOOK-ID": "msg_2"}),
        (Style.STANDARD, {"webhook-id": "msg_1.17"}),
        (Style.STANDARD, {"webhook-id": ""}),
        (Style.STANDARD, {"webhook-id": "m" * 300}),
        (Style.STANDARD, {"webhook-signature": ""}),
        (Style.STANDARD, {"webhook-signature": "v1," + " v1," * 20}),
        (Style.STRIPE, {"Stripe-Signature": "t=1772366400"}),
        (Style.STRIPE, {"Stripe-Signature": "t=1772366400,t=1772366400,v1=" + "0" * 64}),
        (Style.STRIPE, {"Stripe-Signature": "v1=" + "0" * 64}),
        (Style.STRIPE, {"Stripe-Signature": "t=1772366400,v1=" + "0" * 5000}),
        (Style.GITHUB, {"X-Hub-Signature-256": "sha1=" + "0" * 40}),
        (Style.GITHUB, {"X-Hub-Signature-256": "sha256"}),
    ],
)
def test_hostile_headers_are_refused(style: Style, change: dict[str, str]) -> None:
    assert refused(style, {**headers(style), **change})


def test_a_missing_header_is_refused() -> None:
    for style in Style:
        assert refused(style, {})
        for name in (made := headers(style)):
            assert refused(style, {key: value for key, value in made.items() if key != name})


def test_a_signature_among_too_many_is_refused() -> None:
    made = headers(Style.STANDARD)
    good = made["webhook-signature"]
    assert not refused(Style.STANDARD, {**made, "webhook-signature": " ".join([good] * 8)})
    assert refused(Style.STANDARD, {**made, "webhook-signature": " ".join([good] * 9)})


def test_only_a_secret_of_its_form_signs() -> None:
    assert is_secret(ONE)
    for text in ("", "whsec_", "whsec_short", "whsec_" + "A" * 31, "x" * 40, "whsec_é" + "A" * 40, "whsec_" + "=" * 44):
        assert not is_secret(Secret(text)), text
    with pytest.raises(ValueError, match="no webhook secret"):
        headers(Style.STANDARD, Secret("plain"))
    with pytest.raises(ValueError, match="needs a secret"):
        sign(Style.STRIPE, [], b"", now=NOW)
    with pytest.raises(ValueError, match="message id"):
        sign(Style.STANDARD, [ONE], b"", now=NOW, message_id="a.b")
