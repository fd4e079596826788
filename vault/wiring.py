"""Which adapter stands behind which port: the only file that knows, and where mypy proves that they fit."""

from __future__ import annotations

import random
import secrets
import time
import uuid
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from threading import Lock

from vault.engine.drain import Tools
from vault.engine.sealing import Sealer
from vault.keyring import Keyring
from vault.kms import open_kms
from vault.limits import LocalGate
from vault.oauth.codeflow import RequestsCodeExchange
from vault.oauth.endpoint import OAuthEndpoint
from vault.oauth.providers import FileProviders
from vault.oauth.transport import CurlTransport
from vault.policy import RefreshPolicy
from vault.queue import CeleryDoorbell
from vault.services.access import Access
from vault.services.cleanup import Cleaning
from vault.services.connect import Connecting
from vault.services.health import HealthChecking
from vault.services.refresh import Refreshing
from vault.services.revocation import Revoking
from vault.services.rotation import KeyRotation
from vault.settings import Settings
from vault.spool import FileSpool
from vault.store import schema
from vault.store.connections import PostgresConnections
from vault.store.engine import Database
from vault.store.keys import PostgresKeys
from vault.store.reads import TokenLane
from vault.store.refreshing import PostgresRefreshStore
from vault.store.upkeep import PostgresUpkeep

LATENESS_TOLERATED = timedelta(seconds=60)


def monotonic() -> float:
    """Seconds that never go back; on Linux they also pass while the machine sleeps, as leases do."""
    return time.clock_gettime(_CLOCK)


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Wiring:
    """Everything one process works with, each part made when it is first asked for. Nothing connects before its first use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database_url, prepared=settings.database_prepared)
        self.doorbell = CeleryDoorbell(settings.redis_url)
        self.providers = FileProviders([Path(file) for file in settings.providers], settings.clients)
        self.policy = RefreshPolicy(
            threshold=settings.refresh_threshold,
            margin=timedelta(seconds=settings.refresh_margin_s),
            deadline=timedelta(seconds=settings.request_deadline_s),
            scan=settings.scan_interval,
            base=timedelta(seconds=settings.refresh_retry_delay_s),
            cap=timedelta(seconds=settings.refresh_retry_cap_s),
            fast_tries=settings.refresh_fast_tries,
            quarantine_wait=timedelta(seconds=settings.quarantine_wait_s),
        )
        self.refresh_lock = Lock()

    @cached_property
    def keyring(self) -> Keyring:
        """Unwrapped keys, and the KMS behind them."""
        return Keyring(
            open_kms(self.settings.master_key_uri),
            PostgresKeys(self.database),
            monotonic=monotonic,
            random=secrets.token_bytes,
            new_id=uuid.uuid4,
            life=timedelta(seconds=self.settings.key_cache_life_s),
            capacity=self.settings.key_cache_size,
        )

    @cached_property
    def sealer(self) -> Sealer:
        """Opens and seals grants."""
        return Sealer(self.keyring, self.policy)

    @cached_property
    def connections(self) -> PostgresConnections:
        """Connections and flows."""
        return PostgresConnections(self.database)

    @cached_property
    def token_lane(self) -> TokenLane:
        """The hot read."""
        return TokenLane(self.database)

    @cached_property
    def spool(self) -> FileSpool:
        """Answers on their way."""
        return FileSpool(self.settings.spool_path)

    @cached_property
    def refresh_store(self) -> PostgresRefreshStore:
        """Claims and settlements."""
        return PostgresRefreshStore(self.database, quarantine_wait=self.policy.quarantine_wait)

    @cached_property
    def tools(self) -> Tools:
        """What the engine works with."""
        return Tools(
            store=self.refresh_store,
            transport=CurlTransport(self.settings.insecure_hosts),
            endpoint=OAuthEndpoint(),
            spool=self.spool,
            gate=LocalGate(monotonic),
            sealer=self.sealer,
            providers=self.providers,
            policy=self.policy,
            monotonic=monotonic,
            jitter=random.random,
        )

    @cached_property
    def refreshing(self) -> Refreshing:
        """The engine's use case."""
        return Refreshing(self.tools, max_in_flight=self.settings.max_in_flight)

    @cached_property
    def revoking(self) -> Revoking:
        """Telling providers."""
        return Revoking(self.tools, PostgresUpkeep(self.database), self.keyring)

    @cached_property
    def rotation(self) -> KeyRotation:
        """Rewrapping and rotating keys."""
        return KeyRotation(self.keyring, PostgresKeys(self.database), monotonic=monotonic)

    @cached_property
    def cleaning(self) -> Cleaning:
        """Removing what has had its day."""
        return Cleaning(PostgresUpkeep(self.database))

    @cached_property
    def health(self) -> HealthChecking:
        """Looking at every part."""
        probes = {
            "database": lambda: schema.check(self.database),
            "redis": self.doorbell.check,
            "kms": self.keyring.check,
            "spool": self.spool.check,
        }
        return HealthChecking(probes, self.refreshing.overdue, lambda: datetime.now(UTC), tolerated=LATENESS_TOLERATED)

    def access(self, tenant: str) -> Access:
        """Token reads of one tenant."""
        return Access(
            tenant,
            self.token_lane,
            self.keyring,
            self.connections,
            self.doorbell,
            deadline=timedelta(seconds=self.settings.get_deadline_s),
            monotonic=monotonic,
            sleep=time.sleep,
            refresh_here=self._refresh_here if self.settings.inline_refresh else None,
        )

    def _refresh_here(self, connection_id: uuid.UUID) -> None:
        with self.refresh_lock:
            self.refreshing.one(connection_id)

    def connecting(self, tenant: str) -> Connecting:
        """Connect flows of one tenant."""
        return Connecting(
            tenant,
            self.connections,
            self.providers,
            RequestsCodeExchange(self.settings.insecure_hosts),
            self.keyring,
            self.sealer,
            self.doorbell,
            self.policy,
            redirect_uri=self.settings.redirect_uri,
            new_id=uuid.uuid4,
            new_token=lambda: secrets.token_urlsafe(32),
        )

    def close(self) -> None:
        """Let go of connections and files."""
        self.token_lane.close()
        self.refresh_store.close()
        self.spool.release()
        self.database.dispose()
