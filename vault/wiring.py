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

from vault import policy
from vault.encodings import parse_encryption_key
from vault.engine.sealing import Sealer
from vault.engine.sweep import Pace, paced
from vault.engine.tools import Tools
from vault.keyring import Keyring
from vault.kms import open_kms
from vault.kms.aws import ALGORITHM as FOREIGN_ALGORITHM
from vault.kms.directory import KekDirectory
from vault.kms.local import LocalKms
from vault.kms.single import SingleKeyKms
from vault.limits import LocalGate
from vault.oauth.codeflow import RequestsCodeExchange
from vault.oauth.endpoint import OAuthEndpoint
from vault.oauth.providers import FileProviders
from vault.oauth.transport import CurlTransport
from vault.ports import Kms, TenantKeks, WrappedKey
from vault.queue import CeleryDoorbell
from vault.services.access import Access
from vault.services.cleanup import Cleaning
from vault.services.connect import Connecting
from vault.services.destruction import KeyDestruction
from vault.services.health import OK, HealthChecking
from vault.services.key_audit import KeyAudit
from vault.services.refresh import Refreshing
from vault.services.revocation import Revoking
from vault.services.rewrap import Rewrapping
from vault.services.rotation import DataKeyRotation
from vault.services.strings import Strings
from vault.services.tenant_keys import TenantKeyRotation
from vault.settings import ENVIRONMENT_KEK, Settings
from vault.spool import FileSpool
from vault.store.connections import PostgresConnections
from vault.store.data_keys import PostgresDataKeys
from vault.store.engine import Database
from vault.store.key_ends import PostgresKeyEnds
from vault.store.keys import PostgresKeys
from vault.store.reads import PostgresTokens
from vault.store.refreshing import PostgresRefreshStore
from vault.store.schema import Schema
from vault.store.tenant_keys import PostgresTenantKeys
from vault.store.upkeep import PostgresUpkeep

CLOCK_TOLERANCE_S = 5.0
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""On Linux a clock that also runs while the machine sleeps, as leases do."""


def monotonic() -> float:
    """Seconds that never go back."""
    return time.clock_gettime(CLOCK)


class Wiring:
    """Everything one process works with. Making it opens nothing: each part connects at its first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._policy = settings, policy.from_settings(settings)
        self.database = Database(settings.database_url, prepared=settings.database_prepared)
        self.schema = Schema(self.database)
        self.doorbell = CeleryDoorbell(settings.redis_url)
        self._providers = FileProviders([Path(file) for file in settings.providers], settings.clients)
        self._connections = PostgresConnections(self.database)
        self._keys = PostgresKeys(self.database)
        self._tokens = PostgresTokens(self.database)
        self._upkeep = PostgresUpkeep(self.database)
        self._spool = FileSpool(settings.spool_path)
        self._store = PostgresRefreshStore(self.database, quarantine_wait=self._policy.quarantine_wait)
        self._exchange = RequestsCodeExchange(settings.insecure_hosts)
        self._one_at_a_time = Lock()
        self.cleaning = Cleaning(self._upkeep)

    @cached_property
    def keks(self) -> KekDirectory:
        """Every KMS that holds a KEK of ours."""
        settings = self._settings
        return KekDirectory(
            settings.master_key_uri, settings.former_kek_uris, self._keys, monotonic, open_kms=self._open_kms
        )

    def _open_kms(self, uri: str) -> Kms:
        key = self._settings.encryption_key
        if uri == ENVIRONMENT_KEK and key is not None:
            return SingleKeyKms(parse_encryption_key(key.reveal()))
        return open_kms(uri)

    @cached_property
    def keyring(self) -> Keyring:
        """Unwrapped keys, and the KMS behind them."""
        settings = self._settings
        return Keyring(
            self.keks, self._keys,
            monotonic=monotonic, random=secrets.token_bytes, new_id=uuid.uuid4,
            life=timedelta(seconds=settings.key_cache_life_s),
            capacity=settings.key_cache_size, uses=settings.key_cache_uses,
        )  # fmt: skip

    @cached_property
    def _tools(self) -> Tools:
        return Tools(
            store=self._store, transport=CurlTransport(self._settings.insecure_hosts, monotonic),
            endpoint=OAuthEndpoint(), spool=self._spool, gate=LocalGate(monotonic),
            sealer=Sealer(self.keyring, self._policy),
            providers=self._providers, policy=self._policy, monotonic=monotonic, jitter=random.random,
        )  # fmt: skip

    @cached_property
    def refreshing(self) -> Refreshing:
        """Refreshing what is due."""
        return Refreshing(self._tools, max_in_flight=self._settings.max_in_flight)

    @cached_property
    def revoking(self) -> Revoking:
        """Telling providers to forget."""
        return Revoking(self._tools, self._upkeep, self.keyring)

    @cached_property
    def rewrapping(self) -> Rewrapping:
        """Tenant keys under a new KEK."""
        return Rewrapping(self.keyring, PostgresTenantKeys(self.database), pace=self._pace())

    @cached_property
    def tenant_key_rotation(self) -> TenantKeyRotation:
        """Data keys under new tenant keys."""
        store = PostgresTenantKeys(self.database)
        return TenantKeyRotation(self.keyring, self._keys, store, monotonic=monotonic, pace=self._pace())

    @cached_property
    def data_key_rotation(self) -> DataKeyRotation:
        """Values under new data keys."""
        store = PostgresDataKeys(self.database)
        return DataKeyRotation(self.keyring, store, monotonic=monotonic, pace=self._pace())

    @cached_property
    def key_audit(self) -> KeyAudit:
        """Opening everything."""
        return KeyAudit(self.keyring, PostgresKeyEnds(self.database), pace=self._pace())

    @cached_property
    def key_destruction(self) -> KeyDestruction:
        """Ending keys."""
        ends = PostgresKeyEnds(self.database)
        return KeyDestruction(ends, ends)

    @property
    def tenant_keks(self) -> TenantKeks:
        """Which tenants brought which KEK."""
        return self._keys

    def keyring_file(self) -> LocalKms:
        """The keyring file in use. Raises ``ConfigurationError`` when the KEK is not in a file."""
        return self.keks.keyring_file()

    def _pace(self) -> Pace:
        return paced(self._settings.rotation_rate, monotonic, time.sleep)

    @cached_property
    def health(self) -> HealthChecking:
        """Looking at every part."""
        probes = {
            "database": self.schema.check, "redis": self.doorbell.check,
            "kms": lambda: self.keyring.check(self._settings.tenant),
            "spool": self._spool.check,
        }  # fmt: skip
        return HealthChecking(probes, self.refreshing.overdue, lambda: datetime.now(UTC))

    def preflight(self) -> dict[str, str]:
        """What should not be so, in words."""
        return {
            "redis": self.doorbell.policy() or OK, "clock": self._clock() or OK,
            "spool": self._disk() or OK,
        }  # fmt: skip

    def _disk(self) -> str | None:
        try:
            self._spool.check()
        except OSError as error:
            return f"nothing can be written under {self._settings.spool_path}: {error.strerror}"
        return None

    def _clock(self) -> str | None:
        ahead = time.time() - PostgresKeyEnds(self.database).now().timestamp()
        if abs(ahead) <= CLOCK_TOLERANCE_S:
            return None
        direction = "ahead of" if ahead > 0 else "behind"
        return f"this machine's clock is {abs(ahead):.0f} s {direction} the database's, by which grants are due"

    def access(self, tenant: str) -> Access:
        """Token reads of one tenant."""
        return Access(
            tenant, self._tokens, self.keyring, self._connections, self.doorbell, monotonic=monotonic, sleep=time.sleep,
            deadline=timedelta(seconds=self._settings.get_deadline_s),
            refresh_here=self._refresh_here if self._settings.inline_refresh else None,
        )  # fmt: skip

    def _refresh_here(self, connection_id: uuid.UUID) -> None:
        with self._one_at_a_time:
            self.refreshing.one(connection_id)

    def connecting(self, tenant: str) -> Connecting:
        """Connect flows of one tenant."""
        return Connecting(
            tenant, self._connections, self._providers, self._exchange, self.keyring,
            Sealer(self.keyring, self._policy), self.doorbell, self._policy,
            redirect_uri=self._settings.redirect_uri, new_id=uuid.uuid4, new_token=lambda: secrets.token_urlsafe(32),
            monotonic=monotonic,
        )  # fmt: skip

    def strings(self, tenant: str) -> Strings:
        """Text that carries its own wrapped key, of one tenant."""
        settings, key = self._settings, self._settings.encryption_key
        return Strings(
            tenant, self.keks, monotonic=monotonic, random=secrets.token_bytes,
            life=timedelta(seconds=settings.key_cache_life_s), uses=settings.key_cache_uses,
            legacy_key=parse_encryption_key(key.reveal()) if key else None,
            foreign=self._foreign_key if settings.foreign_kek_uri else None, plaintext=settings.allow_plaintext,
        )  # fmt: skip

    def _foreign_key(self, blob: bytes) -> bytes:
        kms = self.keks.at(self._settings.foreign_kek_uri)
        context = dict(pair.split("=", 1) for pair in self._settings.foreign_context)
        return kms.unwrap(WrappedKey(kms.describe(), FOREIGN_ALGORITHM, blob), context)

    def close(self) -> None:
        """Let go of connections and files."""
        self._store.close()
        self._spool.release()
        self.database.dispose()
