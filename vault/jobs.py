"""What a web app may ask for, as values; the worker has one task of the same name for each, with the same fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Refresh:
    """Refresh this connection now, ahead of everything that is merely due."""

    task: ClassVar[str] = "vault.refresh"
    lane: ClassVar[str] = "urgent"
    connection_id: UUID | str


@dataclass(frozen=True, slots=True)
class RefreshScan:
    """Refresh whatever is due."""

    task: ClassVar[str] = "vault.refresh_scan"
    lane: ClassVar[str] = "refresh"


@dataclass(frozen=True, slots=True)
class Rewrap:
    """Wrap every tenant key under the KEK that is configured now."""

    task: ClassVar[str] = "vault.rewrap"
    lane: ClassVar[str] = "maintenance"


@dataclass(frozen=True, slots=True)
class RotateDataKeys:
    """Replace data keys past their age and re-seal what stands under replaced ones."""

    task: ClassVar[str] = "vault.rotate_data_keys"
    lane: ClassVar[str] = "maintenance"


@dataclass(frozen=True, slots=True)
class RotateTenantKeys:
    """Replace tenant keys past their age and rewrap the data keys under replaced ones."""

    task: ClassVar[str] = "vault.rotate_tenant_keys"
    lane: ClassVar[str] = "maintenance"


@dataclass(frozen=True, slots=True)
class RotateCredentials:
    """Begin the rotations that are due, and go on with those that are begun."""

    task: ClassVar[str] = "vault.rotate_credentials"
    lane: ClassVar[str] = "maintenance"


@dataclass(frozen=True, slots=True)
class ExpiryScan:
    """Tell of what ends soon, and of what has ended."""

    task: ClassVar[str] = "vault.expiry_scan"
    lane: ClassVar[str] = "maintenance"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Look at every part of the system and record what was found."""

    task: ClassVar[str] = "vault.health_check"
    lane: ClassVar[str] = "maintenance"


@dataclass(frozen=True, slots=True)
class HealthCheckAll:
    """Look at all connections and keep what was found."""

    task: ClassVar[str] = "vault.health_check_all"
    lane: ClassVar[str] = "maintenance"


@dataclass(frozen=True, slots=True)
class FoldStatistics:
    """Add up what writers left behind for the counters."""

    task: ClassVar[str] = "vault.statistics"
    lane: ClassVar[str] = "maintenance"


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Remove what has had its day: flows, candidates, deleted credentials, rotations, events, rows of the audit."""

    task: ClassVar[str] = "vault.cleanup"
    lane: ClassVar[str] = "maintenance"


@dataclass(frozen=True, slots=True)
class Migrate:
    """Go on moving grants out of another system, by what ``VAULT_MIGRATIONS`` says under this name."""

    task: ClassVar[str] = "vault.migrate"
    lane: ClassVar[str] = "maintenance"
    name: str


@dataclass(frozen=True, slots=True)
class AuditChain:
    """Link what was told to the audit since the last time."""

    task: ClassVar[str] = "vault.audit_chain"
    lane: ClassVar[str] = "maintenance"


@dataclass(frozen=True, slots=True)
class Deliver:
    """Send what there is to tell."""

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
