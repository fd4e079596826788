"""Grants seen as the two credentials they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from vault.claims import DataKeyRecord
from vault.model import Credential
from vault.ports.credentials import Wanted


class SealedRefreshToken(NamedTuple):
    """A refresh token at rest."""

    connection_id: UUID
    version: int
    envelope: bytes
    key: DataKeyRecord


class GrantViews(Protocol):
    """Access and refresh tokens as credentials. All raise ``StoreUnavailable``.

    What comes has no date at which to be rotated: those follow from policies.
    """

    def view(self, tenant: str, credential_id: UUID) -> Credential | None:
        """One of them."""

    def views(self, wanted: Wanted, after: UUID | None, limit: int) -> Sequence[Credential]:
        """Some of those wanted, by id."""

    def ending(self, tenant: str, within: timedelta, limit: int) -> Sequence[Credential]:
        """Refresh tokens of living grants whose consents end within a time, or have ended, the first first."""

    def aged(self, tenant: str, provider: str, until: datetime, limit: int) -> Sequence[Credential]:
        """Refresh tokens of living grants at a provider whose last consent was given before an instant, by that."""

    def retrieve(self, of: Credential, reason: str) -> SealedRefreshToken | None:
        """Read the refresh token that was seen, and note in the audit that it was; None: it is another by now."""

    def retrieved(self, of: Credential, reason: str) -> None:
        """Note in the audit that an access token was read as a credential."""
