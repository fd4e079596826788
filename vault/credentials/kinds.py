"""The nine kinds, and what each must look like; nothing is stored that is not what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple

from vault.credentials import certificates
from vault.errors import InvalidCredential
from vault.secret import Secret
from vault.webhooks import Style, is_secret


class Kind(StrEnum):
    """What a credential is. The first two are a connection's: they are read there, and refreshed, not rotated."""

    ACCESS_TOKEN = "oauth_access_token"  # the name of a kind
    REFRESH_TOKEN = "oauth_refresh_token"  # the name of a kind
    API_KEY = "api_key"
    USERNAME = "basic_auth_username"
    PASSWORD = "basic_auth_password"  # the name of a kind
    CERTIFICATE = "client_certificate"
    PRIVATE_KEY = "client_private_key"
    WEBHOOK_SECRET = "webhook_secret"  # the name of a kind
    CUSTOM = "custom_secret"


LONGEST: Final = 65_536
"""Bytes of a value."""
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
STYLES: Final = tuple(Style)
"""In which headers a webhook secret signs; a standard one is ``whsec_`` and base64 (Standard Webhooks)."""


class Checked(NamedTuple):
    """A value that is what it says, in the one form in which it is kept."""

    value: str
    expires_at: datetime | None = None
    """When it ends by itself; None: it does not say."""
    facts: Mapping[str, str] = {}
    """What may be shown of it."""


def checked(kind: Kind, value: str, facts: Mapping[str, str] | None = None) -> Checked:
    """Check a value, and read from it what may be shown.

    Args:
        kind: What it is to be; any but a grant's.
        value: The value.
        facts: What the caller says of it: ``style`` of a webhook secret.

    Raises:
        InvalidCredential: It is something else; the message says what is wrong, never what was given.
    """
    if not value:
        raise InvalidCredential(kind, "it is empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidCredential(kind, "it is not text: it has lone surrogates") from None
    if size > LONGEST:
        raise InvalidCredential(kind, f"it has {size:,} bytes, and {LONGEST:,} is the most")
    return _CHECKS[kind](value, facts or {})


def checked_instant(kind: Kind, what: str, at: datetime) -> datetime:
    """Return an instant that somebody names. Raises ``InvalidCredential``.

    PostgreSQL keeps later ones than Python can read: one past the year 9999, in UTC, would break whoever comes by it.
    """
    if at.tzinfo is None:
        raise InvalidCredential(kind, f"{what} has no time zone")
    if not _FIRST <= at <= _LAST:  # comparing does not turn it into UTC, which may not be possible
        raise InvalidCredential(kind, f"{what} is not between the years {_FIRST.year} and {_LAST.year}")
    return at


def same_style(secret: str, style: str) -> bool:
    """Whether a webhook secret has the form that a style asks for."""
    if style == Style.STANDARD:
        return is_secret(Secret(secret))
    return len(secret) >= 16 and secret.isascii() and secret.isprintable() and " " not in secret


def _one_line(kind: Kind, longest: int, forbidden: str = "") -> Callable[[str, Mapping[str, str]], Checked]:
    def check(value: str, _: Mapping[str, str]) -> Checked:
        if len(value) > longest:
            raise InvalidCredential(kind, f"it has more than {longest:,} characters")
        if value != value.strip():
            raise InvalidCredential(kind, "it begins or ends with white space: was it copied with its surroundings?")
        if not all(each.isprintable() for each in value):
            raise InvalidCredential(kind, "it has line breaks or control characters")
        if any(each in value for each in forbidden):
            raise InvalidCredential(kind, f"it has one of {forbidden!r}, which HTTP basic authentication cannot send")
        return Checked(value)

    return check


def _certificate(value: str, _: Mapping[str, str]) -> Checked:
    found = certificates.read(value)
    return Checked(found.pem, found.expires_at, found.facts)


def _private_key(value: str, _: Mapping[str, str]) -> Checked:
    return Checked(certificates.read_key(value))


def _webhook_secret(value: str, facts: Mapping[str, str]) -> Checked:
    style = facts.get("style", str(Style.STANDARD))
    if style not in STYLES:
        raise InvalidCredential(Kind.WEBHOOK_SECRET, f"its style must be one of {', '.join(STYLES)}")
    if not same_style(value, style):
        form = (
            "whsec_ and base64 of 24 to 64 bytes"
            if style == Style.STANDARD
            else "at least 16 ASCII characters, no spaces"
        )
        raise InvalidCredential(Kind.WEBHOOK_SECRET, f"style {style} wants {form}")
    return Checked(value, facts={"style": style})


def _anything(value: str, _: Mapping[str, str]) -> Checked:
    return Checked(value)


_CHECKS: Final[Mapping[Kind, Callable[[str, Mapping[str, str]], Checked]]] = {
    Kind.API_KEY: _one_line(Kind.API_KEY, 16_384),
    Kind.USERNAME: _one_line(Kind.USERNAME, 1_024, ":"),
    Kind.PASSWORD: _one_line(Kind.PASSWORD, 4_096),
    Kind.CERTIFICATE: _certificate,
    Kind.PRIVATE_KEY: _private_key,
    Kind.WEBHOOK_SECRET: _webhook_secret,
    Kind.CUSTOM: _anything,
}
