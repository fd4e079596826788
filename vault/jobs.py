"""What a web app may ask for, as values; the worker has one task of the same name for each, with the same fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID


@dataclass(frozen=True, slots=True)
class _Plain:
    """A job that needs no words; one dataclass for all of them, as each costs half a millisecond at import."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """Refresh this connection now, ahead of everything that is merely due."""

    task: ClassVar[str] = "vault.refresh"
    lane: ClassVar[str] = "urgent"
    connection_id: UUID | str


class RefreshScan(_Plain):
    """Refresh whatever is due."""

    __slots__ = ()
    task: ClassVar[str] = "vault.refresh_scan"
    lane: ClassVar[str] = "refresh"


class Rewrap(_Plain):
    """Wrap every tenant key under the KEK that is configured now."""

    __slots__ = ()
    task: ClassVar[str] = "vault.rewrap"
    lane: ClassVar[str] = "maintenance"


class RotateDataKeys(_Plain):
    """Replace data keys past their age and re-seal what stands under replaced ones."""

    __slots__ = ()
    task: ClassVar[str] = "vault.rotate_data_keys"
    lane: ClassVar[str] = "maintenance"


class RotateTenantKeys(_Plain):
    """Replace tenant keys past their age and rewrap the data keys under replaced ones."""

    __slots__ = ()
    task: ClassVar[str] = "vault.rotate_tenant_keys"
    lane: ClassVar[str] = "maintenance"


class RotateCredentials(_Plain):
    """Begin the rotations that are due, and go on with those that are begun."""

    __slots__ = ()
    task: ClassVar[str] = "vault.rotate_credentials"
    lane: ClassVar[str] = "maintenance"


class ExpiryScan(_Plain):
    """Tell of what ends soon, and of what has ended."""

    __slots__ = ()
    task: ClassVar[str] = "vault.expiry_scan"
    lane: ClassVar[str] = "maintenance"


class HealthCheck(_Plain):
    """Look at every part of the system and record what was found."""

    __slots__ = ()
    task: ClassVar[str] = "vault.health_check"
    lane: ClassVar[str] = "maintenance"


class HealthCheckAll(_Plain):
    """Look at all connections and keep what was found."""

    __slots__ = ()
    task: ClassVar[str] = "vault.health_check_all"
    lane: ClassVar[str] = "maintenance"


class FoldStatistics(_Plain):
    """Add up what writers left behind for the counters."""

    __slots__ = ()
    task: ClassVar[str] = "vault.statistics"
    lane: ClassVar[str] = "maintenance"


class Cleanup(_Plain):
    """Remove what has had its day: flows, candidates, deleted credentials, rotations, events, rows of the audit."""

    __slots__ = ()
    task: ClassVar[str] = "vault.cleanup"
    lane: ClassVar[str] = "maintenance"


@dataclass(frozen=True, slots=True)
class Migrate:
    """Go on moving grants out of another system, by what ``VAULT_MIGRATIONS`` says under this name."""

    task: ClassVar[str] = "vault.migrate"
    lane: ClassVar[str] = "maintenance"
    name: str


class AuditChain(_Plain):
    """Link what was told to the audit since the last time."""

    __slots__ = ()
    task: ClassVar[str] = "vault.audit_chain"
    lane: ClassVar[str] = "maintenance"


class Deliver(_Plain):
    """Send what there is to tell."""

    __slots__ = ()
    task: ClassVar[str] = "vault.deliver"
    lane: ClassVar[str] = "events"


Job = (
    Refresh
    | RefreshScan
    | Rewrap
    | RotateDataKeys
    | RotateTenantKeys
    | RotateCredentials
    | ExpiryScan
    | HealthCheck
    | HealthCheckAll
    | FoldStatistics
    | Cleanup
    | Migrate
    | AuditChain
    | Deliver
)

LANES = ("urgent", "refresh", "maintenance", "events")
"""Queues of the worker, most pressing first."""
