"""The face for workers and operators."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from vault import settings as settings_module
from vault.claims import Overdue
from vault.engine.drain import Tally
from vault.engine.sweep import Progress, to_nobody
from vault.facade.api_keys import ApiKeys
from vault.facade.audit import Audit
from vault.facade.clients import Clients
from vault.facade.events import Events
from vault.facade.ids import read_id
from vault.facade.keys import Keys
from vault.facade.standing import StandingWork
from vault.jobs import Job, Migrate, Refresh
from vault.migration.plan import Migration, configured
from vault.migration.summary import MigrationSummary
from vault.services.delivering import DeliveryTally
from vault.services.expiry import ExpiryTally
from vault.services.migration import BATCH, Order
from vault.settings import Settings
from vault.wiring import Wiring

DRAIN_BUDGET = timedelta(seconds=5)
"""A drain claims for this long, then makes room in its worker for urgent work; the next doorbell goes on."""
MIGRATION_BUDGET = timedelta(seconds=60)
"""A task moves rows for this long, then makes room; another one goes on."""
ROTATION_BUDGET = timedelta(seconds=30)
"""A task begins rotations of credentials, or takes up begun ones, for this long; the next one goes on."""
MIGRATION_BATCH = 100


def _tell_nobody(_: object) -> None: ...


class Maintenance(StandingWork):
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
        return self._wiring.keys.rewrapping.run(progress)

    def rotate_data_keys(
        self, older_than: timedelta | None = None, progress: Callable[[Progress], object] = to_nobody
    ) -> int:
        """Replace data keys past their age and re-seal what stands under replaced ones; returns how many were."""
        age = older_than if older_than is not None else timedelta(days=self.settings.data_key_max_age_days)
        return self._wiring.keys.data_key_rotation.run(age, progress)

    def rotate_tenant_keys(
        self, older_than: timedelta | None = None, progress: Callable[[Progress], object] = to_nobody
    ) -> int:
        """Replace tenant keys past their age, and rewrap what stands under replaced ones; returns how many were.

        Resumable; touches no user's row. Raises ``KeyUnavailable``: some tenant's KMS did not answer; run again.
        """
        age = older_than if older_than is not None else timedelta(days=self.settings.tenant_key_max_age_days)
        return self._wiring.keys.tenant_key_rotation.run(age, progress)

    def rotate_credentials(self, budget: timedelta = ROTATION_BUDGET) -> int:
        """Begin the rotations that are due, and go on with those that are begun; returns how many steps were done."""
        return self._wiring.credentials.rotating.run(budget)

    def expiry_scan(self, budget: timedelta = ROTATION_BUDGET) -> ExpiryTally:
        """Tell of credentials and consents that end soon, and of those that have."""
        return self._wiring.credentials.expiring.run(budget)

    @cached_property
    def keys(self) -> Keys:
        """Everything else about keys."""
        return Keys(self._wiring, self.settings)

    @cached_property
    def clients(self) -> Clients:
        """Our registrations at providers."""
        return Clients(self._wiring)

    @cached_property
    def api_keys(self) -> ApiKeys:
        """Keys with which programs ask over HTTP."""
        return ApiKeys(self._wiring, self.settings.tenant)

    @cached_property
    def audit(self) -> Audit:
        """The audit's chains."""
        return Audit(self._wiring)

    def grant_rights(self, role: str, part: str) -> None:
        """Give a database role what a ``worker``, a ``web`` app or an ``auditor`` needs, and nothing else of ours.

        To be repeated after each upgrade of the schema. Raises ``ConfigurationError``.
        """
        self._wiring.rights.grant(role, part)

    @cached_property
    def events(self) -> Events:
        """What tenant admins are told, and where it is sent."""
        return Events(self._wiring)

    def deliver(self, budget: timedelta = DRAIN_BUDGET) -> DeliveryTally:
        """Send every event that is due to whom it may concern.

        Args:
            budget: How long deliveries are begun; what is in flight then takes one request deadline more, a hook as
                long as it takes.
        """
        return self._wiring.delivering.run(budget)

    def undelivered(self) -> Overdue:
        """What is to be sent by now and in nobody's hands; ``rows`` counts new events, and endpoints."""
        return self._wiring.outbox.overdue()

    def cleanup(self, *, dry_run: bool = False) -> Mapping[str, int]:
        """Remove what has had its day, or count it."""
        return self._wiring.cleaning.run(dry_run=dry_run)

    def migration(self, name: str) -> Migration:
        """Return the migration of a name from the files of ``VAULT_MIGRATIONS``. Raises ``ConfigurationError``."""
        return configured([Path(file) for file in self.settings.migrations], name, os.environ)

    def migrate(
        self,
        migration: Migration,
        *,
        batch: int = BATCH,
        dry_run: bool = False,
        tenant: str | None = None,
        provider: str | None = None,
        limit: int | None = None,
        progress: Callable[[MigrationSummary], object] = _tell_nobody,
    ) -> MigrationSummary:
        """Move grants out of another system. Resumable at any point; what was moved before is left as it is.

        Args:
            migration: From ``Migration.planned(…)`` or ``migration(name)``.
            batch: Rows that share a commit.
            dry_run: Open and check everything, and change nothing.
            tenant: Only rows of this one.
            provider: Only rows of this one.
            limit: Rows at most, beyond those moved before.
            progress: Told after every few batches.

        Raises:
            ConfigurationError: The source is not what the migration says.
            MigrationBusy: Another run moves the same source.
            SourceUnavailable, StoreUnavailable, KeyUnavailable: It ended early; what was moved is whole.
        """
        with self._wiring.migrating(migration, tenant=tenant, provider=provider) as migrating:
            return migrating.run(Order(batch, dry_run, migration.clear, limit), progress)

    def begin_migration(self, name: str) -> None:
        """Have workers do a migration of ``VAULT_MIGRATIONS``: noted durably, then rung for."""
        self.migration(name)
        self._wiring.migrations.begin(name)
        self.ring(Migrate(name))

    def unfinished_migrations(self) -> Sequence[str]:
        """Name the migrations that workers were asked for and have not ended."""
        return self._wiring.migrations.unfinished()

    def migrate_slice(self, name: str, budget: timedelta = MIGRATION_BUDGET) -> bool:
        """Go on with a migration that workers were asked for; returns whether there is more to do.

        Args:
            name: Of a migration in the files of ``VAULT_MIGRATIONS``.
            budget: After so long no further batch is begun.
        """
        migration = self.migration(name)
        with self._wiring.migrating(migration, tenant=None, provider=None) as migrating:
            return migrating.slice(name, Order(MIGRATION_BATCH, clear=migration.clear), budget)

    def upgrade_schema(self) -> str:
        """Bring the database to the schema this version needs; returns the revision reached."""
        return self._wiring.schema.upgrade()

    def check(self) -> str:
        """Check, before work begins, what work stands on; returns the name of the KEK in use, never a key.

        Raises:
            SchemaOutdated: ``upgrade_schema`` has work to do.
            ConfigurationError: This process is to refresh, and its database role may not.
            StoreUnavailable: PostgreSQL cannot be reached.
            KeyUnavailable: The KMS does not give the tenant's key back: is it the KEK the database was made with?
        """
        self._wiring.schema.check()
        if self.settings.inline_refresh:
            self._wiring.rights.check_refreshing()
        self._wiring.keys.keyring.check(self.settings.tenant)
        return self._wiring.keys.keyring.kek_id()

    def preflight(self) -> Mapping[str, str]:
        """Look at what does not stop work and should not be so: of each part ``ok``, or what is wrong with it.

        Raises ``QueueUnavailable`` and ``StoreUnavailable``.
        """
        return self._wiring.preflight.run()

    def ring(self, job: Job) -> None:
        """Ask the workers for a job, and wait a fifth of a second at most for the message to leave."""
        argument = str(job.connection_id) if isinstance(job, Refresh) else None
        if isinstance(job, Migrate):
            argument = job.name
        self._wiring.doorbell.ring(job.task, job.lane, argument)
        self._wiring.doorbell.flush()

    def close(self) -> None:
        """Let go of connections and files."""
        self._wiring.close()
