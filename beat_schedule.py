"""What beat rings for, and how often. Data only: intervals come from the settings, each ring expires before the next.

Running no beat, or three, changes lateness by one scan at most: the rows say what is due, beat only says "look".
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from vault import (
    AuditChain,
    Cleanup,
    Deliver,
    ExpiryScan,
    FoldStatistics,
    HealthCheck,
    HealthCheckAll,
    Job,
    RefreshScan,
    Rewrap,
    RotateCredentials,
    RotateDataKeys,
    RotateTenantKeys,
    Settings,
)

INTERVALS: dict[type[Job], str] = {
    RefreshScan: "scan_interval_s",
    Deliver: "events_interval_s",
    Rewrap: "rewrap_interval_s",
    RotateDataKeys: "data_key_interval_s",
    RotateTenantKeys: "tenant_key_interval_s",
    RotateCredentials: "credential_interval_s",
    ExpiryScan: "expiry_interval_s",
    HealthCheck: "health_interval_s",
    HealthCheckAll: "health_all_interval_s",
    FoldStatistics: "statistics_interval_s",
    Cleanup: "cleanup_interval_s",
    AuditChain: "audit_interval_s",
}
"""For each job on a schedule, the setting with its interval in seconds."""
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
"""Beat remembers nothing between two starts, so it begins with everything: one restarted each hour still rewraps."""


def schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return Celery's ``beat_schedule``."""
    entries = {}
    for job, setting in INTERVALS.items():
        seconds: float = getattr(settings, setting)
        options = {"queue": job.lane, "expires": seconds}
        entries[job.task] = {"task": job.task, "schedule": seconds, "options": options, "last_run_at": LONG_AGO}
    return entries
