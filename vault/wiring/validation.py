"""Sessions of the user's own service, and what is asked about tokens that are presented to it."""

from __future__ import annotations

import random
import secrets
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from threading import Thread
from uuid import UUID

from vault.egress.once import Http
from vault.hashing import BcryptHash
from vault.keyring import Keyring
from vault.limits.gate import ProviderGate
from vault.model import Connection, Token
from vault.oauth.introspection import MAX_BODY, HttpIntrospector
from vault.ports import Providers
from vault.services.introspecting import Introspecting
from vault.services.sessions import Remembered, Sessions
from vault.services.validation import Validating, ValidationCounts
from vault.settings import Settings
from vault.store.engine import Database
from vault.store.sessions import PostgresSessions
from vault.validation.rules import read_method_rules
from vault.wiring.clock import monotonic, utc
from vault.wiring.egress import egress


def _apart(act: Callable[[], None]) -> None:
    Thread(target=act, name="evergrant-validations", daemon=True).start()


class ValidationWiring:
    """What every tenant's validations share; opens nothing by itself. Rules are read when it is made."""

    def __init__(self, settings: Settings, database: Database, keyring: Keyring, providers: Providers) -> None:
        self._settings, self._keyring, self._providers = settings, keyring, providers
        self._database, self.store = database, PostgresSessions(database)
        self.counts = ValidationCounts(self.store, monotonic, _apart)
        self._rules = read_method_rules([Path(file) for file in settings.scope_rules])
        self._remembered = Remembered(
            timedelta(seconds=settings.session_cache_s), settings.validation_cache_size,
            monotonic=monotonic, random=secrets.token_bytes,
        )  # fmt: skip

    @cached_property
    def _hashing(self) -> BcryptHash:
        return BcryptHash(self._settings.session_rounds)

    @cached_property
    def introspecting(self) -> Introspecting:
        """Asking issuers; its gate is its own, as a token endpoint that is away says nothing about this one."""
        settings = self._settings
        http = Http(egress(settings), timedelta(seconds=settings.introspection_deadline_s), MAX_BODY)
        return Introspecting(
            self._providers, HttpIntrospector(http, utc), ProviderGate(monotonic),
            share=settings.introspection_share, capacity=settings.validation_cache_size, monotonic=monotonic,
            clock=utc, random=secrets.token_bytes, phase=random.random,
        )  # fmt: skip

    def sessions(self, tenant: str) -> Sessions:
        """Sessions of one tenant."""
        return Sessions(
            tenant, PostgresSessions(self._database.of(tenant)), self._keyring, self._hashing, self._remembered,
            life=timedelta(seconds=self._settings.session_life_s), per_device=self._settings.session_per_device,
            new_id=uuid.uuid4, random=secrets.token_bytes,
        )  # fmt: skip

    def validating(
        self, tenant: str, connection: Callable[[UUID], Connection], get: Callable[[UUID, timedelta], Token]
    ) -> Validating:
        """Validation of tokens, for one tenant."""
        return Validating(
            tenant, self._rules, self.counts, verify=self.sessions(tenant).verify,
            introspect=self.introspecting.ask, connection=connection, get=get, clock=utc,
        )  # fmt: skip
