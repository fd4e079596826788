"""The end of keys: what destroying and shredding them needs of the database."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from vault.claims import DataKeyRecord


class SealedValue(NamedTuple):
    """One envelope, with everything it is bound to."""

    table: str
    row: tuple[object, ...]
    """The row's primary key."""
    field: str
    tenant: str
    subject: UUID
    version: int
    key: DataKeyRecord
    envelope: bytes


class OpenAudit(NamedTuple):
    """One attempt to open every value there is."""

    started_at: datetime
    opened: int
    cannot_open: int
    refused: int

    @property
    def passed(self) -> bool:
        """Whether every value opened."""
        return not (self.cannot_open or self.refused)


class Retired(NamedTuple):
    """Keys that nothing refers to any more."""

    data_keys: int
    tenant_keys: int
    first_at: datetime | None
    """When the first of them was used last; None: there are none."""


class Shredded(NamedTuple):
    """What an owner or a tenant had, and nobody can open any more."""

    connections: int
    data_keys: int
    tenant_keys: int = 0


class KeyAuditStore(Protocol):
    """Every sealed value, and what came of opening them."""

    def now(self) -> datetime:
        """Read the database's clock."""

    def sealed_values(self, limit: int, after: SealedValue | None) -> list[SealedValue]:
        """Read the values of at most ``limit`` rows after the row of another value, table by table; empty: the end."""

    def record_audit(self, audit: OpenAudit) -> None:
        """Keep what came of it."""

    def last_audit(self) -> OpenAudit | None:
        """Read what came of the last one."""


class DestructionStore(Protocol):
    """Keys that are over, and values that are to be."""

    def retired(self, before: datetime | None = None) -> Retired:
        """Count retired keys, or those last used before an instant."""

    def destroy_retired(self, before: datetime) -> Retired:
        """Destroy retired keys last used before an instant, unless anything refers to them after all."""

    def shred_owner(self, tenant: str, owner: str) -> Shredded:
        """Destroy an owner's data keys and take every value out of the owner's rows, in one transaction."""

    def shred_tenant(self, tenant: str) -> Shredded:
        """Destroy a tenant's keys, at once, and then take the values out of its rows, batch by batch."""
