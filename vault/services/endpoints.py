"""Looking after endpoints: adding one, rolling its secret, enabling and disabling it, trying it; replaying events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from vault.engine.endpoint_secrets import opened, sealed
from vault.errors import ConfigurationError, OverlapRunning, UnknownEndpoint, UnknownEvent
from vault.events import Delivery, Endpoint, Event, EventType
from vault.keyring import Keyring
from vault.ports import EndpointStore, StoredEndpoint
from vault.secret import Secret
from vault.webhooks import generate

LONGEST_URL: Final = 2048
OVERLAP: Final = timedelta(hours=24)
"""How long the secret before goes on signing beside the new one."""
LONGEST_OVERLAP: Final = timedelta(days=30)
_NEVER: Final = UUID(int=0)


class Endpoints:
    """The use cases behind ``evergrant endpoint`` and ``evergrant event``."""

    def __init__(
        self,
        store: EndpointStore,
        keyring: Keyring,
        insecure_hosts: Iterable[str],
        *,
        random: Callable[[int], bytes],
        new_id: Callable[[], UUID],
    ) -> None:
        self._store, self._keyring, self._insecure_hosts = store, keyring, frozenset(insecure_hosts)
        self._random, self._new_id = random, new_id

    # ------------------------------------------------------------------------------------------------------ endpoints

    def add(self, tenant: str, url: str, types: Sequence[str]) -> tuple[UUID, Secret]:
        """See ``Events.add_endpoint``."""
        problems = [*self._problems(url), *_unknown(types)]
        if problems:
            raise ConfigurationError(problems)
        secret = generate(self._random)
        row = StoredEndpoint(self._new_id(), tenant, url, tuple(sorted(set(types))), 1, _NEVER, b"", None)
        self._store.add_endpoint(sealed(self._keyring, row, secret, None))
        return row.id, secret

    def all(self, tenant: str | None) -> list[Endpoint]:
        """See ``Events.endpoints``."""
        return self._store.endpoints(tenant)

    def get(self, endpoint_id: UUID) -> Endpoint:
        """See ``Events.endpoint``."""
        found = self._store.endpoint(endpoint_id)
        if found is None:
            raise UnknownEndpoint(endpoint_id)
        return found

    def rotate(self, endpoint_id: UUID, overlap: timedelta, *, force: bool) -> Secret:
        """See ``Events.rotate_secret``."""
        if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
            raise ConfigurationError([f"an overlap is 0 to {LONGEST_OVERLAP.days} days long"])
        new = generate(self._random)
        while True:
            row = self._store.sealed_endpoint(endpoint_id)
            if row is None:
                raise UnknownEndpoint(endpoint_id)
            if row.former_until is not None and overlap and not force:
                raise OverlapRunning(row.former_until)
            former = self._current(row) if overlap else None
            if self._store.change_secret(
                sealed(self._keyring, row._replace(version=row.version + 1), new, former), overlap
            ):
                return new

    def _current(self, row: StoredEndpoint) -> Secret:
        [current] = opened(
            self._keyring, row.tenant, row.id, row.version, row.data_key_id, row.secret_envelope, None
        )  # fmt: skip
        return current

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
