"""A provider as data: its endpoints, how it wants to be spoken to, and what happens to a spent refresh token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from vault.secret import Secret


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


@dataclass(frozen=True, slots=True)
class Client:
    """Our registration at a provider."""

    client_id: str
    client_secret: Secret | None
    """What shows that it is us; None: the client is a public one."""
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


@dataclass(frozen=True, slots=True)
class Provider:
    """One row of the registry. Durations are ``timedelta``; who we are there is filled in from settings and store."""

    name: str
    authorize_uri: str
    token_uri: str
    issuer: str | None = None
    """Who must have answered, where the answer says who did (RFC 9207)."""
    revoke_uri: str | None = None
    refresh_uri: str | None = None
    """Where refreshes go, when that is not ``token_uri``."""
    introspect_uri: str | None = None
    """Where a token is asked about (RFC 7662)."""
    rotation: Rotation = Rotation.STRICT
    replay_window: timedelta = timedelta(0)
    client_auth: ClientAuth = ClientAuth.BASIC
    scopes: tuple[str, ...] = ()
    scope_separator: str = " "
    scope_on_refresh: bool = False
    authorize_parameters: Mapping[str, str] = field(default_factory=dict)
    default_life: timedelta = timedelta(hours=1)
    """Assumed when an answer does not say: unknown expiry never means "never"."""
    earliest_refresh: timedelta = timedelta(0)
    """No refresh sooner than this after the last one (Exact Online)."""
    grant_life: timedelta | None = None
    """Absolute life of the grant from consent, when refreshing does not extend it (Spotify)."""
    account_member: str | None = None
    """Where the token answer names the account: a member, or a path of members joined by dots."""
    kept_members: tuple[str, ...] = ()
    """Members of the token answer that become metadata of the connection (Salesforce's ``instance_url``)."""
    dead_grant_codes: tuple[str, ...] = ("invalid_grant",)
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
