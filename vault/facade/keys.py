"""What operators do about keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from vault.engine.sweep import Progress, to_nobody
from vault.errors import DestructionRefused
from vault.model import SYSTEM, checked_tenant
from vault.ports import OpenAudit, Retired, Shredded, TenantKek
from vault.services.rotation import KeyCount
from vault.settings import Settings
from vault.wiring import Wiring


class Keys:
    """Keys at rest: counting, rotating, proving, ending them. From ``Maintenance.keys``."""

    def __init__(self, wiring: Wiring, settings: Settings) -> None:
        self._wiring, self._settings = wiring, settings

    def counts(self) -> list[KeyCount]:
        """Count tenant keys, data keys and sealed values by method, version and KEK; reads every row."""
        return self._wiring.keys.data_key_rotation.counts()

    def under_former_keks(self) -> int:
        """Count tenant keys under a KEK that is not in use, up to 1,000; at 0 such a KEK is not needed any more.

        Raises ``KeyUnavailable`` when a KMS does not name its KEK in use.
        """
        return self._wiring.keys.rewrapping.remaining()

    def under_replaced_data_keys(self) -> int:
        """Count rows under data keys that were replaced, up to 1,000; at 0 a rotation has ended."""
        return self._wiring.keys.data_key_rotation.remaining()

    def under_replaced_tenant_keys(self) -> int:
        """Count data keys under tenant keys that were replaced; at 0 their rotation has ended."""
        return self._wiring.keys.tenant_key_rotation.remaining()

    def verify(self, progress: Callable[[Progress], object] = to_nobody) -> OpenAudit:
        """Open every sealed value once, and keep in the database what came of it. Raises ``KeyUnavailable``."""
        return self._wiring.keys.key_audit.run(progress)

    def destroy(self, oldest_backup_at: datetime, *, dry_run: bool = False) -> Retired:
        """Destroy keys that are certainly not needed: nothing refers to them, now or in any backup.

        Args:
            oldest_backup_at: When the oldest backup was made that could still be restored.
            dry_run: Only count.

        Raises:
            DestructionRefused: There are keys to destroy, and none may be; the message says why.
        """
        return self._wiring.keys.key_destruction.destroy(oldest_backup_at, dry_run=dry_run)

    def shred_owner(self, owner: str, tenant: str | None = None) -> Shredded:
        """Destroy an owner's data keys, and take every value out of the owner's connections, which end.

        Providers are not told. Other processes may have tokens in hand; the keys they have cached open nothing that is
        left. A backup holds keys and values both: it can be read until it is gone, or its tenant key is.

        Args:
            owner: Whose.
            tenant: Default ``VAULT_TENANT``.
        """
        return self._wiring.keys.key_destruction.shred_owner(_shreddable(tenant or self._settings.tenant), owner)

    def shred_tenant(self, tenant: str | None = None) -> Shredded:
        """Destroy all keys of a tenant, at once, and then take the values out of its rows; see ``shred_owner``."""
        return self._wiring.keys.key_destruction.shred_tenant(_shreddable(tenant or self._settings.tenant))

    # ------------------------------------------------------------------------------------------------ KEKs of tenants

    def tenant_keks(self) -> list[TenantKek]:
        """Read which tenants brought which KEK."""
        return self._wiring.keys.tenant_keks.tenant_keks()

    def test_kek(self, uri: str, tenant: str | None = None) -> str:
        """Have a KMS wrap and unwrap a key made for the occasion; returns the name of its KEK.

        Raises:
            ConfigurationError: The URI cannot work.
            KeyUnavailable, CannotOpen: The KMS does not do both.
        """
        return self._wiring.keys.keyring.prove(uri, checked_tenant(tenant or self._settings.tenant))

    def set_tenant_kek(self, tenant: str, uri: str | None) -> str:
        """Let a tenant's keys be wrapped by a KEK of its own, or (None) by everybody's again, and rewrap them.

        Nothing is changed before the KMS has proven to wrap and unwrap. Other processes go on with the key they have
        cached for as long as the cache lives. Returns the name of the KEK; raises as ``test_kek`` does.
        """
        name = self._wiring.keys.keyring.prove(uri, checked_tenant(tenant))
        self._wiring.keys.tenant_keks.set_tenant_kek(tenant, uri)
        self._wiring.keys.rewrapping.run()
        return name

    # ------------------------------------------------------------------------------------------------ the local keyring

    def local_keks(self) -> dict[str, bool]:
        """Name the KEKs in the keyring file, and whether each is in use. Raises ``ConfigurationError``: no file."""
        return self._wiring.keys.keyring_file().names()

    def add_local_kek(self, name: str, *, use: bool = False) -> str:
        """Add a fresh KEK to the keyring file, and let it wrap from now on; returns the name of the one in use."""
        file = self._wiring.keys.keyring_file()
        file.add_key(name)
        if use:
            file.set_current(name)
        return file.describe()

    def use_local_kek(self, name: str) -> str:
        """Let a KEK of the keyring file wrap from now on; returns its full name. Rewrap afterwards."""
        file = self._wiring.keys.keyring_file()
        file.set_current(name)
        return file.describe()

    def remove_local_kek(self, name: str) -> None:
        """Remove a KEK from the keyring file. Raises ``DestructionRefused`` while any tenant key stands under it."""
        file = self._wiring.keys.keyring_file()
        needed = self._wiring.keys.rewrapping.under(file.full_name(name))
        if needed:
            raise DestructionRefused(f"{needed} tenant keys stand under {name!r}: run 'evergrant rewrap'")
        file.remove_key(name)

    def back_up_keyring(self, file: Path) -> None:
        """Copy the keyring file, for us alone to read. Raises ``ConfigurationError`` when that cannot be done."""
        self._wiring.keys.keyring_file().backup(file)


def _shreddable(tenant: str) -> str:
    if tenant == SYSTEM:
        raise DestructionRefused(f"{SYSTEM!r} is no tenant; the secrets of clients end with 'evergrant client remove'")
    return tenant
