"""The outbox: what tenant admins are told, and on its way to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from vault.claims import Overdue
from vault.events import Delivery, Due, Ended, Endpoint, Event
from vault.model import Credential
from vault.ports.credentials import SealedVersion


class OutboxStore(Protocol):
    """Deliveries. Each call is one short transaction that is committed when it returns."""

    def know_hooks(self, names: Sequence[str]) -> dict[UUID, str]:
        """Make an endpoint of every hook that has none; returns the names by the endpoints' ids."""

    def spread(self, limit: int, tell: Callable[[Event], object]) -> int:
        """Make deliveries of new events, one for each endpoint that wants it; returns how many events there were.

        ``tell`` is called for each of them before that is committed: at least once for every event, therefore.
        """

    def claim(
        self, limit: int, each: int, lease: timedelta, hooks: Sequence[UUID] | None, asked: tuple[UUID, UUID] | None
    ) -> list[Due]:
        """Take due deliveries, of the endpoints that have waited longest.

        Args:
            limit: At most so many.
            each: An endpoint has at most so many in anybody's hands.
            lease: For so long they are ours.
            hooks: Deliveries to these hooks; None: to webhooks.
            asked: None, or this one (event, endpoint) alone.
        """

    def end(self, ended: Sequence[Ended]) -> None:
        """Note how attempts ended, where nobody else has begun another meanwhile; one that was the last is audited."""

    def disable(self, endpoint_id: UUID, reason: str) -> bool:
        """Send nothing more to an endpoint; what is on its way to it is held. False: there is none that is active."""

    def overdue(self) -> Overdue:
        """Count what is late: new events and, by the endpoint, due deliveries in nobody's hands."""


class EndpointStore(Protocol):
    """Endpoints and events, as operators see them. Every change is one transaction with its audit row."""

    def endpoints(self, tenant: str | None) -> list[Endpoint]:
        """All there are of a tenant, or of all, by tenant and age."""

    def endpoint(self, endpoint_id: UUID) -> Endpoint | None:
        """One of them."""

    def add_endpoint(self, endpoint: Endpoint, secret: tuple[Credential, SealedVersion]) -> None:
        """Keep a new one, and the credential that it is signed with, which has its id."""

    def disable(self, endpoint_id: UUID, reason: str) -> bool:
        """See ``OutboxStore.disable``."""

    def enable(self, endpoint_id: UUID) -> bool:
        """Send to an endpoint again, what was held at once; False: there is none that is disabled."""

    def remove_endpoint(self, endpoint_id: UUID) -> bool:
        """Forget one, with what is on its way to it; False: there is none."""

    def events(
        self, tenant: str | None, *, type_: str | None, connection_id: UUID | None, before: UUID | None, limit: int
    ) -> list[Event]:
        """What there was to tell, newest first; ``before``: the last event of the page before."""

    def event(self, event_id: UUID) -> Event | None:
        """One of them."""

    def deliveries(self, event_id: UUID) -> list[Delivery]:
        """How far it has come."""

    def replay(self, event_id: UUID, endpoint_id: UUID | None) -> int:
        """Make an event due again, from the first attempt on; returns for how many endpoints.

        To the endpoint that is named, or to all that want it, those that came after it among them.
        """

    def ping(self, endpoint: Endpoint, key: str) -> UUID:
        """Tell one endpoint that it is being tried; returns the id of the event."""
