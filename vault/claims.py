"""The records a refresh passes through, from the claim of a row to the verdict that ends it.

They are named tuples because the engine makes tens of thousands of them a second. Instants are aware UTC and always
the database's clock, also where a process worked them out: a claim carries the database's time, and monotonic time
since then is added to it. No clock of a host decides anything.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from vault.model import Status


class Quota(NamedTuple):
    """How much one claim may take for one client of one provider, and for how long."""

    client: str
    rows: int
    lease: timedelta
    since: datetime | None = None
    """Watermark: rows due before this were seen a moment ago; None looks at all of them."""


class DataKeyRecord(NamedTuple):
    """A data key at rest: wrapped by a tenant key."""

    id: UUID
    tenant: str
    owner: str
    provider: str
    purpose: str
    state: str
    tenant_key_id: UUID
    wrapped: bytes


class Claim(NamedTuple):
    """One grant taken for refreshing, fenced by ``epoch``."""

    connection_id: UUID
    tenant: str
    owner: str
    provider: str
    client: str
    client_id: str
    """Which of our registrations got the consent; another one's ``invalid_grant`` proves nothing."""
    consent: int
    """Which consent of the owner this grant descends from; a reconnect adds one."""
    status: Status
    reason: str | None
    version: int
    parent_fp: bytes | None
    """Fingerprint of the refresh token in the row; None: the provider gave none."""
    refresh_envelope: bytes | None
    expires_at: datetime
    refreshed_at: datetime
    grant_ends_at: datetime | None
    data_key: DataKeyRecord
    epoch: int
    attempt: int
    """Claims in a row that ended without a word, this one included."""
    failures: int
    """Ends in a row that were no success."""
    doubt_since: datetime | None
    """First send of this very refresh token whose end nobody knows; None: it was never sent."""
    candidate: bool
    """An answer is kept that descends from this very refresh token."""
    claimed_at: datetime
    lease_until: datetime
    due_at: datetime
    urgent: bool

    @property
    def life(self) -> timedelta:
        """How long the stored access token was given to live."""
        return self.expires_at - self.refreshed_at


class Kept(NamedTuple):
    """A sealed answer on its way into the row; also exactly what the spool holds."""

    connection_id: UUID
    tenant: str
    epoch: int
    consent: int
    parent_fp: bytes
    parent_version: int
    refresh_fp: bytes
    data_key_id: UUID
    access_envelope: bytes
    refresh_envelope: bytes
    token_type: str
    scopes: str | None
    """Space-separated, as granted; None: the answer did not say, the old ones stand."""
    sent_at: datetime
    expires_at: datetime
    next_at: datetime
    grant_ends_at: datetime | None
    fragile: bool = False
    """Its provider forgets this answer when the parent is sent again (``until_successor_used``)."""
    recovered_from: str | None = None
    """The reason of the trouble that this answer ends; None: there was none."""

    @property
    def version(self) -> int:
        """The version both envelopes are bound to."""
        return self.parent_version + 1


class Verdict(NamedTuple):
    """The end of a claim that brought no answer to keep."""

    claim: Claim
    event: str
    """Name of the audit row: ``oauth.postponed``, ``oauth.in_doubt``, …; empty: not worth one."""
    status: Status
    reason: str | None
    wait: timedelta | None
    """From now to the next try; None: there is none."""
    failures: int
    unspent: bool
    """The refresh token is known not to have been accepted, so a send recorded at the claim is taken back."""
    conclusive: bool = False
    """The grant is to be declared dead, if the row still is what was claimed and nothing else is in our hands (S7)."""


class Lineage(NamedTuple):
    """What the row says now, for deciding about an answer that did not fit."""

    status: Status
    consent: int
    refresh_fp: bytes | None
    version: int
    leased: bool
    """Somebody else holds a lease on it that has not run out."""
    epoch: int


class Settled(NamedTuple):
    """What a settle committed, by connection id."""

    stored: frozenset[UUID]
    ended: frozenset[UUID]


class Overdue(NamedTuple):
    """Rows due and unclaimed."""

    rows: int
    """At most 1,000 are counted."""
    late: timedelta
    """How long the oldest has been due."""


class Revocation(NamedTuple):
    """Tokens to be revoked at a provider."""

    id: UUID
    connection_id: UUID
    tenant: str
    owner: str
    provider: str
    version: int
    data_key_id: UUID
    refresh_envelope: bytes | None
    attempt: int
    client_id: str | None = None
    """Which of our registrations they were given to; None: it was not noted."""
    access_envelope: bytes | None = None
    """Where there is no refresh token."""
