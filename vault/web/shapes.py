"""What is asked and what is answered, as models: the description that programs read is made of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from vault import (
    Connection,
    ConnectionHealth,
    Credential,
    CredentialVersion,
    Need,
    Statistics,
    Status,
    TokenRefused,
    Validation,
)  # fmt: skip

_TEXT = r"^[^\x00]*$"
"""PostgreSQL keeps every character but this."""
Word = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=_TEXT)]
Line = Annotated[str, StringConstraints(max_length=2048, pattern=_TEXT)]
Label = Annotated[str, StringConstraints(max_length=1024, pattern=_TEXT)]
Assignment = Annotated[str, StringConstraints(max_length=2048, pattern=r"^[a-z_]{1,64}=[!-~]{0,1024}$")]
GrantName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
GrantScopes = Annotated[str, StringConstraints(max_length=2048, pattern=r"^[a-z][a-z0-9_]{0,31}=[ -~]*$")]
Value = Annotated[str, StringConstraints(min_length=1, max_length=65_536)]
ProviderName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="A name of the registry.")]
Cursor = Annotated[UUID | None, Query(description="`next_cursor` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=200, description="At most so many.")]


class Shape(BaseModel):
    """Knows the members it names and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ConnectionShape(Shape):
    """A connection, without its secrets."""

    model_config = ConfigDict(title="Connection")

    id: UUID
    owner: str
    provider: str
    account: str | None
    status: Status
    reason: str | None
    requested_scopes: Sequence[str]
    granted_scopes: Sequence[str]
    missing_scopes: Sequence[str]
    labels: Mapping[str, str]
    created_at: datetime
    connected_at: datetime
    refreshed_at: datetime | None
    expires_at: datetime | None
    grant_ends_at: datetime | None
    grant: str | None
    """The name of a further grant; null: it is a connection that stands by itself."""
    part_of: UUID | None
    """The connection that a further grant goes with."""

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """Show one."""
        return cls(**{name: getattr(connection, name) for name in cls.model_fields})


class ConnectionPage(Shape):
    """Some connections, by id."""

    items: Sequence[ConnectionShape]
    next_cursor: UUID | None
    """For the page after this; null: there is none."""


class FurtherGrants(Shape):
    """What goes with a connection, by name."""

    items: Sequence[ConnectionShape]


class TokenShape(Shape):
    """An access token that works."""

    model_config = ConfigDict(title="Token")

    connection_id: UUID
    access_token: str
    token_type: str
    expires_at: datetime
    expires_in: float
    """Seconds it had left when it was read."""


class Started(Shape):
    """Where to send the owner, and the state that comes back with them."""

    url: str
    state: str
    connection_id: UUID
    expires_in: int
    """Seconds within which the flow must be ended."""


class TicketRequest(Shape):
    """A flow to be begun when its browser comes."""

    owner: Word
    scopes: Annotated[Sequence[Word], Field(max_length=200)] | None = None
    grants: (
        Annotated[Mapping[GrantName, Annotated[Sequence[Word], Field(max_length=200)]], Field(max_length=16)] | None
    ) = None
    """What to ask for of further grants, where the provider's row has some, such as Slack's `user`."""
    return_to: Line | None = None
    redirect_uri: Line | None = None
    labels: Annotated[Mapping[Word, Label], Field(max_length=64)] | None = None
    variables: Annotated[Mapping[Word, Line], Field(max_length=16)] | None = None
    """Parts of the provider's addresses, where its row has some, such as the shop."""
    reconnect: UUID | None = None


class TicketShape(Shape):
    """Where to send the owner's browser, at once."""

    model_config = ConfigDict(title="Ticket")

    path: str
    """On this server; it is good for one visit."""
    expires_in: int


class Callback(Shape):
    """What the provider's redirect carried, handed over by the app that began the flow."""

    state: Word
    code: Line | None = None
    browser: Word | None = None
    error: Line | None = None
    iss: Line | None = None
    parameters: Annotated[Mapping[Word, Line], Field(max_length=50)] | None = None
    """All of the redirect's: some providers say in others what is worth keeping."""


class IntrospectionRequest(Shape):
    """A token, and what it is to be good for."""

    token: Annotated[SecretStr, Field(min_length=1, max_length=8192)]
    method: Word | None = None
    """A name that the operator's rules know."""
    provider: Word | None = None
    """Who issued it; without one it is a session's."""
    audience: Word | None = None


class Introspection(Shape):
    """Whether a token is good; in the words of RFC 7662 where it has them."""

    active: bool
    reason: str | None = None
    """Why it is not."""
    who: str | None = None
    """Who must act then: `user`, `caller`, `operator`."""
    missing: Sequence[str] = ()
    """Scopes it lacks."""
    kind: str | None = None
    sub: str | None = None
    scope: str | None = None
    exp: int | None = None
    client_id: str | None = None
    aud: Sequence[str] = ()
    subscription: str | None = None
    session_id: UUID | None = None
    cached: bool = False
    """Nobody was asked just now."""

    @classmethod
    def of(cls, found: Validation) -> Self:
        """Make the shape of a token that is good."""
        return cls(
            active=True, kind=found.kind, sub=found.subject, scope=" ".join(found.scopes),
            exp=None if found.expires_at is None else int(found.expires_at.timestamp()), client_id=found.client_id,
            aud=found.audience, subscription=found.subscription, session_id=found.session_id, cached=found.cached,
        )  # fmt: skip

    @classmethod
    def refused(cls, error: TokenRefused) -> Self:
        """Make the shape of one that is not."""
        return cls(active=False, reason=error.reason, who=error.who, missing=error.missing)


class Connected(Shape):
    """The account is connected."""

    connection_id: UUID
    provider: str
    status: Status


class HealthShape(Shape):
    """How a connection is, from what its last refreshes left behind."""

    model_config = ConfigDict(title="ConnectionHealth")

    connection_id: UUID
    provider: str
    status: Status
    need: Need
    reason: str | None
    well: bool
    expired: bool
    stale: bool
    late_s: float
    refreshing: bool
    reachable: bool | None
    failures: int
    refreshed_at: datetime
    expires_at: datetime
    next_at: datetime | None
    grant_ends_at: datetime | None

    @classmethod
    def of(cls, health: ConnectionHealth) -> Self:
        """Show one."""
        said = health._asdict()
        return cls(late_s=said.pop("late").total_seconds(), **said)


class ProviderHealth(Shape):
    """How this tenant stands with a provider."""

    provider: str
    ready: bool
    """Whether flows can be begun: there is a registration of ours."""
    connections: int
    connection: HealthShape | None
    """That of the owner who was asked about."""


class SystemHealth(Shape):
    """How everything stands; of a part in trouble only that it is."""

    status: str
    """`healthy` or `degraded`."""
    parts: Mapping[str, str]
    """Of each `ok`, `trouble`, or `unseen`: the database role of this process may not look."""
    lag_s: float
    audit_lag_s: float
    workers: int
    checked_at: datetime


class CredentialShape(Shape):
    """A credential, without its value."""

    model_config = ConfigDict(title="Credential")

    id: UUID
    owner: str
    provider: str
    connection_id: UUID | None
    kind: str
    name: str
    tags: Mapping[str, str]
    policy: Mapping[str, Any]
    state: str
    version: int
    latest: int
    facts: Mapping[str, str]
    created_at: datetime
    rotated_at: datetime
    expires_at: datetime | None
    rotate_at: datetime | None
    deleted_at: datetime | None
    purge_at: datetime | None

    @classmethod
    def of(cls, credential: Credential) -> Self:
        """Show one."""
        return cls(**{name: getattr(credential, name) for name in cls.model_fields})


class CredentialPage(Shape):
    """Some credentials, by id."""

    items: Sequence[CredentialShape]
    next_cursor: UUID | None


class VersionShape(Shape):
    """One version of a credential, without its value."""

    model_config = ConfigDict(title="CredentialVersion")

    version: int
    stage: str
    fingerprint: str | None
    facts: Mapping[str, str]
    expires_at: datetime | None
    created_at: datetime | None
    current_at: datetime | None
    replaced_at: datetime | None
    serves_until: datetime | None

    @classmethod
    def of(cls, version: CredentialVersion) -> Self:
        """Show one."""
        return cls(**version._asdict())


class History(Shape):
    """Every version, newest first."""

    items: Sequence[VersionShape]


class ValueShape(Shape):
    """A value."""

    model_config = ConfigDict(title="CredentialValue")

    id: UUID
    kind: str
    version: int
    value: str
    expires_at: datetime | None


class NewValue(Shape):
    """A value that takes the place of the one before."""

    value: Value
    expected_version: Annotated[int, Field(ge=1, le=2**62)] | None = None
    """Only if this is still the current one."""
    expires_at: AwareDatetime | None = None
    overlap_s: Annotated[float, Field(ge=0, le=366 * 86_400, allow_inf_nan=False)] | None = None
    """How long the value before goes on working; null: as the policy says."""


class Rollback(Shape):
    """An earlier version to go back to."""

    to_version: Annotated[int, Field(ge=1, le=2**62)] | None = None
    """Null: the one before."""
    expected_version: Annotated[int, Field(ge=1, le=2**62)] | None = None


class Rotate(Shape):
    """A rotation by the credential's rotator."""

    value: Value | None = None
    """Null: the rotator makes one."""
    overlap_s: Annotated[float, Field(ge=0, le=366 * 86_400, allow_inf_nan=False)] | None = None
    force: bool = False


class Versioned(Shape):
    """The number of the version that is current now."""

    version: int


class Rotating(Shape):
    """A rotation that workers have been asked for."""

    rotation_id: UUID


class StatisticsShape(Shape):
    """What this tenant has, in numbers."""

    model_config = ConfigDict(title="Statistics")

    at: datetime
    connections: int
    credentials: int
    by_kind: Mapping[str, int]
    connections_by_provider: Mapping[str, int]
    credentials_by_provider: Mapping[str, int]
    by_status: Mapping[str, int]
    by_state: Mapping[str, int]
    ends: Mapping[str, int]
    refreshes: Mapping[str, int]
    work: Mapping[str, int]

    @classmethod
    def of(cls, found: Statistics) -> Self:
        """Show them; what is of this process and of no tenant is left out."""
        nested = {name: getattr(found, name)._asdict() for name in ("ends", "refreshes", "work")}
        flat = {name: getattr(found, name) for name in cls.model_fields if name not in nested}
        return cls(**flat, **nested)
