"""Every seam of Evergrant on one page. Adapters satisfy these structurally; ``wiring`` is where mypy proves it.

All of them raise ``vault.errors`` only. An adapter that talks to a server has bounded time-outs of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from vault.claims import Claim, DataKeyRecord, Kept, Overdue, Quota, Revocation, Settled, Verdict
from vault.model import Answer, Connection, SealedToken
from vault.outcome import Exchange, Outcome, TokenRequest
from vault.policy import Place
from vault.provider import Client, Provider
from vault.secret import Secret

# ---------------------------------------------------------------------------------------------------------------- keys


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

    def grants_under_replaced_keys(self, limit: int) -> list[SealedGrant]:
        """Grants whose envelopes stand under a data key that is no longer current."""

    def reseal(self, grants: Sequence[tuple[SealedGrant, SealedGrant]]) -> int:
        """Swap envelopes (old, new) where the row is still what was read; returns how many were."""

    def retire_unused_data_keys(self) -> int:
        """Mark replaced data keys that nothing refers to any more as retired; returns how many."""


class SealedGrant(NamedTuple):
    """Both envelopes of a grant, for re-sealing."""

    connection_id: UUID
    tenant: str
    owner: str
    provider: str
    version: int
    data_key_id: UUID
    access_envelope: bytes | None
    refresh_envelope: bytes | None


# --------------------------------------------------------------------------------------------------------------- reads


class TokenReader(Protocol):
    """The hot read behind ``get()``."""

    def read(self, connection_id: UUID, *, with_key: bool) -> tuple[SealedToken, DataKeyRecord | None] | None:
        """One indexed row, with its data key in the same round trip when asked. Raises ``StoreUnavailable``."""

    def read_many(
        self, connection_ids: Sequence[UUID], *, with_keys: bool
    ) -> list[tuple[SealedToken, DataKeyRecord | None]]:
        """The rows that exist among these, in any order, each with its data key when asked."""


# --------------------------------------------------------------------------------------------------------- connections


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


class ConnectionStore(Protocol):
    """Connections and the flows that make them."""

    def save_attempt(self, attempt: ConnectAttempt, life: timedelta) -> None:
        """Keep an attempt for ``life``."""

    def take_attempt(self, state_digest: bytes) -> ConnectAttempt | None:
        """Read and remove an attempt in one step, so that a state is used once; None when unknown or too old."""

    def connect(self, grant: NewGrant) -> Connection | None:
        """Create the connection, or put a new consent in place of the old one, with schedule and audit, atomically.

        None, and nothing done, when the row has meanwhile reached the version the new grant is sealed for.
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
    ) -> list[Connection]:
        """Connections of this tenant, ordered by id."""

    def disconnect(self, tenant: str, connection_id: UUID) -> bool:
        """Take the grant away and hand its tokens to revocation, atomically; False when there is no such connection."""

    def ask(self, tenant: str, connection_id: UUID, *, insist: bool) -> timedelta | None:
        """Make a connection due now and urgent; returns the wait until its next try, None when there will be none.

        A connection that is backing off keeps its pace unless the caller insists.
        """


# ------------------------------------------------------------------------------------------------------------- refresh


class RefreshStore(Protocol):
    """The rows behind the refresh protocol. Each call is one short transaction that is committed when it returns."""

    def claim(self, quotas: Sequence[Quota]) -> list[Claim]:
        """S2: take due rows, urgent ones first, and record the intent to send."""

    def claim_one(self, connection_id: UUID, quotas: Sequence[Quota]) -> Claim | None:
        """S2 for one row, due or not; None when it is leased, backing off, disconnected or unknown."""

    def claim_suspects(self, quotas: Sequence[Quota], few: int) -> list[Claim]:
        """S2 for due rows whose last claims ended without a word: a few that did so once, else one that did so again.

        Their worker died, and one of them may be the reason: of many, the fewer are at stake, the sooner it is found.
        """

    def settle(self, kept: Sequence[Kept], verdicts: Sequence[Verdict]) -> Settled:
        """S5, the common case: commit answers by lineage and ends by epoch, each with its audit row, in one go.

        Here as in all that stores an answer: what has become the row's is no candidate any more.
        """

    def settle_late(self, kept: Kept, *, holding: int | None = None) -> Place:
        """S5 for an answer that did not fit: decide its place (``policy.place``) under the row's lock, put it there.

        ``holding`` is the epoch of our own claim on the row, under which nothing was sent: its lease hinders nobody.
        """

    def condemn(self, verdict: Verdict, *, client_id: str, spooled: bool) -> bool:
        """S7: declare a grant dead if ``policy.is_conclusive`` holds under the row's lock; False when it does not."""

    def candidates(self, connection_id: UUID, consent: int) -> list[Kept]:
        """Answers kept beside the row, newest first."""

    def adopt(self, claim: Claim, resealed: Kept) -> bool:
        """Put a candidate, sealed for the row, into it under our lease; False when the lease is not ours."""

    def overdue(self, clients: Sequence[str]) -> Overdue:
        """What is due now for these clients and in nobody's hands."""


class Spool(Protocol):
    """Answers on their way, on a local disk: what a killed process has already received."""

    def check(self) -> None:
        """Raise ``OSError`` when nothing can be written."""

    def append(self, kept: Kept) -> None:
        """Write a record; it survives the death of this process when this returns."""

    def sync(self) -> None:
        """Make everything appended survive a loss of power."""

    def done(self, records: Sequence[Kept]) -> None:
        """These answers have found their place; their records are not needed any more."""

    def release(self) -> None:
        """Let go of what still waits, so that the next scan finds it as an orphan's."""

    def holds(self, connection_id: UUID) -> bool:
        """Whether a record for this connection, ours or a dead process's, is waiting on this disk."""

    def lying(self, connection_ids: Collection[UUID]) -> list[Kept]:
        """Records for these connections that wait in other processes' spools on this disk, dead or alive."""

    def orphans(self) -> Iterable[Orphan]:
        """Records of processes that died; each must be answered by ``Orphan.done``."""


class Orphan(Protocol):
    """The records one dead process left; it is ours alone while we look at it."""

    @property
    def records(self) -> Sequence[Kept]:
        """What waits, in the order it was written."""

    def finish(self, remaining: Sequence[Kept]) -> None:
        """Keep only ``remaining`` and let go."""


# ----------------------------------------------------------------------------------------------------------- providers


class Providers(Protocol):
    """The registry."""

    def get(self, name: str) -> Provider:
        """Raises ``UnknownProvider``."""

    def all(self) -> Sequence[Provider]:
        """Every provider that has a client, by name."""


class TokenEndpoint(Protocol):
    """The dialects of providers: how a refresh is asked for, and what an answer means."""

    def refresh_request(
        self, provider: Provider, refresh_token: Secret, tag: object, deadline: timedelta, send_within: timedelta
    ) -> TokenRequest:
        """The POST that spends a refresh token (RFC 6749, section 6)."""

    def revoke_request(
        self, provider: Provider, token: Secret, tag: object, deadline: timedelta
    ) -> TokenRequest | None:
        """The POST that revokes a token (RFC 7009); None: the provider has no such endpoint."""

    def read(self, provider: Provider, exchange: Exchange) -> Outcome:
        """What became of a POST."""


class Transport(Protocol):
    """Many POSTs at once on one thread; each is sent once and never again by itself."""

    in_flight: int

    def start(self, request: TokenRequest) -> None:
        """Begin a POST."""

    def poll(self, timeout: timedelta) -> list[Exchange]:
        """Drive everything in flight; returns as soon as something ended, or after ``timeout``."""

    def close(self) -> None:
        """Drop every connection."""


class CodeExchange(Protocol):
    """The flow a person waits in."""

    def authorization(
        self, provider: Provider, client: Client, redirect_uri: str, scopes: Sequence[str], state: str, verifier: str
    ) -> str:
        """The URL to send the owner to."""

    def fetch(self, provider: Provider, client: Client, redirect_uri: str, code: Secret, verifier: Secret) -> Answer:
        """Exchange a code, once. Raises ``ConnectRefused``."""


class Gate(Protocol):
    """Per client of a provider: how much may be sent now, and whether anything should be."""

    def room(self, provider: Provider) -> int:
        """How many sends may start now; 0 while the breaker is open."""

    def take(self, provider: Provider, sends: int) -> None:
        """Count sends against the rate."""

    def succeeded(self, provider: Provider) -> None:
        """The provider answered as it should."""

    def failed(self, provider: Provider, *, operator: bool, retry_after: timedelta | None) -> None:
        """It did not; ``operator`` when our own registration was refused."""


class Doorbell(Protocol):
    """A message that says "look at the database"; losing it costs latency only."""

    def ring(self, task: str, lane: str, argument: str | None) -> None:
        """Hand a message over for sending; never blocks, never raises."""

    def flush(self) -> None:
        """Wait until what was handed over has been sent, a fifth of a second at most."""

    def check(self) -> None:
        """Raise ``QueueUnavailable`` when the server cannot be reached."""


class RevocationStore(Protocol):
    """Tokens that a provider must be told to forget."""

    def take_revocations(self, limit: int, lease: timedelta) -> list[Revocation]:
        """Due ones, each counted as tried and put off by ``lease``."""

    def end_revocation(self, revocation: Revocation, outcome: str) -> None:
        """Forget one, with an audit row that says how it ended."""


class CleanupStore(Protocol):
    """Rows that have had their day."""

    def sweep(self, *, dry_run: bool) -> Mapping[str, int]:
        """Remove them, or only count them; returns how many of what."""
