"""Whoever comes over HTTP: programs with keys, browsers in the middle of a flow; and how much of it there may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from vault.api_keys import ApiKey, FoundKey


class ApiKeyStore(Protocol):
    """Keys at rest, as digests. What changes one is told to its tenant's audit in the same transaction."""

    def add_key(self, key: ApiKey, digest: bytes, life: timedelta | None) -> ApiKey:
        """Keep a new one, its instants being the database's; returns it as it is kept."""

    def find_key(self, digest: bytes) -> FoundKey | None:
        """Find one of any tenant, in whatever state. Raises ``StoreUnavailable``."""

    def keys(self, tenant: str | None) -> Sequence[ApiKey]:
        """List those of a tenant, or all, by tenant and age."""

    def revoke_key(self, key_id: UUID) -> ApiKey | None:
        """End one; returns it, None: there is none of that id. Ending it again changes nothing."""

    def keys_used(self, key_ids: Sequence[UUID]) -> None:
        """Note that they were used about now, at most once a minute each."""


class ReadCount(NamedTuple):
    """Tokens of one connection that were read with one key."""

    tenant: str
    key_id: UUID
    connection_id: UUID
    reads: int
    since: datetime
    """Of the first of them."""


class ReadStore(Protocol):
    """Reads that the audit is told of afterwards."""

    def tell_reads(self, counts: Sequence[ReadCount]) -> None:
        """Tell the audit, in one transaction."""


class Ticket(NamedTuple):
    """What a flow is to be begun with when its browser comes, for one browser."""

    tenant: str
    provider: str
    request: Mapping[str, Any]
    """Arguments of ``Vault.begin``, fit for JSON; none is a secret."""


class Flow(NamedTuple):
    """Whose a flow is, and where its owner was sent."""

    tenant: str
    provider: str


class FlowStore(Protocol):
    """Flows before anybody knows whose they are."""

    def add_ticket(self, digest: bytes, ticket: Ticket, life: timedelta) -> None:
        """Keep a ticket for ``life``."""

    def take_ticket(self, digest: bytes) -> Ticket | None:
        """Read and remove it in one step; None: it is unknown, too old, or was used."""

    def flow(self, state_digest: bytes) -> Flow | None:
        """Say whose an attempt is, and leave it where it is; None: it is unknown or too old."""


class Quota(Protocol):
    """How often something may be done, by token buckets that processes share where they can."""

    def take_at_hand(self, bucket: str, rate: float) -> bool:
        """Take one that this process has at hand, without asking anybody; False: ``take`` must be asked."""

    def take(self, bucket: str, rate: float) -> timedelta | None:
        """Take one; None: taken. Otherwise how long until there is one.

        Args:
            bucket: Whose and for what.
            rate: So many a second; what is not used is saved up for two seconds.
        """
