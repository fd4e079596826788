"""Keys at rest: the service that wraps them, where they are kept, and their rotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from vault.claims import DataKeyRecord


class WrappedKey(NamedTuple):
    """A key under a KEK: what a KMS gave back and what it needs to give the key again."""

    kek_id: str
    """The KEK in full, version included; never an alias alone."""
    algorithm: str
    ciphertext: bytes


class TenantKeyRecord(NamedTuple):
    """A tenant key at rest."""

    id: UUID
    tenant: str
    state: str
    wrapped: WrappedKey


class Kms(Protocol):
    """A key management service holding KEKs."""

    def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        """Wrap 32 bytes under the KEK in use, bound to ``context``. Raises ``KeyUnavailable``."""

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        """Give the key back. Raises ``KeyUnavailable``, or ``CannotOpen`` for a wrong context or damaged ciphertext."""

    def describe(self) -> str:
        """Name the KEK new keys are wrapped under, in full, without any secret. Raises ``KeyUnavailable``."""

    def holds(self, kek_id: str) -> bool:
        """Whether a wrapping under this KEK may be sent here; asks nobody, and says no to a KEK of somebody else."""


class KeyStore(Protocol):
    """Where wrapped keys are kept."""

    def tenant_key(self, key_id: UUID) -> TenantKeyRecord | None:
        """Read one tenant key."""

    def current_tenant_key(self, tenant: str) -> TenantKeyRecord | None:
        """Read the tenant key that wraps new data keys."""

    def add_tenant_key(self, record: TenantKeyRecord) -> TenantKeyRecord:
        """Keep a first tenant key; when another process was quicker, its key is returned and ours forgotten."""

    def data_key(self, key_id: UUID) -> DataKeyRecord | None:
        """Read one data key."""

    def current_data_key(self, tenant: str, owner: str, provider: str, purpose: str) -> DataKeyRecord | None:
        """Read the data key that seals new values."""

    def add_data_key(self, record: DataKeyRecord) -> DataKeyRecord:
        """Keep a first data key of its owner and provider; when another process was quicker, its key is returned."""


class SealedRow(NamedTuple):
    """What one row holds under a data key, for re-sealing."""

    table: str
    subject: UUID
    """The row's id, to which its envelopes are bound."""
    tenant: str
    owner: str
    provider: str
    version: int
    data_key_id: UUID
    envelopes: tuple[tuple[str, bytes | None], ...]
    """By field, each in its own place; None: there is no such value."""


class StoredCount(NamedTuple):
    """How many secrets look alike at rest."""

    what: str
    """``tenant_key``, ``data_key``, or the field of a row: ``oauth_grant.access_token``."""
    method: bytes | str
    """The first four bytes of an envelope or a wrapped data key; of a tenant key the KMS's word for it."""
    under: str
    """The KEK of a tenant key, the state of a data key."""
    number: int


class RotationStore(Protocol):
    """What rotating keys needs of the database, in bounded batches."""

    def tenant_keys_not_under(self, kek_id: str, limit: int) -> list[TenantKeyRecord]:
        """Tenant keys wrapped by any other KEK: the proof query of a rewrap when it is empty."""

    def rewrap_tenant_key(self, key_id: UUID, old: WrappedKey, new: WrappedKey) -> bool:
        """Swap the wrapping if it is still ``old``."""

    def data_keys_older_than(self, age: timedelta, limit: int) -> list[DataKeyRecord]:
        """Current data keys past their age that seal values."""

    def replace_data_key(self, old: DataKeyRecord, new: DataKeyRecord) -> bool:
        """Make ``new`` current and ``old`` previous, if ``old`` still is current."""

    def rows_under_replaced_keys(self, limit: int) -> list[SealedRow]:
        """Rows whose envelopes stand under a data key that is no longer current."""

    def reseal(self, rows: Sequence[tuple[SealedRow, SealedRow]]) -> int:
        """Swap envelopes (old, new) where the row is still what was read; returns how many were."""

    def counts(self) -> list[StoredCount]:
        """How many secrets there are of each method, version and KEK; reads every row."""

    def retire_unused_data_keys(self) -> int:
        """Mark replaced data keys that nothing refers to any more as retired; returns how many."""
