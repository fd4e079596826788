"""Keys: every KMS, the keyring, and what is done to keys."""

from __future__ import annotations

import secrets
import time
import uuid
from datetime import timedelta
from functools import cached_property

from vault.encodings import parse_encryption_key
from vault.engine.sweep import Pace, paced
from vault.keyring import Keyring
from vault.kms import open_kms
from vault.kms.aws import ALGORITHM as FOREIGN_ALGORITHM
from vault.kms.directory import KekDirectory
from vault.kms.local import LocalKms
from vault.kms.single import SingleKeyKms
from vault.ports import KeyStore, Kms, TenantKeks, WrappedKey
from vault.services.destruction import KeyDestruction
from vault.services.key_audit import KeyAudit
from vault.services.rewrap import Rewrapping
from vault.services.rotation import DataKeyRotation
from vault.services.strings import Strings
from vault.services.tenant_keys import TenantKeyRotation
from vault.settings import ENVIRONMENT_KEK, Settings
from vault.store.data_keys import PostgresDataKeys
from vault.store.engine import Database
from vault.store.key_ends import PostgresKeyEnds
from vault.store.keys import PostgresKeys
from vault.store.tenant_keys import PostgresTenantKeys
from vault.wiring.clock import monotonic


class KeyWiring:
    """Everything about keys that one process works with; opens nothing by itself."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._store, self._data_keys = PostgresKeys(database), PostgresDataKeys(database)
        self._tenant_keys, self._ends = PostgresTenantKeys(database), PostgresKeyEnds(database)

    @property
    def tenant_keks(self) -> TenantKeks:
        """Which tenants brought which KEK."""
        return self._store

    @property
    def ends(self) -> PostgresKeyEnds:
        """The database's clock, among others."""
        return self._ends

    @cached_property
    def keks(self) -> KekDirectory:
        """Every KMS that holds a KEK of ours."""
        settings = self._settings
        return KekDirectory(
            settings.master_key_uri, settings.former_kek_uris, self._store, monotonic, open_kms=self._open_kms
        )

    def _open_kms(self, uri: str) -> Kms:
        key = self._settings.encryption_key
        if uri == ENVIRONMENT_KEK and key is not None:
            return SingleKeyKms(parse_encryption_key(key.reveal()))
        return open_kms(uri)

    @cached_property
    def keyring(self) -> Keyring:
        """Unwrapped keys, and the KMS behind them."""
        return self.new_keyring()

    def new_keyring(self, store: KeyStore | None = None) -> Keyring:
        """Make another keyring, of its own cache, perhaps over another store."""
        settings = self._settings
        return Keyring(
            self.keks, store or self._store,
            monotonic=monotonic, random=secrets.token_bytes, new_id=uuid.uuid4,
            life=timedelta(seconds=settings.key_cache_life_s), grace=timedelta(seconds=settings.key_outage_grace_s),
            capacity=settings.key_cache_size, uses=settings.key_cache_uses,
        )  # fmt: skip

    @cached_property
    def rewrapping(self) -> Rewrapping:
        """Tenant keys under a new KEK."""
        return Rewrapping(self.keyring, self._tenant_keys, pace=self._pace())

    @cached_property
    def tenant_key_rotation(self) -> TenantKeyRotation:
        """Data keys under new tenant keys."""
        return TenantKeyRotation(
            self.keyring, self._store, self._tenant_keys, monotonic=monotonic, pace=self._pace()
        )  # fmt: skip

    @cached_property
    def data_key_rotation(self) -> DataKeyRotation:
        """Values under new data keys."""
        return DataKeyRotation(self.keyring, self._data_keys, monotonic=monotonic, pace=self._pace())

    @cached_property
    def key_audit(self) -> KeyAudit:
        """Opening everything."""
        return KeyAudit(self.keyring, self._ends, pace=self._pace())

    @cached_property
    def key_destruction(self) -> KeyDestruction:
        """Ending keys."""
        return KeyDestruction(self._ends, self._ends)

    def keyring_file(self) -> LocalKms:
        """The keyring file in use. Raises ``ConfigurationError`` when the KEK is not in a file."""
        return self.keks.keyring_file()

    def _pace(self) -> Pace:
        return paced(self._settings.rotation_rate, monotonic, time.sleep)

    def strings(self, tenant: str, *, plaintext: bool | None = None) -> Strings:
        """Text that carries its own wrapped key, of one tenant; ``plaintext``: let what was never encrypted pass."""
        settings, key = self._settings, self._settings.encryption_key
        return Strings(
            tenant, self.keks, monotonic=monotonic, random=secrets.token_bytes,
            life=timedelta(seconds=settings.key_cache_life_s), uses=settings.key_cache_uses,
            legacy_key=parse_encryption_key(key.reveal()) if key else None,
            foreign=self._foreign_key if settings.foreign_kek_uri else None,
            plaintext=settings.allow_plaintext if plaintext is None else plaintext,
        )  # fmt: skip

    def _foreign_key(self, blob: bytes) -> bytes:
        kms = self.keks.at(self._settings.foreign_kek_uri)
        context = dict(pair.split("=", 1) for pair in self._settings.foreign_context)
        return kms.unwrap(WrappedKey(kms.describe(), FOREIGN_ALGORITHM, blob), context)
