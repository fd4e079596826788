"""The face for workers and operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any, Self
from uuid import UUID

from vault import settings as settings_module
from vault.claims import Overdue
from vault.engine.drain import Tally
from vault.engine.sweep import Progress, to_nobody
from vault.facade.ids import read_id
from vault.facade.keys import Keys
from vault.jobs import Job, Refresh
from vault.services.health import Health
from vault.settings import Settings
from vault.wiring import Wiring

DRAIN_BUDGET = timedelta(seconds=5)
"""A drain claims for this long, then makes room in its worker for urgent work; the next doorbell goes on."""


class Maintenance:
    """What workers do, each also at an operator's word. One per process; for one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._wiring = Wiring(settings)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Make it from the ``VAULT_*`` environment; see ``Vault.from_env``."""
        return cls(settings_module.load(environ, **overrides))

    def refresh_scan(self, budget: timedelta = DRAIN_BUDGET) -> Tally:
        """Bring home dead processes' answers, tell providers of ended grants, refresh everything due.

        Args:
            budget: How long rows are claimed; what is in flight then takes one request deadline more.
        """
        self._wiring.revoking.run()
        return self._wiring.refreshing.scan(budget)

    def refresh(self, connection_id: UUID | str) -> Tally:
        """Refresh one connection now, due or not; one backing off keeps its pace (``Vault.enqueue`` insists)."""
        return self._wiring.refreshing.one(read_id(connection_id))

    def overdue(self) -> Overdue:
        """What is due and in nobody's hands."""
        return self._wiring.refreshing.overdue()

    def rewrap(self, progress: Callable[[Progress], object] = to_nobody) -> int:
        """Wrap every tenant key under the KEK in use; returns how many were. Resumable; touches no user's row."""
        return self._wiring.rewrapping.run(progress)

    def rotate_data_keys(
        self, older_than: timedelta | None = None, progress: Callable[[Progress], object] = to_nobody
    ) -> int:
        """Replace data keys past their age and re-seal what stands under replaced ones; returns how many were."""
        age = older_than if older_than is not None else timedelta(days=self.settings.data_key_max_age_days)
        return self._wiring.data_key_rotation.run(age, progress)

    @cached_property
    def keys(self) -> Keys:
        """Everything else about keys."""
        return Keys(self._wiring, self.settings)

    def health_check(self) -> Health:
        """Look at every part."""
        return self._wiring.health.check()

    def cleanup(self, *, dry_run: bool = False) -> Mapping[str, int]:
        """Remove what has had its day, or count it."""
        return self._wiring.cleaning.run(dry_run=dry_run)

    def upgrade_schema(self) -> str:
        """Bring the database to the schema this version needs; returns the revision reached."""
        return self._wiring.schema.upgrade()

    def check(self) -> str:
        """Check, before work begins, what work stands on; returns the name of the KEK in use, never a key.

        Raises:
            SchemaOutdated: ``upgrade_schema`` has work to do.
            StoreUnavailable: PostgreSQL cannot be reached.
            KeyUnavailable: The KMS does not give the tenant's key back: is it the KEK the database was made with?
        """
        self._wiring.schema.check()
        self._wiring.keyring.check(self.settings.tenant)
        return self._wiring.keyring.kek_id()

    def preflight(self) -> Mapping[str, str]:
        """Look at what does not stop work and should not be so: of each part ``ok``, or what is wrong with it.

        Raises ``QueueUnavailable`` and ``StoreUnavailable``.
        """
        return self._wiring.preflight()

    def ring(self, job: Job) -> None:
        """Ask the workers for a job, and wait a fifth of a second at most for the message to leave."""
        argument = str(job.connection_id) if isinstance(job, Refresh) else None
        self._wiring.doorbell.ring(job.task, job.lane, argument)
        self._wiring.doorbell.flush()

    def close(self) -> None:
        """Let go of connections and files."""
        self._wiring.close()
