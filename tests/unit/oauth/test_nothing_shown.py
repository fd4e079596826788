"""What requests, answers and flows are made of does not show its secrets to whoever prints it, as tracebacks do."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from vault.egress.once import Heard, Sent
from vault.means import Means
from vault.oauth.assertions import signing_key
from vault.oauth.authentication import Shown
from vault.oauth.writing import Written
from vault.outcome import Exchange, Started, TokenRequest

URI = "https://acme.test/token"
SPENT = "refresh_token=s3cret"
HEADERS = ("Authorization: Basic s3cret",)
SECOND = timedelta(seconds=1)
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (TokenRequest(None, f"{URI}?{SPENT}", HEADERS, SPENT.encode(), SECOND, SECOND), f"<POST {URI}>"),
        (Written("GET", f"{URI}?{SPENT}", HEADERS, SPENT.encode()), f"<GET {URI}>"),
        (Sent("GET", f"{URI}?{SPENT}", HEADERS, SPENT.encode()), f"<GET {URI}>"),
        (Exchange(None, 200, b"s3cret", None, True, ""), "<200, 6 bytes>"),
        (Exchange(None, 0, b"", None, True, "timeout"), "<timeout, 0 bytes>"),
        (Heard(200, b"s3cret", None), "<200, 6 bytes>"),
        (Shown(HEADERS, {"client_secret": "s3cret"}), "<Shown>"),
        (Started(f"{URI}?state=s3cret", "s3cret"), "<Started>"),
        (Means("s3cret", "s3cret", key="s3cret"), "<Means>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_secret_is_shown(value: object, shown: str) -> None:
    assert repr(value) == str(value) == f"{value}" == shown


def test_a_private_key_is_not_shown() -> None:
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    found = repr(signing_key(pem))
    assert found.startswith("SigningKey(key=<joserfc.")
    assert pem[50:70] not in found
