"""What tenant admins are told, and whom it is sent to. No event holds a secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID


class EventType(StrEnum):
    """What can have happened."""

    NEEDS_RECONNECT = "connection.needs_reconnect"
    """A grant is dead; only its owner can give a new one."""
    QUARANTINED = "connection.quarantined"
    """A connection seems to kill workers, and is tried alone and rarely."""
    RECOVERED = "connection.recovered"
    """A connection of which one of the two above was told works again."""
    DISCONNECTED = "connection.disconnected"
    """An owner, or whoever shredded their keys, took a grant back."""
    GRANT_ENDING = "connection.grant_ending"
    """A consent ends soon whatever we do; its owner should connect again before."""
    CREDENTIAL_EXPIRING = "credential.expiring"
    """A credential ends by itself soon."""
    CREDENTIAL_EXPIRED = "credential.expired"
    """It has."""
    ROTATION_DUE = "credential.rotation_due"
    """Its policy wants a new value, and somebody must see to it."""
    CREDENTIAL_ROTATED = "credential.rotated"
    """Its rotator has put a new value in the place of the old one, which works until its overlap is over."""
    ROTATION_FAILED = "credential.rotation_failed"
    """A rotation came to nothing; the value before goes on working."""
    CLIENT_SECRET_REFUSED = "client.secret_refused"  # a name, no secret
    """A provider refused a client secret of ours. For operators: its tenant is ``*``."""
    PING = "ping"
    """Somebody tried whether an endpoint works."""


SCHEDULE: Final = tuple(
    timedelta(seconds=seconds)
    for seconds in (0, 5, 5 * 60, 30 * 60, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24)))
)
"""How long after the one before each attempt is made: the schedule that Standard Webhooks 1.0 suggests."""
JITTER: Final = 0.1
"""Waits are up to this share shorter or longer."""


class Fact(NamedTuple):
    """Something that has happened, to be told once."""

    tenant: str
    type: str
    key: str
    """Tells it from every other fact of its tenant; the same fact always gets the same one."""
    data: Mapping[str, object]
    """What is told: ids, words and instants, never a value."""
    connection_id: UUID | None = None
    credential_id: UUID | None = None


class Event(NamedTuple):
    """A fact as it is told, the same each time."""

    id: UUID
    tenant: str
    type: str
    connection_id: UUID | None
    credential_id: UUID | None
    created_at: datetime
    body: str
    """JSON: ``id``, ``type``, ``timestamp``, ``tenant``, ``data``."""

    @property
    def data(self) -> Mapping[str, Any]:
        """What there is to know about it."""
        found: Mapping[str, Any] = json.loads(self.body)["data"]
        return found


class Endpoint(NamedTuple):
    """Where events of a tenant are sent, without its secret."""

    id: UUID
    tenant: str
    kind: str
    """``webhook``; or ``hook``, which is Python code in our workers that gets the events of all tenants."""
    url: str
    """Of a hook: its name."""
    types: tuple[str, ...]
    """What it is told; empty: everything."""
    state: str
    """``active`` or ``disabled``."""
    reason: str | None
    former_until: datetime | None
    """So long the secret before signs too; None: there is none."""
    created_at: datetime


class Delivery(NamedTuple):
    """How far an event has come on its way to an endpoint."""

    event_id: UUID
    endpoint_id: UUID
    state: str
    """``pending``; ``delivered``; ``failed``, after the last attempt; ``held``, while the endpoint is disabled."""
    attempt: int
    """Attempts begun."""
    next_at: datetime
    last_status: int | None
    """HTTP status of the last attempt; None: there was no answer."""
    last_error: str | None


class SealedSecret(NamedTuple):
    """A secret that deliveries are signed with, at rest: a version of the credential with the endpoint's id."""

    version: int
    data_key_id: UUID
    envelope: bytes


class Due(NamedTuple):
    """A delivery in our hands."""

    event: Event
    endpoint_id: UUID
    endpoint_tenant: str
    kind: str
    url: str
    signing: tuple[SealedSecret, ...]
    """The secrets that count now, the current one first; none: it is a hook, or its secret was taken away."""
    attempt: int
    """This one included; the end is only taken for it."""
    claimed_at: datetime


class Ended(NamedTuple):
    """How an attempt ended."""

    event_id: UUID
    endpoint_id: UUID
    attempt: int
    state: str
    wait: timedelta
    """Until the next attempt."""
    status: int | None
    error: str | None
    begun: bool = True
    """False: nothing was sent, and the attempt does not count."""


def after_failure(attempt: int, share: float, retry_after: timedelta | None) -> timedelta | None:
    """Say how long to wait after an attempt that failed; None: it was the last.

    Args:
        attempt: The first is 1.
        share: The jitter drawn for it, in [0, 1).
        retry_after: The endpoint's wish: not sooner, up to the schedule's longest wait.
    """
    if attempt >= len(SCHEDULE):
        return None
    wait = SCHEDULE[attempt] * (1 + JITTER * (2 * share - 1))
    return max(wait, min(retry_after or timedelta(0), SCHEDULE[-1]))
