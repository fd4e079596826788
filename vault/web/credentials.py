"""Credentials of all kinds: what they are, their values, their versions."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query

from vault import (
    CannotOpen,
    CredentialKind,
    InvalidCredential,
    ReconnectRequired,
    RefreshPending,
    RotationBusy,
    UnknownCredential,
    VersionConflict,
)
from vault.web.guard import Caller, Guard
from vault.web.problems import Problem
from vault.web.routing import answers, router
from vault.web.shapes import (
    CredentialPage,
    CredentialShape,
    Cursor,
    History,
    Limit,
    Line,
    NewValue,
    Rollback,
    Rotate,
    Rotating,
    ValueShape,
    Versioned,
    VersionShape,
    Word,
)

credentials = router("credentials")
Reads = Annotated[Caller, Depends(Guard("credentials:read"))]
Reveals = Annotated[Caller, Depends(Guard("credentials:reveal", "tokens"))]
Writes = Annotated[Caller, Depends(Guard("credentials:write"))]
_CHANGES = (UnknownCredential, InvalidCredential, VersionConflict, CannotOpen)


@credentials.get("/credentials", response_model=CredentialPage, responses=answers())
def listed(
    caller: Reads,
    owner: Annotated[Word | None, Query()] = None,
    provider: Annotated[Word | None, Query()] = None,
    connection: Annotated[UUID | None, Query()] = None,
    kind: Annotated[CredentialKind | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> CredentialPage:
    """List active credentials without their values, page by page. Scope: `credentials:read`."""
    found = caller.vault.credentials(
        owner=owner, provider=provider, connection=connection, kind=kind, after=cursor, limit=limit + 1
    )
    shown = found[:limit]
    following = shown[-1].id if len(found) > limit else None
    return CredentialPage(items=[CredentialShape.of(each) for each in shown], next_cursor=following)


@credentials.get("/credentials/{credential_id}", response_model=CredentialShape, responses=answers(UnknownCredential))
def one(credential_id: UUID, caller: Reads) -> CredentialShape:
    """Return what a credential is, without its value. Scope: `credentials:read`."""
    return CredentialShape.of(caller.vault.describe_credential(credential_id))


@credentials.get("/credentials/{credential_id}/versions", response_model=History, responses=answers(UnknownCredential))
def versions(credential_id: UUID, caller: Reads) -> History:
    """Return every version of a credential, without values. Scope: `credentials:read`."""
    return History(items=[VersionShape.of(each) for each in caller.vault.history(credential_id)])


@credentials.get(
    "/credentials/{credential_id}/value",
    response_model=ValueShape,
    responses=answers(UnknownCredential, CannotOpen, RefreshPending, ReconnectRequired, "refresh_token"),
)
def value(
    credential_id: UUID,
    caller: Reveals,
    version: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    reason: Annotated[Line, Query(description="Why, for the audit; never a value.")] = "",
) -> ValueShape:
    """Open a credential; the audit is told before the value leaves. Scope: `credentials:reveal`."""
    vault = caller.vault
    if vault.describe_credential(credential_id).kind == CredentialKind.REFRESH_TOKEN:
        raise Problem("refresh_token")
    told = f"api key {caller.key.id}: {reason}" if reason else f"api key {caller.key.id}"
    found = vault.credential(credential_id, version=version, reason=told)
    return ValueShape(
        id=found.credential.id, kind=found.credential.kind, version=found.version.version, value=found.value.reveal(),
        expires_at=found.version.expires_at,
    )  # fmt: skip


@credentials.put(
    "/credentials/{credential_id}/value", response_model=Versioned, responses=answers(*_CHANGES, body=True)
)
def put(credential_id: UUID, caller: Writes, new: NewValue) -> Versioned:
    """Replace a value; the one before is kept. Scope: `credentials:write`."""
    made = caller.vault.put(
        credential_id, new.value, expected_version=new.expected_version, expires_at=new.expires_at,
        overlap=_duration(new.overlap_s),
    )  # fmt: skip
    return Versioned(version=made)


@credentials.post(
    "/credentials/{credential_id}/rollback", response_model=Versioned, responses=answers(*_CHANGES, body=True)
)
def rolled_back(credential_id: UUID, caller: Writes, wanted: Rollback) -> Versioned:
    """Make an earlier value current again, as a new version. Scope: `credentials:write`."""
    made = caller.vault.roll_back(credential_id, to_version=wanted.to_version, expected_version=wanted.expected_version)
    return Versioned(version=made)


@credentials.post(
    "/credentials/{credential_id}/rotate",
    status_code=202,
    response_model=Rotating,
    responses=answers(UnknownCredential, InvalidCredential, RotationBusy, body=True),
)
def rotated(credential_id: UUID, caller: Writes, wanted: Rotate) -> Rotating:
    """Have workers rotate a credential by its rotator. Scope: `credentials:write`."""
    begun = caller.vault.rotate(
        credential_id, value=wanted.value, overlap=_duration(wanted.overlap_s), force=wanted.force
    )
    return Rotating(rotation_id=begun)


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
