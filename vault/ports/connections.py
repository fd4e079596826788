"""Connections: read at every ``get()``, written when an owner comes or goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from vault.claims import DataKeyRecord
from vault.model import Connection, SealedToken


class TokenReader(Protocol):
    """The hot read behind ``get()``."""

    def read(self, connection_id: UUID, *, with_key: bool) -> tuple[SealedToken, DataKeyRecord | None] | None:
        """One indexed row, with its data key in the same round trip when asked. Raises ``StoreUnavailable``."""

    def read_many(
        self, connection_ids: Sequence[UUID], *, with_keys: bool
    ) -> list[tuple[SealedToken, DataKeyRecord | None]]:
        """The rows that exist among these, in any order, each with its data key when asked."""


class SealedMetadata(NamedTuple):
    """What an app, and its provider's answer, keep with a connection."""

    connection_id: UUID
    version: int
    data_key_id: UUID
    envelope: bytes


class NewGrant(NamedTuple):
    """A consent just given, sealed: the first (or next) lineage of a connection."""

    connection_id: UUID
    tenant: str
    owner: str
    provider: str
    client: str
    client_id: str
    account: str | None
    requested_scopes: str
    granted_scopes: str
    labels: Mapping[str, str]
    version: int
    data_key_id: UUID
    access_envelope: bytes
    refresh_envelope: bytes | None
    refresh_fp: bytes | None
    token_type: str
    life: timedelta
    refresh_in: timedelta | None
    grant_life: timedelta | None
    age: timedelta = timedelta(0)
    """Since the code was sent: lives are counted from there."""
    metadata: SealedMetadata | None = None
    """Takes the place of what was kept before; None: that stays."""
    part_of: UUID | None = None
    """Of a further grant: the connection it goes with."""
    grant_name: str | None = None


class ConnectAttempt(NamedTuple):
    """A connect flow between ``begin`` and ``complete``. The state itself is kept only as a digest."""

    state_digest: bytes
    tenant: str
    owner: str
    provider: str
    redirect_uri: str
    return_to: str | None
    scopes: str
    browser_digest: bytes | None
    connection_id: UUID
    reconnect: bool
    data_key_id: UUID
    verifier_envelope: bytes
    labels: Mapping[str, str]
    metadata_envelope: bytes | None
    client_id: str | None = None
    """The registration it was begun with, which must end it; None: it was begun before that was noted."""


class ConnectionStore(Protocol):
    """Connections and the flows that make them."""

    def save_attempt(self, attempt: ConnectAttempt, life: timedelta) -> None:
        """Keep an attempt for ``life``."""

    def take_attempt(self, tenant: str, state_digest: bytes) -> ConnectAttempt | None:
        """Read and remove an attempt in one step, so that a state is used once; None when unknown or too old.

        Another tenant's stays where it is.
        """

    def connect(self, *grants: NewGrant) -> Connection | None:
        """Create the connection, or put a new consent in place of the old one, with schedule and audit, atomically.

        The first grant is the connection's own, others go with it. None, and nothing done, when a row has meanwhile
        reached the version that its new grant, or metadata, is sealed for.
        """

    def grant_version(self, connection_id: UUID) -> int | None:
        """The version of the grant row, before a reconnect in place."""

    def connection(self, tenant: str, connection_id: UUID) -> Connection | None:
        """One connection of this tenant."""

    def connections(
        self,
        tenant: str,
        *,
        owner: str | None,
        provider: str | None,
        status: str | None,
        after: UUID | None,
        limit: int,
        further: bool,
    ) -> list[Connection]:
        """Connections of this tenant, ordered by id, with further grants or without."""

    def further_grants(self, tenant: str, connection_id: UUID) -> list[Connection]:
        """What goes with a connection of this tenant, ordered by name."""

    def metadata(self, tenant: str, connection_id: UUID) -> SealedMetadata | None:
        """What is kept with a connection of this tenant; None: nothing."""

    def put_metadata(self, tenant: str, metadata: SealedMetadata) -> bool:
        """Put it in the place of the version before; False when that is not there, or the connection has ended."""

    def give_back(self, grant: NewGrant, reason: str) -> bool:
        """Hand a grant that was never stored to revocation, with an audit row that says why.

        False: it is stored, and stays: a COMMIT that nobody told us of, or the very token that was there before.
        """

    def disconnect(self, tenant: str, connection_id: UUID) -> bool:
        """Take the grant away and hand its tokens to revocation, atomically; False when there is no such connection.

        Further grants, and flows that were to give it a new one, end with it.
        """

    def reject(self, tenant: str, connection_id: UUID) -> bool:
        """Declare dead a grant that nothing but its owner renews, its token having been refused; False: it is not such.

        Its audit row and its event come in the same transaction.
        """

    def ask(self, tenant: str, connection_id: UUID, *, insist: bool) -> timedelta | None:
        """Make a connection due now and urgent; returns the wait until its next try, None when there will be none.

        A connection that is backing off keeps its pace unless the caller insists.
        """
