"""One task for each job of ``vault.jobs``, with its name and its fields; each body is one call."""

from __future__ import annotations

from datetime import timedelta

from vault import (
    AuditChain,
    Cleanup,
    Deliver,
    ExpiryScan,
    FoldStatistics,
    HealthCheck,
    HealthCheckAll,
    Migrate,
    Refresh,
    RefreshScan,
    Rewrap,
    RotateCredentials,
    RotateDataKeys,
    RotateTenantKeys,
)
from worker.app import app
from worker.process import maintenance

AUDIT_BUDGET = timedelta(seconds=20)
"""Rows are linked for so long, then there is room for other work; another task goes on."""


@app.task(name=Refresh.task)
def refresh(connection_id: str) -> None:
    """Refresh one connection now; with something to tell, ring for that."""
    if maintenance().refresh(connection_id).news:
        maintenance().ring(Deliver())


@app.task(name=RefreshScan.task)
def refresh_scan() -> None:
    """Refresh what is due; with more left than one drain takes, ring again, which never waits for Redis."""
    tally = maintenance().refresh_scan()
    if tally.backlog:
        maintenance().ring(RefreshScan())
    if tally.news:
        maintenance().ring(Deliver())


@app.task(name=Rewrap.task)
def rewrap() -> None:
    """Wrap tenant keys under the KEK in use."""
    maintenance().rewrap()


@app.task(name=RotateDataKeys.task)
def rotate_data_keys() -> None:
    """Replace data keys past their age."""
    maintenance().rotate_data_keys()


@app.task(name=RotateTenantKeys.task)
def rotate_tenant_keys() -> None:
    """Replace tenant keys past their age."""
    maintenance().rotate_tenant_keys()


@app.task(name=RotateCredentials.task)
def rotate_credentials() -> None:
    """Rotate credentials past their age, and go on with rotations that are begun."""
    maintenance().rotate_credentials()


@app.task(name=ExpiryScan.task)
def expiry_scan() -> None:
    """Tell of what ends soon, and of what has ended; with more left, ring again."""
    tally = maintenance().expiry_scan()
    if tally.told:
        maintenance().ring(Deliver())
    if tally.more:
        maintenance().ring(ExpiryScan())


@app.task(name=HealthCheck.task)
def health_check() -> None:
    """Look at every part."""
    maintenance().health_check()


@app.task(name=HealthCheckAll.task)
def health_check_all() -> None:
    """Look at connections for a while; with more left, ring again."""
    if maintenance().health_check_slice():
        maintenance().ring(HealthCheckAll())


@app.task(name=FoldStatistics.task)
def fold_statistics() -> None:
    """Add up what writers left behind."""
    maintenance().fold_statistics()


@app.task(name=Cleanup.task)
def cleanup() -> None:
    """Remove what has had its day; and ring for what was begun and whose message was lost on its way."""
    maintenance().cleanup()
    if maintenance().unfinished_health_check():
        maintenance().ring(HealthCheckAll())
    for name in maintenance().unfinished_migrations():
        maintenance().ring(Migrate(name))


@app.task(name=Migrate.task)
def migrate(name: str) -> None:
    """Move grants for a while; with more left, ring again."""
    if maintenance().migrate_slice(name):
        maintenance().ring(Migrate(name))


@app.task(name=AuditChain.task)
def audit_chain() -> None:
    """Link what was told to the audit for a while; with more left, ring again."""
    if maintenance().audit.chain_slice(AUDIT_BUDGET):
        maintenance().ring(AuditChain())


@app.task(name=Deliver.task)
def deliver() -> None:
    """Send what there is to tell; with more left than one run takes, ring again."""
    if maintenance().deliver().backlog:
        maintenance().ring(Deliver())
