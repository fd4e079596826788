"""Credentials that are no grant's, their rotations and their dates; and endpoints, whose secrets are credentials."""

from __future__ import annotations

import random
import secrets
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from vault.credentials.rotators import REGISTRAR, Rotator, Rotators
from vault.credentials.rules import read_rules
from vault.egress.once import Http
from vault.engine.identities import Identities
from vault.engine.values import Values
from vault.keyring import Keyring
from vault.ports import Providers
from vault.registrars.data import read_recipes
from vault.registrars.registrar import Registrar
from vault.services.access import Access
from vault.services.catalog import Catalog
from vault.services.credentials import Keeping
from vault.services.endpoints import Endpoints
from vault.services.expiry import Expiring
from vault.services.rotating import Rotating
from vault.settings import Settings
from vault.store.credential_dates import PostgresDates
from vault.store.credentials import PostgresCredentials
from vault.store.endpoints import PostgresEndpoints
from vault.store.engine import Database
from vault.store.grant_ends import PostgresGrantEnds
from vault.store.grant_views import PostgresGrantViews
from vault.store.policies import PostgresPolicies
from vault.store.rotations import PostgresRotations
from vault.wiring.authority import TenantAuthority
from vault.wiring.clock import monotonic
from vault.wiring.egress import egress


class CredentialWiring:
    """What stands on the credentials at rest. ``access`` gives the tokens that calls to providers are made with."""

    def __init__(
        self, settings: Settings, database: Database, keyring: Keyring, access: Callable[[str], Access]
    ) -> None:
        self._settings, self._database, self._keyring, self._access = settings, database, keyring, access
        self._rules = read_rules([Path(file) for file in settings.policies])
        self._store, self._values = self._of(database)
        self._recipes = read_recipes([Path(file) for file in settings.registrars], settings.insecure_hosts)
        self.now = self._store.now
        self.identities = Identities(settings.tenant, self._of(database.of(settings.tenant))[1])

    def _of(self, database: Database) -> tuple[PostgresCredentials, Values]:
        """Credentials in a database, perhaps that of one tenant."""
        store = PostgresCredentials(database)
        return store, Values(store, self._keyring, self._rules)

    def keeping(self, tenant: str) -> Keeping:
        """Credentials of one tenant that are no grant's."""
        store, values = self._of(self._database.of(tenant))
        return Keeping(tenant, store, values, new_id=uuid.uuid4)

    def catalog(self, tenant: str, providers: Providers) -> Catalog:
        """Credentials of one tenant, of all kinds."""
        database = self._database.of(tenant)
        store, values = self._of(database)
        return Catalog(tenant, store, PostgresGrantViews(database), values, self._keyring, providers)

    @cached_property
    def endpoints(self) -> Endpoints:
        """Looking after where events are sent."""
        return Endpoints(
            PostgresEndpoints(self._database), self._values, self._settings.insecure_hosts,
            random=secrets.token_bytes, new_id=uuid.uuid4, now=self.now,
        )  # fmt: skip

    @cached_property
    def expiring(self) -> Expiring:
        """Telling of what ends."""
        return Expiring(
            PostgresDates(self._database), PostgresGrantEnds(self._database), PostgresPolicies(self._database),
            self._values, monotonic=monotonic,
        )  # fmt: skip

    @cached_property
    def rotating(self) -> Rotating:
        """Rotating credentials, of all tenants."""
        return self._rotating(self._database)

    def rotating_of(self, tenant: str) -> Rotating:
        """Rotating credentials of one tenant."""
        return self._rotating(self._database.of(tenant))

    def _rotating(self, database: Database) -> Rotating:
        store, values = self._of(database)
        return Rotating(
            store, PostgresRotations(database), values, self._rotators,
            new_id=uuid.uuid4, share=random.random, monotonic=monotonic,
        )  # fmt: skip

    @cached_property
    def _rotators(self) -> Rotators:
        return Rotators(self._registrars())

    def _registrars(self) -> dict[str, Rotator]:
        settings = self._settings
        sender = Http(egress(settings), timedelta(seconds=settings.request_deadline_s))
        authority = TenantAuthority(self._access, self.keeping)
        return {
            f"{REGISTRAR}{name}": Registrar(recipe, sender, authority, secrets.token_bytes)
            for name, recipe in self._recipes.items()
        }
