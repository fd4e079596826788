"""What operators do about events and the endpoints they are sent to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from vault.errors import UnknownEndpoint, UnknownEvent
from vault.events import Delivery, Endpoint, Event
from vault.secret import Secret
from vault.wiring import Wiring

PAGE = 100


class Events:
    """What tenant admins are told, and where it is sent. From ``Maintenance.events``.

    Every method raises ``StoreUnavailable`` when PostgreSQL cannot be reached.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    # ------------------------------------------------------------------------------------------------------ endpoints

    def add_endpoint(self, tenant: str, url: str, types: Sequence[str] = ()) -> tuple[UUID, Secret]:
        """Send events of a tenant to an address from now on.

        Args:
            tenant: Whose events; ``*``: those that concern operators, and no tenant's.
            url: ``https://…``; unencrypted only where ``VAULT_INSECURE_HOSTS`` names the host.
            types: Which events; empty: all.

        Returns:
            The id of the endpoint, and the secret that deliveries are signed with, which is not shown again.

        Raises:
            ConfigurationError: An address, or a type, that cannot be.
            KeyUnavailable
        """
        return self._wiring.credentials.endpoints.add(tenant, url, types)

    def endpoints(self, tenant: str | None = None) -> Sequence[Endpoint]:
        """List the endpoints of a tenant, or of all, hooks among them; without secrets."""
        return self._wiring.credentials.endpoints.all(tenant)

    def endpoint(self, endpoint_id: UUID | str) -> Endpoint:
        """Return one of them. Raises ``UnknownEndpoint``."""
        return self._wiring.credentials.endpoints.get(_endpoint_id(endpoint_id))

    def disable(self, endpoint_id: UUID | str, reason: str = "by_operator") -> None:
        """Send nothing more to an endpoint; what is on its way, and what comes, is held. Raises ``UnknownEndpoint``."""
        self._wiring.credentials.endpoints.disable(_endpoint_id(endpoint_id), reason)

    def enable(self, endpoint_id: UUID | str) -> None:
        """Send to an endpoint again, what was held at once. Raises ``UnknownEndpoint``."""
        self._wiring.credentials.endpoints.enable(_endpoint_id(endpoint_id))

    def remove(self, endpoint_id: UUID | str) -> None:
        """Forget an endpoint, and what is on its way to it. Raises ``UnknownEndpoint``."""
        self._wiring.credentials.endpoints.remove(_endpoint_id(endpoint_id))

    def rotate_secret(
        self, endpoint_id: UUID | str, overlap: timedelta = timedelta(days=7), *, force: bool = False
    ) -> Secret:
        """Make a new secret now; the one before goes on signing beside it for a while.

        By policy that happens by itself, every 180 days. The secret is the credential that has the endpoint's id:
        ``Vault.credential()`` of its tenant reads it, and ``Vault.verify_webhook()`` verifies with it.

        Args:
            endpoint_id: Whose.
            overlap: For so long; zero, when the secret is known to others: it signs no more.
            force: Also while the secret before the current one still signs, which then ends.

        Returns:
            The new secret, which is not shown again.

        Raises:
            RotationBusy: So it does.
            UnknownEndpoint, ConfigurationError, KeyUnavailable
        """
        found = _endpoint_id(endpoint_id)
        tenant, secret = self._wiring.credentials.endpoints.new_secret(found, overlap)
        rotation = self._wiring.credentials.rotating.begin(tenant, found, value=secret, overlap=overlap, force=force)
        self._wiring.credentials.rotating.one(rotation)
        return secret

    def test(self, endpoint_id: UUID | str) -> Delivery:
        """Send a ``ping`` now, once, also to an endpoint that is disabled; returns what came of it.

        Raises ``UnknownEndpoint``.
        """
        found = _endpoint_id(endpoint_id)
        event_id = self._wiring.credentials.endpoints.ping(found)
        self._wiring.delivering.one(event_id, found)
        [delivery] = self._wiring.credentials.endpoints.deliveries(event_id)
        return delivery

    # --------------------------------------------------------------------------------------------------------- events

    def events(
        self,
        tenant: str | None = None,
        *,
        type: str | None = None,  # noqa: A002  # what it is called in the event
        connection_id: UUID | None = None,
        before: UUID | None = None,
        limit: int = PAGE,
    ) -> Sequence[Event]:
        """List what there was to tell, newest first.

        Args:
            tenant: Whose; None: everybody's.
            type: Only of this type.
            connection_id: Only of this connection.
            before: The id of the last event of the page before.
            limit: So many at most.
        """
        return self._wiring.credentials.endpoints.events(
            tenant, type_=type, connection_id=connection_id, before=before, limit=limit
        )

    def event(self, event_id: UUID | str) -> Event:
        """Return one of them. Raises ``UnknownEvent``."""
        return self._wiring.credentials.endpoints.event(_event_id(event_id))

    def deliveries(self, event_id: UUID | str) -> Sequence[Delivery]:
        """Say how far an event has come, by endpoint. Raises ``UnknownEvent``."""
        return self._wiring.credentials.endpoints.deliveries(_event_id(event_id))

    def replay(self, event_id: UUID | str, endpoint_id: UUID | str | None = None) -> int:
        """Send an event again, with the same id and body, from the first attempt on.

        Args:
            event_id: Which.
            endpoint_id: Where; None: to every endpoint of its tenant that wants it, those among them that are newer.

        Returns:
            To how many endpoints it goes.

        Raises:
            UnknownEvent: There is none, or not any more.
            UnknownEndpoint: There is none, or it is another tenant's.
        """
        where = None if endpoint_id is None else _endpoint_id(endpoint_id)
        return self._wiring.credentials.endpoints.replay(_event_id(event_id), where)


def _endpoint_id(given: UUID | str) -> UUID:
    found = _id(given)
    if found is None:
        raise UnknownEndpoint(given)
    return found


def _event_id(given: UUID | str) -> UUID:
    found = _id(given)
    if found is None:
        raise UnknownEvent(given)
    return found


def _id(given: UUID | str) -> UUID | None:
    if isinstance(given, UUID):
        return given
    try:
        return UUID(given)
    except (ValueError, AttributeError, TypeError):
        return None
