"""A new KEK: every tenant key wrapped anew, whatever the tenants own.

Each step swaps what it read and nothing else, and a new wrapping is proven to open before it takes the place of the
old: a run may die anywhere, run twice at a time, or be started again.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from vault.engine.sweep import Pace, Report, Run, flat_out, pages, to_nobody
from vault.errors import KeyUnavailable
from vault.keyring import Keyring
from vault.ports import RewrapStore, TenantKeyRecord

PROOF_LIMIT: Final = 1_000


class Rewrapping:
    """The use case behind ``vault.rewrap``. Any number of these may run at a time, in any number of processes."""

    def __init__(self, keyring: Keyring, store: RewrapStore, *, pace: Pace = flat_out) -> None:
        self._keyring, self._store, self._pace = keyring, store, pace

    def run(self, progress: Report = to_nobody) -> int:
        """Wrap every tenant key under the KEK in use for its tenant: three KMS calls each, whatever they own.

        Tenants whose KEK refuses, and keys that are damaged, are left as they are, counted and logged.

        Args:
            progress: Told after each batch.

        Returns:
            How many were rewrapped; ``remaining()`` proves whether any is left.

        Raises:
            KeyUnavailable: The KMS did not answer, for some keys or for all: run again later.
            StoreUnavailable: The database cannot be reached.
        """
        run = Run(progress)
        self._rewrap_all(run, None, self._keyring.kek_id())
        for uri in self._store.own_kek_uris():
            kek_id = run.attempt(uri, uri, partial(self._keyring.kek_id, uri))
            if kek_id is not None:
                self._rewrap_all(run, uri, kek_id)
        run.end("tenant_keys_rewrapped")
        return run.done.keys

    def remaining(self) -> int:
        """Count tenant keys under any KEK that is not in use, up to 1,000. At 0 such a KEK is not needed any more.

        Raises ``KeyUnavailable`` when a KMS does not name its KEK in use.
        """
        found = 0
        for uri in (None, *self._store.own_kek_uris()):
            kek_id = self._keyring.kek_id(uri)
            found += len(self._store.tenant_keys_not_under(kek_id, PROOF_LIMIT - found, uri=uri, after=None))
            if found >= PROOF_LIMIT:
                break
        return found

    def under(self, kek_id: str) -> int:
        """Count tenant keys under one KEK that are not destroyed."""
        return self._store.tenant_keys_under(kek_id)

    def _rewrap_all(self, run: Run, uri: str | None, kek_id: str) -> None:
        left = partial(self._store.tenant_keys_not_under, kek_id, uri=uri)
        for batch in pages(lambda limit, after: left(limit, after=after), lambda key: key.id):
            for key in batch:
                run.add(keys=run.attempt(key.tenant, key.id, partial(self._rewrap, key, kek_id)) or False)
            run.report()
            self._pace(len(batch))
        self._store.forget_former_keks(uri, kek_id)

    def _rewrap(self, key: TenantKeyRecord, kek_id: str) -> bool:
        wrapped = self._keyring.rewrap(key)
        if wrapped.kek_id != kek_id:  # the KMS has just been given another key in use: the next run does it
            raise KeyUnavailable(wrapped.kek_id, "not the KEK in use", transient=False)
        return self._store.rewrap_tenant_key(key.id, key.wrapped, wrapped)
