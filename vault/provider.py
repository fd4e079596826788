"""A provider as data: its endpoints, how it wants to be spoken to, and what happens to a spent refresh token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from vault.dialect import AnswerStyle, Assertion, ErrorStyle, FurtherGrant, RequestStyle, Variable
from vault.secret import Secret

LONGEST_LIFE = timedelta(days=3650)
"""Of anything: what is said to live longer is looked after once in ten years."""

LONGEST_VALUE = 255
"""Characters of a part of an address: a pattern may take long over what is long."""


class Strategy(StrEnum):
    """How a provider's access token is followed by another (docs/providers.md, "Strategies")."""

    REFRESH = "refresh"
    """A refresh token is exchanged (RFC 6749, section 6)."""
    CLIENT_CREDENTIALS = "client_credentials"
    """Our registration asks for itself (RFC 6749, section 4.4)."""
    JWT_BEARER = "jwt_bearer"
    """A signed assertion is exchanged (RFC 7523, section 2.1): Google's and Salesforce's servers."""
    MINTED = "minted"
    """The token is a signed statement of our own (Apple Music's developer token); nobody is asked."""
    EXCHANGE = "exchange_access_token"
    """The access token itself is exchanged for a longer one (Facebook, Instagram, Threads)."""
    EXTEND = "extend"
    """The token stays, its life is prolonged (COROS)."""
    OAUTH1 = "oauth1"
    """Requests are signed (RFC 5849), and tokens live until they are revoked."""
    NONE = "none"
    """Nothing renews it but its owner (Apple Music's user token)."""


class Rotation(StrEnum):
    """What a provider does to a refresh token that has just been used (docs/concepts.md, "Rotation profiles")."""

    NONE = "none"
    """The same refresh token goes on working; a new one may come too (Google, Entra)."""
    IDEMPOTENT = "idempotent"
    """Sent again, the old one yields the very same answer until the new one is used (RingCentral)."""
    UNTIL_SUCCESSOR_USED = "until_successor_used"
    """The old one works until the new one is first used (Shopify)."""
    GRACE = "grace"
    """The old one works for ``replay_window`` after its first use (Xero, Atlassian, Okta)."""
    STRICT = "strict"
    """The old one is dead at once, and using it again may kill the whole family (GitHub Apps, X, Auth0)."""


class ClientAuth(StrEnum):
    """How the client shows who it is at the token endpoint (RFC 6749, section 2.3)."""

    BASIC = "basic"
    BODY = "body"
    NONE = "none"
    PRIVATE_KEY_JWT = "private_key_jwt"
    """By an assertion that is signed with the registration's private key (RFC 7523, section 2.2)."""
    MINTED_SECRET = "minted_secret"
    """By a client secret that is itself such an assertion (Sign in with Apple)."""


@dataclass(frozen=True, slots=True)
class Client:
    """Our registration at a provider."""

    client_id: str
    client_secret: Secret | None
    """What shows that it is us, a private key where we sign; None: the client is a public one."""
    other_secret: Secret | None = None
    """While the secret is rolled: another that may be valid too, for when the first is refused."""


def same_secrets(one: Client, other: Client | None) -> bool:
    """Whether two states of a registration have the same secrets, whichever is used."""
    if one is other or other is None:
        return one is other
    return one == other or one == Client(other.client_id, other.other_secret, other.client_secret)


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """A client certificate and its key, PEM, which show a provider who is asking (RFC 8705)."""

    version: int
    chain: Secret
    key: Secret


PLAIN_REQUEST = RequestStyle()
"""As RFC 6749 writes it; the very same object in every provider that does."""
PLAIN_ANSWER, PLAIN_ERRORS, PLAIN_ASSERTION = AnswerStyle(), ErrorStyle(), Assertion()


@dataclass(frozen=True, slots=True)
class Provider:
    """One row of the registry. Durations are ``timedelta``; who we are there is filled in from settings and store."""

    name: str
    authorize_uri: str
    token_uri: str
    issuer: str | None = None
    """Who must have answered, where the answer says who did (RFC 9207)."""
    iss_required: bool = False
    """Whether the redirect always says it, so that one that does not is not the provider's."""
    revoke_uri: str | None = None
    revoke_ends_all: bool = False
    """Whether revoking one grant ends every other that the account gave us (Google)."""
    refresh_uri: str | None = None
    """Where refreshes go, when that is not ``token_uri``."""
    introspect_uri: str | None = None
    """Where a token is asked about (RFC 7662)."""
    lengthen_uri: str | None = None
    """Where the short-lived token that a code brings is exchanged at once (Instagram)."""
    request_token_uri: str | None = None
    """Where OAuth 1.0a begins."""
    discover: bool = False
    """Whether the issuer is asked for the addresses that are not given (RFC 8414)."""
    strategy: Strategy = Strategy.REFRESH
    rotation: Rotation = Rotation.STRICT
    replay_window: timedelta = timedelta(0)
    client_auth: ClientAuth = ClientAuth.BASIC
    scopes: tuple[str, ...] = ()
    scope_separator: str = " "
    scope_on_refresh: bool = False
    pkce: bool = True
    """False only for who breaks on it (Slack)."""
    authorize_parameters: Mapping[str, str] = field(default_factory=dict)
    default_life: timedelta = timedelta(hours=1)
    """Assumed when an answer does not say: unknown expiry never means "never"."""
    earliest_refresh: timedelta = timedelta(0)
    """No refresh sooner than this after the last one (Exact Online)."""
    grant_life: timedelta | None = None
    """Absolute life of the grant from consent, when refreshing does not extend it (Spotify)."""
    idle_life: timedelta | None = None
    """A grant not refreshed for this long lapses (Google's six months)."""
    proactive: bool = True
    """Whether tokens are refreshed before they end; else when somebody wants one (Twitch)."""
    request: RequestStyle = PLAIN_REQUEST
    """How codes are exchanged."""
    refresh: RequestStyle = PLAIN_REQUEST
    """How renewals are asked for."""
    lengthen: RequestStyle = PLAIN_REQUEST
    """How that exchange is asked for."""
    answer: AnswerStyle = PLAIN_ANSWER
    errors: ErrorStyle = PLAIN_ERRORS
    assertion: Assertion = PLAIN_ASSERTION
    variables: Mapping[str, Variable] = field(default_factory=dict)
    """Parts of the addresses above that differ from connection to connection."""
    grants: Mapping[str, FurtherGrant] = field(default_factory=dict)
    """Further grants that a consent may bring, by the names that apps use for them."""
    callback_parameters: tuple[str, ...] = ()
    """Parameters of the redirect that become metadata of the connection (QuickBooks's ``realmId``)."""
    certificate: UUID | None = None
    """The credential whose certificate every request to it is made with."""
    identity: TlsIdentity | None = None
    """That certificate; None: there is none, or it cannot be had now, and then nothing is asked."""
    max_in_flight: int = 512
    rate_per_second: float | None = None
    client: Client | None = None
    """Our registration that new consents are asked for with, or the one that this row stands for."""
    former: tuple[Provider, ...] = ()
    """The same provider as it knows our other registrations: each goes on serving the grants it got."""
    locked: frozenset[str] = frozenset()
    """Ids of registrations whose secrets cannot be opened now: nothing is asked for the grants they got."""

    def asking_as(self, client_id: str) -> Provider:
        """Return the provider as it knows one of our registrations; as it is, when that one is not known (any more)."""
        for registration in (self, *self.former) if self.former else ():
            if registration.client is not None and registration.client.client_id == client_id:
                return registration
        return self

    def at(self, given: Mapping[str, str]) -> Provider:
        """Return the provider at the addresses of one connection.

        Args:
            given: Its variables; those left out have their default.

        Raises:
            ValueError: One is missing, not known, or not what it may look like; the message names it.
        """
        if not self.variables and not given:
            return self
        values = self.variables_of(given)
        uris = {name: getattr(self, name) for name in ADDRESSES}
        made: dict[str, Any] = {name: uri.format_map(values) for name, uri in uris.items() if uri}
        return replace(self, **made)

    def variables_of(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return a value for each variable. Raises ``ValueError``, as ``at`` does."""
        unknown = sorted(given.keys() - self.variables.keys())
        if unknown:
            raise ValueError(f"{self.name} knows no variable {unknown[0][:40]!r}")
        found: dict[str, str] = {}
        for name, variable in self.variables.items():
            value = given.get(name, variable.default)
            if value is None:
                raise ValueError(f"{self.name} wants the variable {name!r}")
            if len(value) > LONGEST_VALUE or not variable.pattern.fullmatch(value):
                raise ValueError(f"the variable {name!r} of {self.name} does not look like this")
            found[name] = value
        return found


ADDRESSES = (
    "authorize_uri",
    "token_uri",
    "revoke_uri",
    "refresh_uri",
    "introspect_uri",
    "request_token_uri",
    "lengthen_uri",
)
