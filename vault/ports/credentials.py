"""Credentials at rest, and every version of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from vault.claims import DataKeyRecord
from vault.model import Credential


class SealedVersion(NamedTuple):
    """One version of a credential's value."""

    credential_id: UUID
    version: int
    stage: str
    """``pending``, ``current``, ``previous``, ``retired``, ``destroyed``."""
    data_key_id: UUID | None
    envelope: bytes | None
    """None: destroyed."""
    fp: bytes | None
    """Keyed: tells whether two values of one credential are equal."""
    facts: Mapping[str, str]
    """What may be shown of the value."""
    expires_at: datetime | None
    created_at: datetime | None = None
    current_at: datetime | None = None
    """When it came to be the current one."""
    replaced_at: datetime | None = None
    serves_until: datetime | None = None
    """Of the previous version: until when it is meant to go on working."""


class Found(NamedTuple):
    """A value with what it belongs to, and the key that opens it."""

    credential: Credential
    version: SealedVersion
    key: DataKeyRecord


class Dates(NamedTuple):
    """When a credential was rotated, ends, is to be rotated, and warns next; by the database's clock."""

    rotated_at: datetime
    expires_at: datetime | None
    rotate_at: datetime | None
    warn_at: datetime | None
    rotator: str
    """Who rotates it then by himself; empty: nobody."""


class Change(NamedTuple):
    """A new version for a credential."""

    seen: Credential
    """What was read before."""
    new: SealedVersion
    """Its number is the one after ``seen.latest``."""
    dates: Dates
    """Of the credential from now on."""
    overlap: timedelta
    """How long the version before is meant to go on working."""
    keep: int
    """Values kept beside the current one; older ones are destroyed."""


class Wanted(NamedTuple):
    """Which credentials to list; None fits everything."""

    tenant: str
    owner: str | None = None
    provider: str | None = None
    connection_id: UUID | None = None
    kind: str | None = None
    tags: Mapping[str, str] | None = None
    state: str | None = "active"


class CredentialStore(Protocol):
    """Credentials at rest. Every change is one transaction with its audit row. All raise ``StoreUnavailable``."""

    def now(self) -> datetime:
        """The database's clock."""

    def add_credentials(self, new: Sequence[tuple[Credential, SealedVersion]]) -> None:
        """Keep new credentials with their first versions: all, or none."""

    def credential(self, tenant: str, credential_id: UUID) -> Credential | None:
        """What it is."""

    def read_version(
        self, tenant: str, credential_id: UUID, version: int | None, *, reason: str, deleted: bool = False
    ) -> Found | None:
        """Read the current value of an active credential, or another version's, and note in the audit that it was.

        ``deleted``: also of one that was deleted and can be brought back.
        """

    def serving_versions(self, tenant: str, credential_id: UUID) -> Sequence[Found]:
        """The values of an active credential that somebody may be using now, the current one first.

        Beside it the one that a rotation is about to make current, and the one before while it is meant to work. For
        what is asked at every request: the audit hears nothing of it.
        """

    def put_versions(self, changes: Sequence[Change], event: str) -> bool:
        """Make new versions the current ones, all or none; False: a credential is not any more what was seen."""

    def change_credential(self, seen: Credential, changed: Credential) -> bool:
        """Put other names, tags, numbers and dates in the place of those seen."""

    def versions(self, tenant: str, credential_id: UUID) -> Sequence[SealedVersion]:
        """Every version, newest first; values stay sealed."""

    def credentials(self, wanted: Wanted, after: UUID | None, limit: int) -> Sequence[Credential]:
        """Some of those wanted, by id."""

    def expiring(self, tenant: str | None, within: timedelta, limit: int) -> Sequence[Credential]:
        """Active credentials that end by themselves within a time, or have, the first first; None: of every tenant."""

    def past_their_age(self, tenant: str | None, limit: int) -> Sequence[Credential]:
        """Active credentials that their policies want rotated by now, the oldest first; None: of every tenant."""

    def delete_credentials(self, tenant: str, ids: Mapping[UUID, float]) -> set[UUID]:
        """Delete active credentials so that they can be brought back; returns which were.

        Args:
            tenant: Whose.
            ids: With the seconds for which each can be brought back.
        """

    def undelete_credential(self, tenant: str, credential_id: UUID) -> bool:
        """Bring one back, while it can be."""

    def destroy_credentials(self, tenant: str, ids: Sequence[UUID]) -> set[UUID]:
        """Take every value away for good; returns of which."""

    def destroy_version(self, tenant: str, credential_id: UUID, version: int) -> bool:
        """Take one value away for good, which is not the current one."""
