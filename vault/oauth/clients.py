"""Who we are at each provider: what the files and the environment say, merged with what the store holds.

A registration goes on serving the grants it got, whatever newer ones there are. While its secret is rolled it has two;
each process uses one of them until the provider refuses it, and says so once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from threading import Lock
from typing import Any, Final
from uuid import UUID

import structlog

from vault.engine.identities import Identities
from vault.engine.registrations import opened, refusal
from vault.errors import RotationFailed, UnknownCredential, VaultError
from vault.forks import in_children
from vault.keyring import Keyring
from vault.metrics import client_secrets_refused
from vault.oauth.discovery import Discovery
from vault.oauth.providers import FileProviders
from vault.ports import KnownClients, StoredClient
from vault.provider import Client, Provider, TlsIdentity
from vault.secret import Secret

log = structlog.get_logger(__name__)

LOOK_EVERY: Final = timedelta(seconds=30)
"""How often a process looks whether registrations have changed."""
REFUSAL_LIFE: Final = timedelta(minutes=30)
"""A secret that was refused is not shown again sooner while there is another to try."""


_Stored = tuple[StoredClient, Client | None]
"""A registration of the store, and the client it makes; None while its secrets have never been opened here."""


class _Roll:
    """How the secrets of one registration fare in this process."""

    def __init__(self, configured: Client) -> None:
        self.configured = self.in_use = configured
        self.refused: list[tuple[Secret, float]] = []
        """What the provider would not have, and until when that counts."""


class ClientRegistry:
    """``Providers``. Knows what the environment says at once, and the store's registrations after a look. Thread-safe.

    When database or KMS are away, what is known stays in use; a look is taken again later.
    """

    def __init__(
        self,
        files: FileProviders,
        store: KnownClients,
        keyring: Keyring,
        identities: Identities,
        discovery: Discovery,
        monotonic: Callable[[], float],
    ) -> None:
        self._files, self._store, self._keyring, self._monotonic = files, store, keyring, monotonic
        self._discovery = discovery
        self._reader = identities
        self._identities: dict[UUID, TlsIdentity] = {}
        self._stored: dict[UUID, _Stored] = {}
        self._rolls: dict[tuple[str, str], _Roll] = {}
        self._told: dict[str, str] = {}
        self._untold: list[tuple[str, Client, str]] = []
        """Refused secrets that operators have not been told of."""
        self._begin_anew()
        in_children(self._begin_anew)
        self._merge()

    def _begin_anew(self) -> None:
        self._looking, self._changing = Lock(), Lock()
        self._looked = False
        self._look_at = self._monotonic()

    def get(self, name: str) -> Provider:
        """See ``Providers.get``."""
        found = self._providers.get(name)
        return found if found is not None else self._files.get(name)

    def all(self) -> Sequence[Provider]:
        """See ``Providers.all``."""
        return self._ready

    # -------------------------------------------------------------------------------------------------------- looking

    def look(self, *, at_once: bool = False) -> None:
        """See ``Providers.look``. One thread looks; the others go on with what is known, unless nothing is yet."""
        if self._untold:
            self._tell_operators()
        if not at_once and self._monotonic() < self._look_at:
            return
        if not self._looking.acquire(blocking=at_once or not self._looked):
            return
        try:
            if at_once or self._monotonic() >= self._look_at:
                self._look()
        finally:
            self._looked, self._look_at = True, self._monotonic() + LOOK_EVERY.total_seconds()
            self._looking.release()

    def _look(self) -> None:
        try:
            rows = self._store.clients()
        except Exception as error:  # noqa: BLE001  # whatever it is: what is known goes on serving
            self._tell("registrations", type(error).__name__)
            return
        self._tell("registrations", "")
        found = {row.id: self._current(row) for row in rows}
        discovered = self._discovered({row.provider for row in rows})
        identities = {each: self._identity(each) for each in self._files.certificates}
        held = {each: identity for each, identity in identities.items() if identity is not None}
        if discovered or found != self._stored or held != self._identities:
            self._stored, self._identities = found, held
            self._merge()

    def _discovered(self, registered: set[str]) -> bool:
        """Ask issuers of providers that we have a registration at; whether any of them said something new."""
        news = False
        for provider in self._files.every():
            if provider.issuer is None or not provider.discover:
                continue
            if provider.client is None and provider.name not in registered:
                continue
            before = self._discovery.known(provider.issuer)
            self._tell(f"issuer {provider.issuer}", self._discovery.look(provider.issuer))
            news = news or self._discovery.known(provider.issuer) != before
        return news

    def _identity(self, certificate_id: UUID) -> TlsIdentity | None:
        """Return a certificate as it is now; while it cannot be read, as it was before. None: it was taken away."""
        known = self._identities.get(certificate_id)
        try:
            found = self._reader.read(certificate_id, known)
        except (UnknownCredential, RotationFailed) as error:  # whoever deletes one that has leaked means it
            self._tell(f"certificate {certificate_id}", type(error).__name__)
            return None
        except VaultError as error:
            self._tell(f"certificate {certificate_id}", type(error).__name__)
            return known
        self._tell(f"certificate {certificate_id}", "")
        return found

    def _current(self, row: StoredClient) -> _Stored:
        """Return a registration as it stands now; when it cannot be opened, as it stood before."""
        known = self._stored.get(row.id)
        if known is not None and known[1] is not None and known[0].version == row.version:
            return known
        subject = f"{row.provider} {row.client_id}"
        try:
            client = opened(self._keyring, row)
        except VaultError as error:
            self._tell(subject, type(error).__name__)
            return known or (row, None)
        self._tell(subject, "")
        return row, client

    def _tell_operators(self) -> None:
        """Make events of refusals; while database or KMS are away they wait."""
        untold, self._untold = self._untold, []
        try:
            self._store.tell([refusal(self._keyring, *each) for each in untold])
        except VaultError as error:
            log.warning("clients.untold", error=type(error).__name__)
            self._untold += untold

    def _tell(self, subject: str, trouble: str) -> None:
        """Say once that something cannot be had, and once that it can be had again."""
        before = self._told.get(subject, "")
        self._told[subject] = trouble
        if trouble and trouble != before:
            log.error("clients.unavailable", what=subject, error=trouble)
        elif before and not trouble:
            log.info("clients.available", what=subject)

    # -------------------------------------------------------------------------------------------------------- merging

    def _merge(self) -> None:
        with self._changing:
            self._put_together()

    def _put_together(self) -> None:
        known = {provider.name: self._merged(provider) for provider in self._files.every()}
        for name in sorted({row.provider for row, _ in self._stored.values()} - known.keys()):
            if self._told.get(f"provider {name}") is None:
                self._told[f"provider {name}"] = ""
                log.warning("clients.unknown_provider", provider=name)
        self._providers = known
        self._ready = tuple(provider for _, provider in sorted(known.items()) if provider.client is not None)

    def _merged(self, provider: Provider) -> Provider:
        """Return a provider with all its registrations; one in the environment is the current one, else the newest."""
        stored = [(row, client) for row, client in self._stored.values() if row.provider == provider.name]
        stored.sort(key=lambda each: -each[0].generation)
        found: dict[str, Client] = {} if provider.client is None else {provider.client.client_id: provider.client}
        for _, client in stored:
            if client is not None:
                before = found.get(client.client_id)
                found[client.client_id] = client if before is None else _both(before, client)
        provider = self._addressed(provider)
        unready = provider.discover and not provider.token_uri
        if unready or provider.certificate is not None:
            identity = self._identities.get(provider.certificate) if provider.certificate else None
            if unready or identity is None:
                every = frozenset(row.client_id for row, _ in stored) | found.keys()
                return replace(provider, client=None, locked=every)
            provider = replace(provider, identity=identity)
        as_each = [replace(provider, client=self._in_use(provider.name, client)) for client in found.values()]
        locked = frozenset(row.client_id for row, _ in stored) - found.keys()
        if not as_each:
            return replace(provider, locked=locked)
        return replace(as_each[0], former=tuple(replace(each, locked=locked) for each in as_each[1:]), locked=locked)

    def _addressed(self, provider: Provider) -> Provider:
        """Fill in what the issuer says of addresses that no file names."""
        if not provider.discover:
            return provider
        known = self._discovery.known(provider.issuer or "")
        told: dict[str, Any] = {name: uri for name, uri in known.items() if not getattr(provider, name)}
        return replace(provider, **told)

    def _in_use(self, name: str, configured: Client) -> Client:
        roll = self._rolls.get((name, configured.client_id))
        if roll is None or roll.configured != configured:
            roll = self._rolls[name, configured.client_id] = _Roll(configured)
        return roll.in_use

    # -------------------------------------------------------------------------------------------------------- refusals

    def refused(self, provider: Provider) -> bool:
        """See ``Providers.refused``. Many POSTs that fail together with one secret change it once."""
        client = provider.client
        roll = None if client is None else self._rolls.get((provider.name, client.client_id))
        if client is None or client.client_secret is None or roll is None:
            return False
        with self._changing:
            now = self._monotonic()
            roll.refused = [(secret, until) for secret, until in roll.refused if until > now]
            if client.client_secret != roll.in_use.client_secret:  # what is used by now is another already
                return not _is_among(roll.in_use.client_secret, roll.refused)
            again = _is_among(client.client_secret, roll.refused)
            if not again:
                roll.refused.append((client.client_secret, now + REFUSAL_LIFE.total_seconds()))
            other = roll.in_use.other_secret
            if other is None or _is_among(other, roll.refused):
                if not again:
                    self._alert(provider.name, client, "nothing")
                return False
            roll.in_use = replace(roll.in_use, client_secret=other, other_secret=client.client_secret)
            self._put_together()
        self._alert(provider.name, client, "other")
        return True

    def _alert(self, provider: str, client: Client, instead: str) -> None:
        client_secrets_refused.labels(instead).inc()
        log.error("client.secret_refused", provider=provider, client_id=client.client_id, instead=instead)
        self._untold.append((provider, client, instead))


def _both(first: Client, second: Client) -> Client:
    """One registration from two places: the first place's secret first, then whichever else there is."""
    found: list[Secret] = []
    for secret in (first.client_secret, second.client_secret, first.other_secret, second.other_secret):
        if secret is not None and secret not in found:
            found.append(secret)
    return Client(first.client_id, *found[:2]) if found else first


def _is_among(secret: Secret | None, refused: Sequence[tuple[Secret, float]]) -> bool:
    return any(secret == each for each, _ in refused)
