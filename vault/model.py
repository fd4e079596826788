"""The nouns: connections, the tokens they serve, and the sealed grant behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from vault.errors import ConfigurationError
from vault.secret import Secret

DEFAULT_TENANT = "default"
SYSTEM = "*"
"""Stands for the tenant where something concerns all of them: acts of operators, and the secrets of our clients."""


def checked_tenant(name: str) -> str:
    """Return the name of a tenant. Raises ``ConfigurationError``: that one is nobody's."""
    if name == SYSTEM:
        raise ConfigurationError([f"no tenant can be called {SYSTEM!r}: what concerns all of them is kept there"])
    return name


class Status(StrEnum):
    """The state of a connection."""

    ACTIVE = "active"
    """Served and refreshed."""
    IN_DOUBT = "in_doubt"
    """A refresh token was sent and no answer came back; the stored access token is served while it lives."""
    NEEDS_RECONNECT = "needs_reconnect"
    """The grant is dead; only the owner can give a new one."""
    QUARANTINED = "quarantined"
    """Three claims ended without a word: it seems to kill its worker, so it is tried alone and rarely."""
    DISCONNECTED = "disconnected"
    """The owner took the grant back; its secrets are gone."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One owner's account at one provider, without any secret. Instants are aware UTC."""

    id: UUID
    tenant: str
    owner: str
    provider: str
    account: str | None
    status: Status
    reason: str | None
    requested_scopes: tuple[str, ...]
    granted_scopes: tuple[str, ...]
    labels: Mapping[str, str]
    created_at: datetime
    connected_at: datetime
    refreshed_at: datetime | None
    expires_at: datetime | None
    grant_ends_at: datetime | None
    grant: str | None = None
    """The name of a further grant, which goes with another connection (Slack's ``user``); None: it stands by itself."""
    part_of: UUID | None = None
    """The connection that a further grant goes with."""
    return_to: str | None = None
    """Where the owner wanted to go after connecting; only set on what ``complete()`` returns."""

    @property
    def missing_scopes(self) -> tuple[str, ...]:
        """Scopes that were asked for and not granted, in the order asked."""
        return tuple(s for s in self.requested_scopes if s not in self.granted_scopes)


def grant_id(connection_id: UUID, grant: str) -> UUID:
    """Return the id of a further grant, which follows from its connection's, so that an app needs to keep only one.

    It stands wherever a connection's can, and looks like those (RFC 9562, version 4). Whether there is such a grant
    is not looked at.

    Args:
        connection_id: The connection it goes with.
        grant: Its name in the provider's row, such as Slack's ``user``.
    """
    return UUID(bytes=sha256(b"grant\0" + connection_id.bytes + grant.encode()).digest()[:16], version=4)


SIGNING = "OAuth1"
"""The type of tokens that are not shown but sign requests (RFC 5849)."""


class Token(NamedTuple):
    """A short-lived access token, as served by ``vault.get()``."""

    connection_id: UUID
    access_token: Secret
    token_type: str
    expires_at: datetime
    ttl: timedelta
    """Life left when it was read, by the database's clock."""

    def headers(self) -> dict[str, str]:
        """Return the header that presents this token (RFC 6750, section 2.1).

        Raises:
            ValueError: It is one of OAuth 1.0a, with which each request is signed: see ``Vault.session``.
        """
        if self.token_type == SIGNING:
            raise ValueError("requests with this token are signed, each by itself: use vault.session() or signature()")
        scheme = "Bearer" if self.token_type.lower() == "bearer" else self.token_type
        return {"Authorization": f"{scheme} {self.access_token.reveal()}"}


class Credential(NamedTuple):
    """A credential without its value. Instants are aware UTC."""

    id: UUID
    tenant: str
    owner: str
    """Empty: the whole tenant's."""
    provider: str
    """Empty: of no provider in particular."""
    connection_id: UUID | None
    kind: str
    name: str
    tags: Mapping[str, str]
    policy: Mapping[str, Any]
    """Its own numbers, which override every rule."""
    state: str
    """``active``, ``deleted`` (it can be brought back until ``purge_at``), ``destroyed``."""
    version: int
    latest: int
    """The highest number ever given to a version."""
    facts: Mapping[str, str]
    """What may be shown of the value: a certificate's subject, the style of a webhook secret."""
    created_at: datetime
    rotated_at: datetime
    expires_at: datetime | None = None
    rotate_at: datetime | None = None
    """When its policy wants a new value."""
    warn_at: datetime | None = None
    rotator: str = ""
    """Who rotates it then by himself; empty: nobody."""
    deleted_at: datetime | None = None
    purge_at: datetime | None = None

    @property
    def export_name(self) -> str:
        """The name under which other secret stores would hold it."""
        return f"integration-{self.tenant}-{self.provider}-{self.kind}-{self.connection_id or self.id}"


class CredentialVersion(NamedTuple):
    """One version of a credential, without its value."""

    version: int
    stage: str
    """``pending``, ``current``, ``previous``, ``retired``, ``destroyed``."""
    fingerprint: str | None
    """Keyed: tells whether two values of one credential are equal, and nothing else."""
    facts: Mapping[str, str]
    expires_at: datetime | None
    created_at: datetime | None
    current_at: datetime | None
    replaced_at: datetime | None
    serves_until: datetime | None
    """Of the previous version: until when it is meant to go on working."""


class CredentialValue(NamedTuple):
    """What ``vault.credential()`` answers."""

    credential: Credential
    version: CredentialVersion
    value: Secret


class SealedToken(NamedTuple):
    """The hot row: everything ``get()`` needs, still sealed."""

    connection_id: UUID
    tenant: str
    status: str
    reason: str | None
    version: int
    access_envelope: bytes | None
    token_type: str
    expires_at: datetime
    refreshed_at: datetime
    stale_at: datetime
    """From here on a refresh is overdue: readers ring the doorbell."""
    now: datetime
    """The database's clock at the read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider's token endpoint gave, after reading: the one shape every dialect is turned into."""

    access_token: Secret
    """Empty: the one before goes on, as of a provider that prolongs it."""
    refresh_token: Secret | None
    expires_in: timedelta | None
    token_type: str = "Bearer"
    scopes: tuple[str, ...] | None = None
    refresh_expires_in: timedelta | None = None
    """After which the grant lapses unless it is refreshed."""
    grant_expires_in: timedelta | None = None
    """After which it ends whatever is done."""
    account: str | None = None
    """Whose account it is, where the provider says so in this answer."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """What else the provider's row says is worth keeping."""
    grants: Mapping[str, Answer] = field(default_factory=dict)
    """Further grants that came in this answer, by their names in the provider's row."""
