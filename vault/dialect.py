"""How a provider departs from RFC 6749 in what it is sent and what it answers: data, for the adapters to act on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple


class Body(StrEnum):
    """Where the parameters of a token request stand."""

    FORM = "form"
    JSON = "json"
    QUERY = "query"
    """In the address, the body being empty (Zoom, Gong)."""


class RequestStyle(NamedTuple):
    """How a token request is written."""

    body: Body = Body.FORM
    method: str = "POST"
    grant_type: str = ""
    """Sent in the place of the standard one (Facebook's ``fb_exchange_token``)."""
    headers: Mapping[str, str] = {}
    parameters: Mapping[str, str] = {}
    """Further ones, as they are."""
    names: Mapping[str, str] = {}
    """From the standard name of a parameter to the provider's; to nothing: it is not sent."""


class Clock(StrEnum):
    """What the life of a refresh token, where an answer tells it, counts from."""

    SLIDING = "sliding"
    """From each refresh anew: the grant lapses when it lies idle."""
    ABSOLUTE = "absolute"
    """From the consent: it counts down whatever is done (LinkedIn)."""


class AnswerStyle(NamedTuple):
    """Where in an answer what stands. Paths are names joined by dots."""

    roots: tuple[str, ...] = ("",)
    """Where the members are looked for: the first that holds an access token counts; empty is the top."""
    names: Mapping[str, str] = {}
    """From the standard name of a member to its path below the root."""
    unit: timedelta = timedelta(seconds=1)
    """Of lives given as bare numbers."""
    refresh_clock: Clock = Clock.SLIDING
    account: str | None = None
    """Where the answer names the account."""
    kept: tuple[str, ...] = ()
    """What becomes metadata of the connection (Salesforce's ``instance_url``)."""


class FurtherGrant(NamedTuple):
    """Another grant that may come with a consent, to be looked after beside the first (Slack's user beside its bot)."""

    root: str
    """Where in the answer to a code its members stand; what else ``AnswerStyle`` says holds for them too."""
    account: str | None = None
    """Where the answer names its account, from the top."""
    scope_parameter: str | None = None
    """Of the authorization request, which says what to ask for; None: it comes by itself."""
    scopes: tuple[str, ...] = ()
    """What to ask for unless the app says."""


class Meaning(StrEnum):
    """What an error means for the grant it is about (docs/concepts.md)."""

    TRANSIENT = "transient"
    OPERATOR = "operator"
    DEAD = "dead"
    STEP = "step"


class ErrorPattern(NamedTuple):
    """A text somewhere in an answer that says more than its code."""

    meaning: Meaning
    expression: re.Pattern[str]


class ErrorStyle(NamedTuple):
    """How a provider says no. What it does not name means what RFC 6749 says."""

    members: tuple[str, ...] = ("error",)
    """Paths of what may hold a code, the most telling first."""
    success: frozenset[str] = frozenset()
    """Codes that are none: all is well (TikTok's ``0``, COROS's ``0000``)."""
    codes: Mapping[str, Meaning] = {}
    statuses: Mapping[int, Meaning] = {}
    """For answers whose codes tell nothing."""
    patterns: tuple[ErrorPattern, ...] = ()


class Assertion(NamedTuple):
    """A statement about who asks, signed with the registration's private key (RFC 7523), or a token that is one."""

    algorithm: str = "ES256"
    issuer: str = ""
    """Empty: the client id."""
    subject: str = ""
    """Empty: the connection's subject, or the client id."""
    audience: str = ""
    """Empty: the token endpoint."""
    key_id: str = ""
    """Where the key itself does not say."""
    life: timedelta = timedelta(minutes=5)
    claims: Mapping[str, str] = {}
    names_scopes: bool = False
    """Whether the scopes are claimed in it (Google) instead of asked for beside it."""


class Variable(NamedTuple):
    """A part of a provider's addresses that differs from connection to connection (Shopify's shop)."""

    pattern: re.Pattern[str]
    """What its values look like, whole: whoever may choose one must not choose where a secret goes."""
    default: str | None = None
    parameter: str | None = None
    """Of the redirect, which may name another value (Zoho's data centre)."""
