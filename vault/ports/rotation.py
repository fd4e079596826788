"""Rotation: what replacing keys needs of the database, each call one short transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from vault.claims import DataKeyRecord
from vault.ports.keys import TenantKeyRecord, WrappedKey


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


class ReplacedRow(NamedTuple):
    """A row under a replaced key, with the keys to re-seal it."""

    row: SealedRow
    key: DataKeyRecord
    """The key it stands under."""
    current: DataKeyRecord | None
    """The key in whose place that one was, if there is one."""


class StoredCount(NamedTuple):
    """How many secrets look alike at rest."""

    what: str
    """``tenant_key``, ``data_key``, or the field of a row: ``oauth_grant.access_token``."""
    method: bytes | str
    """The first four bytes of an envelope or a wrapped data key; of a tenant key the KMS's word for it."""
    under: str
    """The KEK of a tenant key, the state of a data key."""
    number: int


class RewrapStore(Protocol):
    """What a new KEK needs. Batches come in the order of ids; ``after`` is the last id of the batch before."""

    def own_kek_uris(self) -> list[str]:
        """Where the KEKs are that tenants brought, each once."""

    def tenant_keys_not_under(
        self, kek_id: str, limit: int, *, uri: str | None, after: UUID | None
    ) -> list[TenantKeyRecord]:
        """Tenant keys wrapped by any other KEK, of tenants whose KEK is at ``uri``; None: of those who brought none.

        When it is empty it proves that a rewrap has ended.
        """

    def rewrap_tenant_key(self, key_id: UUID, old: WrappedKey, new: WrappedKey) -> bool:
        """Swap the wrapping if it is still ``old``."""

    def tenant_keys_under(self, kek_id: str) -> int:
        """Count tenant keys under one KEK that are not destroyed."""

    def forget_former_keks(self, uri: str | None, kek_id: str) -> None:
        """Forget the former KEKs of tenants at ``uri`` all of whose keys are under ``kek_id``."""


class TenantKeyRotationStore(Protocol):
    """What a new tenant key needs. Batches come in the order of ids; ``after`` is the last id of the batch before."""

    def tenant_keys_older_than(self, age: timedelta, limit: int, after: UUID | None) -> list[TenantKeyRecord]:
        """Current tenant keys past their age."""

    def replace_tenant_key(self, old: TenantKeyRecord, new: TenantKeyRecord) -> bool:
        """Make ``new`` current and ``old`` previous, if ``old`` still is current."""

    def replaced_tenant_keys(self, limit: int, after: UUID | None) -> list[TenantKeyRecord]:
        """Tenant keys that are no longer current, and still wrap data keys; destroyed ones are not among them."""

    def data_keys_under(self, tenant_key_id: UUID, limit: int, after: UUID | None) -> list[DataKeyRecord]:
        """Data keys wrapped by one tenant key."""

    def data_keys_under_replaced(self) -> int:
        """Count data keys wrapped by such tenant keys."""

    def rewrap_data_keys(self, keys: Sequence[tuple[DataKeyRecord, DataKeyRecord]]) -> int:
        """Swap wrappings (old, new) where they are still what was read; returns how many were."""

    def retire_unused_tenant_keys(self) -> int:
        """Mark replaced tenant keys that wrap nothing any more as retired; returns how many."""


class DataKeyRotationStore(Protocol):
    """What new data keys need."""

    def data_keys_older_than(self, age: timedelta, limit: int, after: UUID | None) -> list[DataKeyRecord]:
        """Current data keys past their age that seal values, oldest first; ``after``: the last of the batch before."""

    def replace_data_keys(self, keys: Sequence[tuple[DataKeyRecord, DataKeyRecord]]) -> set[UUID]:
        """Make each new key (old, new) current and the old one previous, if that still is current.

        Returns:
            The ids of the old keys that were replaced.
        """

    def rows_under_replaced_keys(self, limit: int, after: SealedRow | None) -> list[ReplacedRow]:
        """Rows whose envelopes stand under a data key that is no longer current; empty: nothing does."""

    def reseal(self, rows: Sequence[tuple[SealedRow, SealedRow]]) -> int:
        """Swap envelopes (old, new) where the row is still what was read; returns how many were."""

    def retire_unused_data_keys(self) -> int:
        """Mark replaced data keys that nothing refers to any more as retired; returns how many."""

    def counts(self) -> list[StoredCount]:
        """How many secrets there are of each method, version and KEK; reads every row."""
