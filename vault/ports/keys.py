"""Keys at rest: the services that wrap them, and where they are kept."""

from __future__ import annotations

from collections.abc import Mapping
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


class Keks(Protocol):
    """Which KMS serves whom."""

    def of(self, tenant: str) -> Kms:
        """Return the KMS that wraps a tenant's new keys. Raises ``KeyUnavailable``, ``StoreUnavailable``."""

    def at(self, uri: str | None) -> Kms:
        """Return the KMS a URI names; None: that of tenants who brought none. Raises ``KeyUnavailable``."""

    def holding(self, tenant: str, kek_id: str) -> Kms:
        """Return the KMS to ask for what a tenant has under this KEK.

        Raises ``KeyUnavailable`` when no KMS that serves the tenant, or served it before, holds the KEK, and
        ``StoreUnavailable``.
        """


class TenantKek(NamedTuple):
    """The KEK a tenant brought along, or had brought; a URI that is None: that of tenants who brought none."""

    tenant: str
    uri: str | None
    """Where its new keys are wrapped."""
    former_uris: tuple[str | None, ...]
    """Where its keys may still be wrapped, until a rewrap has ended."""


class TenantKeks(Protocol):
    """Where it is kept which tenant brought which KEK."""

    def tenant_kek(self, tenant: str) -> TenantKek | None:
        """Read what a tenant brought; None: it never brought any."""

    def set_tenant_kek(self, tenant: str, uri: str | None) -> None:
        """Let a tenant's new keys be wrapped there; None: as for tenants who bring none. The former one is kept."""

    def tenant_keks(self) -> list[TenantKek]:
        """Read all of them."""


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
