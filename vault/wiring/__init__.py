"""Which adapter stands behind which port: the only file that knows, and where mypy proves that they fit."""

from __future__ import annotations

import random
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from threading import Lock

from vault import policy
from vault.engine.consents import Consents
from vault.engine.giving_back import GivingBack
from vault.engine.moving import Prover, Reader
from vault.engine.sealing import Sealer
from vault.engine.tools import Tools
from vault.hooks import installed
from vault.limits.board import RedisBoard
from vault.limits.bucket import SharedBucket
from vault.limits.gate import ProviderGate
from vault.migration.plan import Migration
from vault.model import SYSTEM
from vault.oauth.clients import ClientRegistry
from vault.oauth.codeflow import RequestsCodeExchange
from vault.oauth.endpoint import OAuthEndpoint
from vault.oauth.providers import FileProviders
from vault.oauth.transport import CurlTransport
from vault.ports import AuditStore
from vault.provider import Provider
from vault.queue import CeleryDoorbell
from vault.services.access import Access
from vault.services.audit_chain import AuditChaining
from vault.services.audit_export import AuditExporting
from vault.services.catalog import Catalog
from vault.services.cleanup import Cleaning
from vault.services.clients import Registering
from vault.services.connect import Connecting
from vault.services.delivering import Delivering
from vault.services.handing_over import HandingOver
from vault.services.health import TOLERATED, HealthChecking
from vault.services.migration import Migrating
from vault.services.preflight import Preflight
from vault.services.refresh import Refreshing
from vault.services.revocation import Revoking
from vault.services.standing import Counting, Inspecting
from vault.services.strings import Strings
from vault.services.tending import Tending
from vault.services.validation import Validating
from vault.settings import Settings
from vault.sources import open_source
from vault.spool import FileSpool
from vault.store.audit_chain import PostgresAudit
from vault.store.clients import PostgresClients
from vault.store.conditions import PostgresConditions
from vault.store.connections import PostgresConnections
from vault.store.engine import Database
from vault.store.migration import PostgresMigration, RecentKeys
from vault.store.outbox import PostgresOutbox
from vault.store.reads import PostgresTokens
from vault.store.refreshing import PostgresRefreshStore
from vault.store.rights import Rights
from vault.store.schema import Schema
from vault.store.signs import PostgresSigns
from vault.store.tallies import PostgresStatistics
from vault.store.upkeep import PostgresUpkeep
from vault.wiring.clock import monotonic, utc
from vault.wiring.credentials import CredentialWiring
from vault.wiring.egress import discovery, egress
from vault.wiring.keys import KeyWiring
from vault.wiring.serving import ServingWiring
from vault.wiring.validation import ValidationWiring


class Wiring:
    """Everything one process works with. Making it opens nothing: each part connects at its first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._policy = settings, policy.from_settings(settings)
        self.database = Database(settings.database_url, prepared=settings.database_prepared)
        self.schema, self.rights = Schema(self.database), Rights(self.database)
        self.doorbell = CeleryDoorbell(settings.redis_url)
        files = FileProviders([Path(file) for file in settings.providers], settings.clients, settings.certificates)
        self.keys, self._clients = KeyWiring(settings, self.database), PostgresClients(self.database.of(SYSTEM))
        self.credentials = CredentialWiring(settings, self.database, self.keys.keyring, self.access)
        identities = self.credentials.identities
        self._providers = ClientRegistry(
            files, self._clients, self.keys.keyring, identities, discovery(settings), monotonic
        )  # fmt: skip
        self._upkeep = PostgresUpkeep(self.database)
        self._spool = FileSpool(settings.spool_path)
        self._store = PostgresRefreshStore(self.database, quarantine_wait=self._policy.quarantine_wait)
        self._exchange = RequestsCodeExchange(egress(settings), utc)
        self._one_at_a_time = Lock()
        self._audit = PostgresAudit(self.database)
        self._statistics = PostgresStatistics(self.database, patience=TOLERATED)
        self._conditions = PostgresConditions(self.database)
        self.audit_chaining = AuditChaining(self._audit, monotonic=monotonic)
        self.audit_exporting = AuditExporting(self._audit)
        self.outbox = PostgresOutbox(self.database, timedelta(days=settings.events_retention_days))
        audit_life = timedelta(days=settings.audit_retention_days)
        self.validation = ValidationWiring(settings, self.database, self.keys.keyring, self._providers)
        self.serving = ServingWiring(settings, self.database)
        stores = (self._upkeep, self.outbox, self.validation.store, self.serving.flows)
        self.cleaning = Cleaning(*stores, audit=self._audit, audit_life=audit_life)

    @cached_property
    def _tools(self) -> Tools:
        board = RedisBoard(self._settings.redis_url, monotonic)
        gate = ProviderGate(monotonic, SharedBucket(board, monotonic), board)
        return Tools(
            store=self._store, transport=self._transport(),
            endpoint=OAuthEndpoint(utc), spool=self._spool, gate=gate,
            sealer=Sealer(self.keys.keyring, self._policy),
            providers=self._providers, policy=self._policy, monotonic=monotonic, jitter=random.random,
        )  # fmt: skip

    def _transport(self) -> CurlTransport:
        return CurlTransport(egress(self._settings), monotonic)

    @property
    def audit(self) -> AuditStore:
        """The audit's chains."""
        return self._audit

    @cached_property
    def refreshing(self) -> Refreshing:
        """Refreshing what is due."""
        return Refreshing(self._tools, max_in_flight=self._settings.max_in_flight)

    @cached_property
    def revoking(self) -> Revoking:
        """Telling providers to forget."""
        return Revoking(self._tools, self._upkeep, self.keys.keyring)

    @cached_property
    def delivering(self) -> Delivering:
        """Sending events; over a transport of its own, as what is in flight there is another's business."""
        settings = self._settings
        return Delivering(
            self.outbox, self._transport(), self.keys.keyring, installed,
            deadline=timedelta(seconds=settings.request_deadline_s), monotonic=monotonic, jitter=random.random,
        )  # fmt: skip

    @cached_property
    def registering(self) -> Registering:
        """Looking after our registrations."""
        return Registering(
            self._clients, self._providers, self.keys.keyring, self._settings.clients, new_id=uuid.uuid4
        )  # fmt: skip

    @cached_property
    def migrations(self) -> PostgresMigration:
        """What was moved out of other systems."""
        return PostgresMigration(self.database)

    @contextmanager
    def migrating(self, migration: Migration, *, tenant: str | None, provider: str | None) -> Iterator[Migrating]:
        """Moving the rows of one source, or those of one tenant or provider."""
        default = self._settings.tenant
        self._providers.look()
        source = open_source(migration, default, tenant=tenant, provider=provider)
        reader = Reader(self._providers, self._opener(), migration.columns.constants, default)
        keyring = self.keys.new_keyring(RecentKeys(self.database, monotonic))
        try:
            yield Migrating(
                source, reader, self.migrations, self.migrations, keyring, Sealer(keyring, self._policy),
                Prover(self.keys.new_keyring()), self._policy, new_id=uuid.uuid4, monotonic=monotonic,
            )  # fmt: skip
        finally:
            source.close()

    def _opener(self) -> Callable[[str, str], str]:
        """Open a value of another system, of whatever format; plain text is what most of them hold."""
        strings: dict[str, Strings] = {}

        def open_value(text: str, tenant: str) -> str:
            if tenant not in strings:
                strings[tenant] = self.keys.strings(tenant, plaintext=True)
            return strings[tenant].decrypt(text)

        return open_value

    @cached_property
    def health(self) -> HealthChecking:
        """Looking at every part."""
        probes = {
            "database": self.schema.check, "redis": self.doorbell.check,
            "kms": lambda: self.keys.keyring.check(self._settings.tenant),
            "spool": self._spool.check, "events": self.delivering.overdue,
        }  # fmt: skip
        return HealthChecking(
            probes, overdue=self.refreshing.overdue, audit_lag=self._audit.lag,
            audit_interval=timedelta(seconds=self._settings.audit_interval_s), signs=self.signs,
            sees_all=self.signs.sees_all, clock=utc,
        )  # fmt: skip

    @cached_property
    def signs(self) -> PostgresSigns:
        """Signs of life of workers."""
        return PostgresSigns(self.database)

    @cached_property
    def counting(self) -> Counting:
        """Everything in numbers."""
        return Counting(self._statistics, self._conditions, self.keys.keyring.use)

    @cached_property
    def inspecting(self) -> Inspecting:
        """Looking at connections."""
        return Inspecting(self._conditions, patience=TOLERATED, monotonic=monotonic)

    @cached_property
    def preflight(self) -> Preflight:
        """A look before work begins."""
        return Preflight(
            queue_policy=self.doorbell.policy, spool=self._spool.check, database_clock=self.keys.ends.now,
            clock=utc,
        )  # fmt: skip

    def access(self, tenant: str) -> Access:
        """Token reads of one tenant."""
        return Access(
            tenant, PostgresTokens(self.database.of(tenant)), self.keys.keyring, self._connections(tenant),
            self.doorbell, monotonic=monotonic, sleep=time.sleep,
            deadline=timedelta(seconds=self._settings.get_deadline_s),
            refresh_here=self._refresh_here if self._settings.inline_refresh else None,
        )  # fmt: skip

    def _connections(self, tenant: str) -> PostgresConnections:
        return PostgresConnections(self.database.of(tenant))

    @cached_property
    def _may_refresh(self) -> bool:
        self.rights.check_refreshing()
        return True

    def _refresh_here(self, connection_id: uuid.UUID) -> None:
        if self._may_refresh:
            with self._one_at_a_time:
                self.refreshing.one(connection_id)

    def connecting(self, tenant: str) -> Connecting:
        """Connect flows of one tenant."""
        settings, store, sealer = self._settings, self._connections(tenant), Sealer(self.keys.keyring, self._policy)
        give_back = GivingBack(store, self._exchange, sealer, self.doorbell)
        return Connecting(
            tenant, store, self._providers, self._exchange, self.keys.keyring,
            Consents(tenant, store, sealer, give_back, self._policy, monotonic),
            redirect_uri=settings.redirect_uri, redirect_uris=settings.redirect_uris, return_to=settings.return_to,
            new_id=uuid.uuid4, new_token=lambda: secrets.token_urlsafe(32), monotonic=monotonic,
        )  # fmt: skip

    def tending(self, tenant: str) -> Tending:
        """Looking after one tenant's connections."""
        sealer = Sealer(self.keys.keyring, self._policy)
        return Tending(
            tenant, self._connections(tenant), self._providers, self._exchange, sealer, self.doorbell
        )  # fmt: skip

    def validating(self, tenant: str) -> Validating:
        """Validation of tokens, for one tenant."""
        return self.validation.validating(tenant, self.tending(tenant).connection, self.access(tenant).get)

    def provider(self, name: str) -> Provider:
        """A provider as it is known now. Raises ``UnknownProvider``."""
        self._providers.look()
        return self._providers.get(name)

    def catalog(self, tenant: str) -> Catalog:
        """Credentials of one tenant, of all kinds."""
        return self.credentials.catalog(tenant, self._providers)

    def handing_over(self, tenant: str) -> HandingOver:
        """Grants that apps of one tenant got elsewhere."""
        return HandingOver(
            tenant, self._connections(tenant), self._providers, Sealer(self.keys.keyring, self._policy), self._policy,
            new_id=uuid.uuid4, now=self.credentials.now,
        )  # fmt: skip

    def close(self) -> None:
        """Let go of connections and files."""
        self.validation.counts.hand_in()
        self.serving.close()
        self._store.close()
        self._audit.close()
        self._statistics.close()
        self._conditions.close()
        self.outbox.close()
        self._spool.release()
        self.database.dispose()
