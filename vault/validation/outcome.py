"""What came of looking at a token."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from vault.validation.sessions import Subscription


class TokenKind(StrEnum):
    """Whose a token is."""

    SESSION = "session"
    """Ours: of ``create_session()``."""
    BEARER = "bearer"
    """Somebody else's, who is asked about it (RFC 7662)."""
    CONNECTION = "connection"
    """The access token of a connection."""


class Validation(NamedTuple):
    """A token that is good, for what was asked. Every other end is an error."""

    kind: TokenKind
    subject: str | None
    """The user of a session; what the issuer of a bearer token calls its owner; the owner of a connection."""
    scopes: tuple[str, ...]
    expires_at: datetime | None
    """None: its issuer did not say."""
    cached: bool
    """Nobody was asked just now: it was good a moment ago."""
    subscription: Subscription | None = None
    """Of a session."""
    session_id: UUID | None = None
    connection_id: UUID | None = None
    client_id: str | None = None
    """To whom a bearer token was issued, if its issuer says so."""
    audience: tuple[str, ...] = ()
    """For whom a bearer token is, if its issuer says so."""


class Active(NamedTuple):
    """An issuer's word that a token is good."""

    subject: str | None
    scopes: tuple[str, ...]
    expires_at: datetime | None
    not_before: datetime | None
    client_id: str | None
    audience: tuple[str, ...]
    issuer: str | None


class Inactive:
    """An issuer's word that it is not, and no more (RFC 7662, section 2.2)."""

    __slots__ = ()


class Unanswered(NamedTuple):
    """No word from the issuer: nothing is known of the token."""

    reason: str
    retry_after: timedelta | None = None
    operator: bool = False
    """It does not get better by asking again: somebody must mend the row, the registration or the server."""
    of_client: bool = False
    """The issuer would not have the secret that we showed."""
    of_request: bool = False
    """It would not have this very question, which says nothing about the next one."""


Introspected = Active | Inactive | Unanswered
