"""Looking after endpoints: adding one, rolling its secret, enabling and disabling it, trying it; replaying events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from vault.credentials.kinds import Kind, checked
from vault.credentials.policies import OURSELVES
from vault.engine.values import Values
from vault.errors import ConfigurationError, UnknownEndpoint, UnknownEvent
from vault.events import Delivery, Endpoint, Event, EventType
from vault.model import Credential
from vault.ports import EndpointStore
from vault.secret import Secret
from vault.webhooks import Style, generate

LONGEST_URL: Final = 2048
LONGEST_OVERLAP: Final = timedelta(days=30)
NAME: Final = "events"
"""What an endpoint's secret is called among credentials."""


class Endpoints:
    """The use cases behind ``evergrant endpoint`` and ``evergrant event``."""

    def __init__(
        self,
        store: EndpointStore,
        values: Values,
        insecure_hosts: Iterable[str],
        *,
        random: Callable[[int], bytes],
        new_id: Callable[[], UUID],
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._values, self._insecure_hosts = store, values, frozenset(insecure_hosts)
        self._random, self._new_id, self._now = random, new_id, now

    # ------------------------------------------------------------------------------------------------------ endpoints

    def add(self, tenant: str, url: str, types: Sequence[str]) -> tuple[UUID, Secret]:
        """See ``Events.add_endpoint``."""
        problems = [*self._problems(url), *_unknown(types)]
        if problems:
            raise ConfigurationError(problems)
        secret, now = generate(self._random), self._now()
        new = Endpoint(
            self._new_id(), tenant, "webhook", url, tuple(sorted(set(types))), "active", None, None, now
        )  # fmt: skip
        kept = Credential(
            new.id, tenant, "", OURSELVES, None, str(Kind.WEBHOOK_SECRET), NAME, {}, {}, "active", 1, 1,
            {"style": str(Style.STANDARD)}, now, now,
        )  # fmt: skip
        found = checked(Kind.WEBHOOK_SECRET, secret.reveal(), kept.facts)
        self._store.add_endpoint(new, self._values.first(kept, found))
        return new.id, secret

    def all(self, tenant: str | None) -> list[Endpoint]:
        """See ``Events.endpoints``."""
        return self._store.endpoints(tenant)

    def get(self, endpoint_id: UUID) -> Endpoint:
        """See ``Events.endpoint``."""
        found = self._store.endpoint(endpoint_id)
        if found is None:
            raise UnknownEndpoint(endpoint_id)
        return found

    def new_secret(self, endpoint_id: UUID, overlap: timedelta) -> tuple[str, Secret]:
        """Make the next secret of a webhook, which is to be rotated in; returns its tenant as well.

        Raises ``UnknownEndpoint``, ``ConfigurationError``.
        """
        if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
            raise ConfigurationError([f"an overlap is 0 to {LONGEST_OVERLAP.days} days long"])
        found = self.get(endpoint_id)
        if found.kind != "webhook":
            raise UnknownEndpoint(endpoint_id)
        return found.tenant, generate(self._random)

    def disable(self, endpoint_id: UUID, reason: str) -> None:
        """See ``Events.disable``."""
        if not self._store.disable(endpoint_id, reason):
            self.get(endpoint_id)

    def enable(self, endpoint_id: UUID) -> None:
        """See ``Events.enable``."""
        if not self._store.enable(endpoint_id):
            self.get(endpoint_id)

    def remove(self, endpoint_id: UUID) -> None:
        """See ``Events.remove``."""
        if not self._store.remove_endpoint(endpoint_id):
            raise UnknownEndpoint(endpoint_id)

    def ping(self, endpoint_id: UUID) -> UUID:
        """Tell one endpoint that it is being tried, though it be disabled; returns the id of the event."""
        return self._store.ping(self.get(endpoint_id), str(self._new_id()))

    # --------------------------------------------------------------------------------------------------------- events

    def events(
        self, tenant: str | None, *, type_: str | None, connection_id: UUID | None, before: UUID | None, limit: int
    ) -> list[Event]:
        """See ``Events.events``."""
        return self._store.events(tenant, type_=type_, connection_id=connection_id, before=before, limit=limit)

    def event(self, event_id: UUID) -> Event:
        """See ``Events.event``."""
        found = self._store.event(event_id)
        if found is None:
            raise UnknownEvent(event_id)
        return found

    def deliveries(self, event_id: UUID) -> list[Delivery]:
        """See ``Events.deliveries``."""
        return self._store.deliveries(self.event(event_id).id)

    def replay(self, event_id: UUID, endpoint_id: UUID | None) -> int:
        """See ``Events.replay``."""
        self.event(event_id)
        number = self._store.replay(event_id, endpoint_id)
        if endpoint_id is not None and not number:
            raise UnknownEndpoint(endpoint_id)
        return number

    def _problems(self, url: str) -> list[str]:
        """Everything that is wrong with an address; none of it is said with the address itself, which may hold keys."""
        if len(url) > LONGEST_URL or not (url.isascii() and url.isprintable()) or " " in url:
            return [f"an endpoint's URL is at most {LONGEST_URL} printable ASCII characters, without spaces"]
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            return ["the endpoint's URL cannot be read"]
        problems = []
        if not host or "\\" in url:
            problems.append("an endpoint's URL names a host")
        elif parts.scheme not in ("http", "https"):
            problems.append("an endpoint's URL begins with https://")
        elif parts.scheme == "http" and host not in self._insecure_hosts:
            problems.append("an endpoint's URL begins with https://, or its host is in VAULT_INSECURE_HOSTS")
        if "@" in parts.netloc:
            problems.append("an endpoint's URL holds no user and no password: deliveries are signed")
        if "#" in url:
            problems.append("an endpoint's URL has no fragment")
        return problems


def _unknown(types: Sequence[str]) -> list[str]:
    known = {each.value for each in EventType}
    wrong = sorted(set(types) - known)
    listing = ", ".join(sorted(known))
    return [f"no event is of the type {each[:64]!r}; there are: {listing}" for each in wrong]
