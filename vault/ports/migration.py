"""Moving grants out of other systems: where they are read, where they go, and how far a run has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol
from uuid import UUID

from vault.claims import DataKeyRecord
from vault.ports.connections import NewGrant
from vault.secret import Secret


class SourceRow(NamedTuple):
    """One row of another system, as it was read. Its ``repr`` shows its key and nothing else."""

    key: str
    """Tells it apart from every other row of its source, for good."""
    cursor: str
    """Where reading goes on after it."""
    fields: Mapping[str, object] = MappingProxyType({})
    """By our names: whatever was there, tokens left out."""
    tokens: Mapping[str, Secret] = MappingProxyType({})
    """What is there of ``refresh_token`` and ``access_token``, in whatever form it was kept."""
    read: object = None
    """The source's own note of what it read."""
    problem: str | None = None
    """Why it cannot be used, as one of the documented words."""

    def __repr__(self) -> str:
        return f"SourceRow(key={self.key!r}, problem={self.problem!r})"


class Source(Protocol):
    """Rows of one table or file. For one thread at a time."""

    @property
    def name(self) -> str:
        """What it is called in the record of what was moved: the same at every run, without any secret."""

    def check(self) -> None:
        """Raise ``ConfigurationError`` with everything that keeps it from being read, ``SourceUnavailable``."""

    def count(self) -> int:
        """How many rows there are. Raises ``SourceUnavailable``."""

    def batch(self, after: str | None, limit: int) -> Sequence[SourceRow]:
        """The next rows after a cursor; none: that was all. Raises ``SourceUnavailable``."""

    def clear(self, rows: Sequence[SourceRow]) -> frozenset[str]:
        """Empty the secret columns of these rows where they still hold what was read; returns the keys of those.

        Raises ``SourceUnavailable``.
        """

    def close(self) -> None:
        """Let go of it."""


class Moved(NamedTuple):
    """The record of a source's row that became a connection."""

    connection_id: UUID
    tenant: str
    kept_fp: bytes
    """Fingerprint of its refresh token (or else its access token) as the source kept it: sealed, if it was."""
    token_fp: bytes
    """Fingerprint of that token itself."""


class Adoption(NamedTuple):
    """A row on its way in."""

    key: str
    grant: NewGrant
    expires_at: datetime | None
    """As the source says; None: worked out from the grant's life."""
    connected_at: datetime | None
    kept_fp: bytes
    token_fp: bytes


class Adopted(StrEnum):
    """What became of an adoption."""

    DONE = "done"
    BEFORE = "before"
    """Another run was quicker."""
    REFUSED = "refused"
    """The database does not take such values."""


class StoredGrant(NamedTuple):
    """What stands in a connection's row, still sealed, with the key to open it."""

    tenant: str
    status: str
    version: int
    access_envelope: bytes | None
    refresh_envelope: bytes | None
    data_key: DataKeyRecord


class MigrationStore(Protocol):
    """Where the grants go. All raise ``StoreUnavailable``."""

    def known(self, source: str, keys: Sequence[str]) -> tuple[Mapping[str, Moved], datetime]:
        """Which of these rows were moved before, and the database's clock."""

    def data_keys(self, owners: Sequence[tuple[str, str, str]]) -> Sequence[DataKeyRecord]:
        """The keys that seal now for these (tenant, owner, provider), where there are any."""

    def add_data_keys(self, records: Sequence[DataKeyRecord]) -> Sequence[DataKeyRecord]:
        """Keep the first keys of their owners; where another process was quicker, its key is returned."""

    def adopt(self, source: str, adoptions: Sequence[Adoption]) -> Mapping[str, Adopted]:
        """Make connections, each with grant, schedule, audit row and record, or not at all; the answer is by key.

        They share a commit as long as nothing is wrong with any of them.
        """

    def stored(self, connection_ids: Sequence[UUID]) -> Mapping[UUID, StoredGrant]:
        """What stands in the rows that exist among these."""

    def cleared(self, source: str, rows: Sequence[tuple[str, Moved]]) -> None:
        """Tell the audit which rows, by key, the source no longer holds secrets of."""


class MigrationRuns(Protocol):
    """How far runs by workers have come. All raise ``StoreUnavailable``."""

    def alone(self, name: str) -> AbstractContextManager[bool]:
        """Hold the lock on a source for as long as the block takes; False: somebody else holds it."""

    def begin(self, name: str) -> None:
        """Note that there is work to do; nothing changes when that was noted before."""

    def unfinished(self) -> Sequence[str]:
        """Names of what is to be done."""

    def place(self, name: str) -> tuple[str | None, Mapping[str, int]] | None:
        """Where to go on, and what has been counted so far; None: there is nothing to do."""

    def save(self, name: str, cursor: str | None, counts: Mapping[str, int]) -> None:
        """Note how far it has come."""

    def end(self, name: str) -> None:
        """Forget it."""
