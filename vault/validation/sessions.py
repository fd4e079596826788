"""Sessions of the user's own service: who is signed in, on which terms, and the token that says so."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from vault.errors import InvalidCredential
from vault.secret import Secret

PREFIX: Final = "evs_"
"""Tells whoever finds a token, a scanner of secrets among them, what it is."""
TOKEN_BYTES: Final = 32
LEAST_TOKEN: Final = 32
"""Characters of a token that is brought along: a shorter one might be guessed."""
LONGEST_TOKEN: Final = 8192
"""Characters of any token; servers take no longer header."""
LONGEST_NAME: Final = 512
MOST_SCOPES: Final = 200
_TOKEN: Final = re.compile(rf"[!-~]{{1,{LONGEST_TOKEN}}}")
_SCOPE: Final = re.compile(r"[!#-\[\]-~]{1,200}")
"""RFC 6749, section 3.3."""


class Subscription(StrEnum):
    """What a user pays for, the least first."""

    FREE = "free"
    PLUS = "plus"
    PRO = "pro"

    def reaches(self, level: Subscription) -> bool:
        """Whether it is this level, or one above it."""
        levels = list(Subscription)
        return levels.index(self) >= levels.index(level)


class UserSession(NamedTuple):
    """One session, without its token. Instants are aware UTC."""

    id: UUID
    tenant: str
    user_id: str
    """Yours."""
    device: str
    """Empty: of no device in particular."""
    subscription: Subscription
    scopes: tuple[str, ...]
    created_at: datetime
    changed_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


class NewSession(NamedTuple):
    """A session just made, and its token, which is shown this once."""

    session: UserSession
    token: Secret


def new_token(random: Callable[[int], bytes]) -> Secret:
    """Make a token: 256 bits, as text that fits any header."""
    return Secret(PREFIX + urlsafe_b64encode(random(TOKEN_BYTES)).rstrip(b"=").decode())


def is_token(text: object) -> bool:
    """Whether a text that was presented could be a token at all: printable ASCII without a space, not too long."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


def checked_token(token: Secret) -> Secret:
    """Return a token that is brought along. Raises ``InvalidCredential``."""
    text = token.reveal()
    if not is_token(text) or len(text) < LEAST_TOKEN:
        said = f"{LEAST_TOKEN} to {LONGEST_TOKEN} printable ASCII characters without a space"
        raise InvalidCredential("session_token", f"it is to have {said}")
    return token


def checked_name(what: str, name: str, *, empty: bool = False) -> str:
    """Return what a user, or a device, is called. Raises ``ValueError``."""
    fits = isinstance(name, str) and (empty or name) and len(name) <= LONGEST_NAME and name.isprintable()
    if not fits:
        raise ValueError(f"a {what} has {0 if empty else 1} to {LONGEST_NAME} printable characters")
    return name


def checked_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Return scopes, each once. Raises ``ValueError``."""
    if isinstance(scopes, str) or not all(isinstance(each, str) and _SCOPE.fullmatch(each) for each in scopes):
        raise ValueError("scopes are words of printable ASCII characters, without spaces and quotation marks")
    found = tuple(dict.fromkeys(scopes))
    if len(found) > MOST_SCOPES:
        raise ValueError(f"a session has {MOST_SCOPES} scopes at most")
    return found
