"""Looking after our registrations at providers: adding one, rolling its secret, removing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from vault.engine.registrations import opened, print_of, sealed
from vault.errors import ConfigurationError, DestructionRefused, UnknownClient
from vault.keyring import Keyring
from vault.ports import ClientStore, Providers, StoredClient
from vault.provider import Client
from vault.secret import Secret

LONGEST: Final = 4096
"""Characters of a client id or secret."""
ENVIRONMENT, STORE, NOWHERE = "environment", "store", "nowhere"
ADDED, CHANGED, ENDED = "client.added", "client.secret_changed", "client.secret_ended"


class RegisteredClient(NamedTuple):
    """One of our registrations, without its secrets."""

    provider: str
    generation: int | None
    """None: the store does not hold it."""
    client_id: str
    where: str
    """``environment``, ``store``, or ``nowhere``: grants need it, and nobody knows it."""
    current: bool
    """New consents are asked for with it."""
    secrets: int
    grants: int
    """Got by it, and not disconnected."""
    changed_at: datetime | None


class Registering:
    """The use cases behind ``evergrant client``."""

    def __init__(
        self,
        store: ClientStore,
        providers: Providers,
        keyring: Keyring,
        environment: Mapping[str, Client],
        *,
        new_id: Callable[[], UUID],
    ) -> None:
        self._store, self._providers, self._keyring = store, providers, keyring
        self._environment, self._new_id = environment, new_id

    def registered(self) -> list[RegisteredClient]:
        """See ``Clients.list``; opens nothing."""
        rows, grants = self._store.clients(), dict(self._store.grants_by_client())
        newest = {row.provider: row.generation for row in rows}  # they come by generation
        found = [
            RegisteredClient(
                name, None, client.client_id, ENVIRONMENT, True, _number(client.client_secret, client.other_secret),
                grants.get((name, client.client_id), 0), None,
            )
            for name, client in sorted(self._environment.items())
        ]  # fmt: skip
        for row in rows:
            current = row.provider not in self._environment and row.generation == newest[row.provider]
            number = _number(row.secret_envelope, row.other_envelope)
            got = grants.get((row.provider, row.client_id), 0)
            found.append(
                RegisteredClient(
                    row.provider, row.generation, row.client_id, STORE, current, number, got, row.changed_at
                )
            )
        known = {(each.provider, each.client_id) for each in found}
        found += [
            RegisteredClient(name, None, client_id, NOWHERE, False, 0, number, None)
            for (name, client_id), number in grants.items()
            if (name, client_id) not in known
        ]
        return sorted(found, key=lambda each: (each.provider, each.where, each.generation or 0, each.client_id))

    def set(self, provider: str, client_id: str, secret: Secret | None, *, mistyped: bool) -> int:
        """See ``Clients.set``."""
        self._providers.get(provider)
        _check(client_id, secret)
        while True:
            rows = [row for row in self._store.clients() if row.provider == provider]
            known = next((row for row in rows if row.client_id == client_id), None)
            if known is not None:
                generation, done = known.generation, self._change(known, secret, mistyped=mistyped)
            else:
                generation = 1 + max((row.generation for row in rows), default=0)
                done = self._add(provider, generation, client_id, secret)
            if done:
                return generation

    def _add(self, provider: str, generation: int, client_id: str, secret: Secret | None) -> bool:
        new_id = self._new_id()
        row = StoredClient(new_id, provider, generation, client_id, 1, new_id, None, None)
        row = sealed(self._keyring, row, Client(client_id, secret))
        return self._store.add_client(row, {"secret": print_of(self._keyring, row.id, secret)})

    def _change(self, known: StoredClient, secret: Secret | None, *, mistyped: bool) -> bool:
        """Swap, unless another process has just set something: then that is read, and becomes the secret before."""
        before = opened(self._keyring, known)
        if secret == before.client_secret:
            return True
        former = before.other_secret if mistyped else before.client_secret
        other = None if secret is None or former == secret else former
        return self._swap(known, Client(known.client_id, secret, other), CHANGED)

    def end_roll(self, provider: str, client_id: str) -> None:
        """See ``Clients.end_roll``."""
        while (known := self._known(provider, client_id)).other_envelope is not None:
            if self._swap(known, Client(client_id, opened(self._keyring, known).client_secret), ENDED):
                return

    def _swap(self, known: StoredClient, client: Client, event: str) -> bool:
        row = sealed(self._keyring, known._replace(version=known.version + 1), client)
        detail = {
            "version": row.version,
            "secret": print_of(self._keyring, row.id, client.client_secret),
            "other": print_of(self._keyring, row.id, client.other_secret),
        }
        return self._store.change_client(row, event, detail)

    def remove(self, provider: str, client_id: str, *, force: bool) -> int:
        """See ``Clients.remove``."""
        needed = self._store.remove_client(self._known(provider, client_id), force=force)
        if needed and not force:
            raise DestructionRefused(
                f"{needed} grants at {provider} can be refreshed or revoked as {client_id!r} only: wait until none is"
                " left, or force it, and they must connect again"
            )
        return needed

    def _known(self, provider: str, client_id: str) -> StoredClient:
        for row in self._store.clients():
            if (row.provider, row.client_id) == (provider, client_id):
                return row
        raise UnknownClient(provider, client_id)


def _number(*secrets: object) -> int:
    return sum(secret is not None for secret in secrets)


def _check(client_id: str, secret: Secret | None) -> None:
    problems = []
    if not _fits(client_id):
        problems.append(f"a client id is 1 to {LONGEST} printable characters")
    if secret is not None and not _fits(secret.reveal()):
        problems.append(f"a client secret is 1 to {LONGEST} printable characters, or left out for a public client")
    if problems:
        raise ConfigurationError(problems)


def _fits(text: str) -> bool:
    return 0 < len(text) <= LONGEST and text.isprintable() and text == text.strip()
