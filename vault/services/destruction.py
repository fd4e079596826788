"""Destroying keys nobody needs, under a rule; shredding values nobody may have, at once."""

from __future__ import annotations

from datetime import datetime

from vault.errors import DestructionRefused
from vault.ports import DestructionStore, KeyAuditStore, Retired, Shredded


class KeyDestruction:
    """The use case behind ``evergrant keys destroy`` and ``evergrant keys shred``."""

    def __init__(self, store: DestructionStore, audits: KeyAuditStore) -> None:
        self._store, self._audits = store, audits

    def destroy(self, oldest_backup_at: datetime, *, dry_run: bool = False) -> Retired:
        """Destroy retired keys for which it is certain that nobody will ever need them.

        A key may go when nothing refers to it, when the oldest backup that could be restored was made after the last
        reference was gone, and when every value there is has been opened since then.

        Args:
            oldest_backup_at: When the oldest backup was made that could still be restored.
            dry_run: Only count.

        Raises:
            DestructionRefused: There are retired keys, and none of them may go yet; the message says why.
        """
        audit = self._audits.last_audit()
        waiting = self._store.retired()
        if waiting.first_at is None:
            return waiting
        if audit is None or not audit.passed:
            problem = "no open audit was made yet" if audit is None else "not every value opened in the last open audit"
            raise DestructionRefused(f"{problem}: run 'evergrant keys verify'")
        before = min(oldest_backup_at, audit.started_at)
        if self._store.retired(before).first_at is None:
            raise DestructionRefused(_why(waiting.first_at, oldest_backup_at))
        return self._store.retired(before) if dry_run else self._store.destroy_retired(before)

    def shred_owner(self, tenant: str, owner: str) -> Shredded:
        """Make everything unreadable that is kept for an owner; see ``Maintenance.shred_owner``."""
        return self._store.shred_owner(tenant, owner)

    def shred_tenant(self, tenant: str) -> Shredded:
        """Make everything unreadable that is kept for a tenant; see ``Maintenance.shred_tenant``."""
        return self._store.shred_tenant(tenant)


def _why(last_used_at: datetime, oldest_backup_at: datetime) -> str:
    used = f"the first retired key was in use until {last_used_at:%Y-%m-%d %H:%M} UTC"
    if oldest_backup_at <= last_used_at:
        return f"{used}, and a backup from before that could be restored"
    return f"{used}, and no open audit was made since: run 'evergrant keys verify'"
