"""Signatures of webhooks, made and checked, in the three header styles there are most of. Nothing here asks anybody.

``standard``  Standard Webhooks 1.0: ``webhook-id``, ``webhook-timestamp``, ``webhook-signature: v1,<base64> …`` over
              ``id.timestamp.body``; the key is what the base64 of ``whsec_<base64>`` stands for.
``github``    ``X-Hub-Signature-256: sha256=<hex>`` over the body; the key is the secret's text.
``stripe``    ``Stripe-Signature: t=<seconds>,v1=<hex>,v1=<hex>`` over ``t.body``; the key is the secret's text, prefix
              and all.

All are HMAC-SHA-256. While a secret is rolled there are two: both sign where a header has room for two, and either is
accepted. GitHub's style has room for one, so there the first secret signs.
"""

from __future__ import annotations

import binascii
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final

from vault.errors import SignatureInvalid
from vault.secret import Secret

PREFIX: Final = "whsec_"
SIZE: Final = 32
"""Bytes of a secret that is made here."""
SHORTEST, LONGEST = 24, 64
"""Bytes that Standard Webhooks allows a secret to have."""
TOLERANCE: Final = timedelta(minutes=5)
"""How far from now a signed instant may lie, either way."""
MOST_SIGNATURES: Final = 8
LONGEST_HEADER: Final = 4096
LONGEST_ID: Final = 256

_ID = re.compile(r"[!-\-/-~]+", re.ASCII)  # printable, without the full stop that separates it from what follows
_SECONDS = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)
_HEX = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_BASE64 = re.compile(r"[0-9A-Za-z+/]{43}=", re.ASCII)


class Style(StrEnum):
    """Which headers carry a signature."""

    STANDARD = "standard"
    GITHUB = "github"
    STRIPE = "stripe"


def generate(random: Callable[[int], bytes]) -> Secret:
    """Make a secret, which every style takes.

    Args:
        random: Gives that many unpredictable bytes.
    """
    return Secret(PREFIX + b64encode(random(SIZE)).decode())


def is_secret(secret: Secret) -> bool:
    """Whether it has the form of a Standard Webhooks secret: ``whsec_`` and the base64 of 24 to 64 bytes."""
    raw = _raw(secret)
    return raw is not None and SHORTEST <= len(raw) <= LONGEST


def sign(
    style: Style, secrets: Sequence[Secret], body: bytes, *, now: datetime, message_id: str = ""
) -> dict[str, str]:
    """Return the headers that go with a body.

    Args:
        style: Of the headers.
        secrets: One, or two while it is rolled, the new one first.
        body: Exactly the bytes that are sent.
        now: When it is sent.
        message_id: Which message this is, the same whenever it is sent; only ``standard`` has it, and needs it.

    Raises:
        ValueError: No secret, a secret that is none of this style, or an id that cannot be signed.
    """
    if not secrets:
        raise ValueError("a signature needs a secret")
    seconds = str(int(now.timestamp()))
    if style is Style.STANDARD:
        if not _is_id(message_id):
            raise ValueError("a message id is printable ASCII without spaces and full stops")
        signed = _standard(message_id, seconds, body)
        found = " ".join("v1," + b64encode(_mac(_key(style, each), signed)).decode() for each in secrets)
        return {"webhook-id": message_id, "webhook-timestamp": seconds, "webhook-signature": found}
    if style is Style.GITHUB:
        return {"X-Hub-Signature-256": f"sha256={_mac(_key(style, secrets[0]), body).hex()}"}
    found = ",".join(f"v1={_mac(_key(style, each), _stripe(seconds, body)).hex()}" for each in secrets)
    return {"Stripe-Signature": f"t={seconds},{found}"}


def verify(
    style: Style,
    secrets: Sequence[Secret],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
    tolerance: timedelta = TOLERANCE,
) -> None:
    """Return when the body was signed with one of the secrets, lately.

    Args:
        style: Of the headers.
        secrets: Any of them will do.
        headers: As they came; upper and lower case are the same.
        body: Exactly the bytes that came.
        now: The time here.
        tolerance: How far from it the signed instant may lie, either way; ``github`` signs none.

    Raises:
        SignatureInvalid: Whatever the cause.
    """
    signed, given = _READERS[style](headers, body, now, tolerance)
    good = False
    for secret in secrets:
        wanted = _mac(_key_or_none(style, secret), signed)
        for each in given:  # all of them, always: how long it takes tells nothing
            good |= hmac.compare_digest(wanted, each)
    if not good:
        raise SignatureInvalid


# ------------------------------------------------------------------------------------------------------------- reading

_Read = tuple[bytes, list[bytes]]
"""What was signed, and the signatures that came with it."""


def _read_standard(headers: Mapping[str, str], body: bytes, now: datetime, tolerance: timedelta) -> _Read:
    message_id = _header(headers, "webhook-id")
    seconds = _timely(_header(headers, "webhook-timestamp"), now, tolerance)
    if not _is_id(message_id):
        raise SignatureInvalid
    words = _header(headers, "webhook-signature").split(" ")
    found = [b64decode(text) for version, text in _pairs(words, ",") if version == "v1" and _BASE64.fullmatch(text)]
    return _standard(message_id, seconds, body), _some(found)


def _read_github(headers: Mapping[str, str], body: bytes, now: datetime, tolerance: timedelta) -> _Read:  # noqa: ARG001
    [(name, text)] = _pairs([_header(headers, "x-hub-signature-256")], "=")
    if name != "sha256" or not _HEX.fullmatch(text):
        raise SignatureInvalid
    return body, [bytes.fromhex(text)]


def _read_stripe(headers: Mapping[str, str], body: bytes, now: datetime, tolerance: timedelta) -> _Read:
    parts = list(_pairs(_header(headers, "stripe-signature").split(","), "="))
    instants = [text for name, text in parts if name == "t"]
    if len(instants) != 1:
        raise SignatureInvalid
    found = [bytes.fromhex(text) for name, text in parts if name == "v1" and _HEX.fullmatch(text)]
    return _stripe(_timely(instants[0], now, tolerance), body), _some(found)


_READERS: Final[Mapping[Style, Callable[[Mapping[str, str], bytes, datetime, timedelta], _Read]]] = {
    Style.STANDARD: _read_standard,
    Style.GITHUB: _read_github,
    Style.STRIPE: _read_stripe,
}


def _header(headers: Mapping[str, str], name: str) -> str:
    """Return a header that is there exactly once."""
    found = [value for key, value in headers.items() if key.lower() == name]
    if len(found) != 1 or len(found[0]) > LONGEST_HEADER or not found[0].isascii():
        raise SignatureInvalid
    return found[0]


def _pairs(words: Sequence[str], mark: str) -> Iterator[tuple[str, str]]:
    for word in words:
        name, found, text = word.partition(mark)
        if not found:
            raise SignatureInvalid
        yield name, text


def _some(found: list[bytes]) -> list[bytes]:
    if not 0 < len(found) <= MOST_SIGNATURES:
        raise SignatureInvalid
    return found


def _timely(text: str, now: datetime, tolerance: timedelta) -> str:
    if not _SECONDS.fullmatch(text) or abs(now.timestamp() - int(text)) > tolerance.total_seconds():
        raise SignatureInvalid
    return text


def _is_id(text: str) -> bool:
    return len(text) <= LONGEST_ID and _ID.fullmatch(text) is not None


# ------------------------------------------------------------------------------------------------------------- signing


def _standard(message_id: str, seconds: str, body: bytes) -> bytes:
    return b".".join((message_id.encode(), seconds.encode(), body))


def _stripe(seconds: str, body: bytes) -> bytes:
    return seconds.encode() + b"." + body


def _mac(key: bytes | None, signed: bytes) -> bytes:
    """Return the MAC; without a key one that equals nothing that could be given."""
    return b"" if key is None else hmac.digest(key, signed, sha256)


def _key(style: Style, secret: Secret) -> bytes:
    key = _key_or_none(style, secret)
    if key is None:
        raise ValueError(f"this is no webhook secret of the style {style}")
    return key


def _key_or_none(style: Style, secret: Secret) -> bytes | None:
    return _raw(secret) if style is Style.STANDARD else secret.reveal().encode() or None


def _raw(secret: Secret) -> bytes | None:
    """Decode ``whsec_<base64>``; None: it is not that, or stands for nothing."""
    text = secret.reveal()
    if not text.startswith(PREFIX):
        return None
    try:
        return b64decode(text.removeprefix(PREFIX).encode(), validate=True) or None
    except (binascii.Error, UnicodeEncodeError):
        return None
