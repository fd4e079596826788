"""A new tenant key: the tenant's data keys wrapped anew under it, and no value touched."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

from vault.engine.sweep import Pace, Report, Run, flat_out, pages, to_nobody
from vault.keyring import Keyring
from vault.ports import KeyStore, TenantKeyRecord, TenantKeyRotationStore


class TenantKeyRotation:
    """The use case behind ``evergrant keys rotate-tenant-keys``; resumable and repeatable as every rotation is."""

    def __init__(
        self,
        keyring: Keyring,
        keys: KeyStore,
        store: TenantKeyRotationStore,
        *,
        monotonic: Callable[[], float],
        pace: Pace = flat_out,
    ) -> None:
        self._keyring, self._keys, self._store = keyring, keys, store
        self._monotonic, self._pace = monotonic, pace

    def run(self, older_than: timedelta, progress: Report = to_nobody) -> int:
        """Replace tenant keys past an age, and rewrap the data keys under replaced ones, also what a run before left.

        Args:
            older_than: Tenant keys of this age at least are replaced; zero: all there are.
            progress: Told after each batch.

        Returns:
            How many tenant keys were replaced; ``remaining()`` proves whether anything stands under an old one.

        Raises:
            KeyUnavailable: The KMS did not answer, for some tenants or for all: run again later.
            StoreUnavailable: The database cannot be reached.
        """
        run, started = Run(progress), self._monotonic()

        def aged(limit: int, after: UUID | None) -> list[TenantKeyRecord]:
            age = older_than + timedelta(seconds=self._monotonic() - started)  # no key of this run ever reaches it
            return self._store.tenant_keys_older_than(age, limit, after)

        for batch in pages(aged, lambda key: key.id):
            for key in batch:
                run.add(keys=run.attempt(key.tenant, key.id, partial(self._replace, key)) or False)
            run.report()
            self._pace(len(batch))
        for replaced in pages(self._store.replaced_tenant_keys, lambda key: key.id):
            for key in replaced:
                self._rewrap_all(run, key)
        self._store.retire_unused_tenant_keys()
        run.end("tenant_keys_rotated")
        return run.done.keys

    def remaining(self) -> int:
        """Count data keys under replaced tenant keys; at 0 no tenant key but the current ones is needed for any."""
        return self._store.data_keys_under_replaced()

    def _replace(self, old: TenantKeyRecord) -> bool:
        self._keyring.check(old.tenant)  # what cannot be opened must not be succeeded quietly
        return self._store.replace_tenant_key(old, self._keyring.new_tenant_key(old.tenant))

    def _rewrap_all(self, run: Run, old: TenantKeyRecord) -> None:
        new = self._keys.current_tenant_key(old.tenant)
        if new is None:  # the tenant was shredded meanwhile
            return
        under = partial(self._store.data_keys_under, old.id)
        for batch in pages(under, lambda key: key.id):
            pairs = []
            for key in batch:
                rewrapped = run.attempt(old.tenant, key.id, partial(self._keyring.rewrap_data_key, key, new))
                pairs += [(key, rewrapped)] if rewrapped is not None else []
            run.add(rows=self._store.rewrap_data_keys(pairs) if pairs else 0)
            run.report()
            self._pace(len(batch))
