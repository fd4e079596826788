"""Sessions at rest, what hashes their tokens, who is asked about the tokens of others, and what was counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from vault.provider import Provider
from vault.secret import Secret
from vault.validation.outcome import Introspected
from vault.validation.sessions import UserSession


class SealedSessionMetadata(NamedTuple):
    """What an app keeps with a session."""

    version: int
    data_key_id: UUID
    envelope: bytes


class SessionRow(NamedTuple):
    """A session to be kept."""

    id: UUID
    tenant: str
    user_id: str
    device: str
    subscription: str
    scopes: str
    token_fp: bytes
    """Keyed; by it the row is found."""
    token_hash: bytes
    """What a slow hash made of the token's HMAC."""
    life: timedelta
    metadata: SealedSessionMetadata | None


class SessionStore(Protocol):
    """Sessions at rest. Every change is one transaction with its audit rows. All raise ``StoreUnavailable``."""

    def add(self, row: SessionRow, *, only_one: bool) -> tuple[UserSession, Sequence[UUID]] | None:
        """Keep a session in the place of the one this user had: on this device, or (``only_one``) on any.

        Returns:
            The session, and those whose place it takes; None: its token is another session's, and nothing was done.
        """

    def find(self, tenant: str, token_fp: bytes) -> tuple[UserSession, bytes, datetime] | None:
        """One indexed row: a session, ended or not, its token's hash, and the database's clock."""

    def session(self, tenant: str, session_id: UUID) -> UserSession | None:
        """One that has not ended."""

    def sessions(self, tenant: str, *, user_id: str | None, after: UUID | None, limit: int) -> list[UserSession]:
        """Some that have not ended, by id."""

    def metadata(self, tenant: str, session_id: UUID) -> SealedSessionMetadata | None:
        """What is kept with one."""

    def change(
        self,
        tenant: str,
        session_id: UUID,
        *,
        subscription: str | None,
        scopes: str | None,
        life: timedelta | None,
        metadata: SealedSessionMetadata | None,
    ) -> UserSession | None:
        """Change all that is given, or nothing; None stays as it is.

        Returns:
            The session; None: there is none that has not ended, or its metadata are not at the version before.
        """

    def revoke(self, tenant: str, *, session_id: UUID | None, user_id: str | None) -> Sequence[UUID]:
        """End one, or all of a user; returns those that were ended."""


class TokenHash(Protocol):
    """A hash that is slow on purpose."""

    def hash(self, text: bytes) -> bytes:
        """Hash at most 72 bytes, with a salt of their own."""

    def fits(self, text: bytes, hashed: bytes) -> bool:
        """Whether they are what was hashed, in a time that does not tell."""


class Introspector(Protocol):
    """Whoever asks the issuer of a token about it (RFC 7662)."""

    def ask(self, provider: Provider, token: Secret) -> Introspected:
        """Ask once, as the registration that the provider stands for; never raises for what came back."""


class ValidationTallies(Protocol):
    """Figures of validations."""

    def add_validations(self, counted: Mapping[tuple[str, str, str], int]) -> None:
        """Add what was counted by tenant, kind and outcome, in one short transaction."""
