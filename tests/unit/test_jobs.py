"""Jobs are what a web app may ask for; other services ask for them by the same names, so the names are a promise."""

from __future__ import annotations

import dataclasses
from typing import get_args
from uuid import UUID

import pytest

import vault
from vault.jobs import (
    LANES,
    AuditChain,
    Cleanup,
    Deliver,
    ExpiryScan,
    FoldStatistics,
    HealthCheck,
    HealthCheckAll,
    Job,
    Migrate,
    Refresh,
    RefreshScan,
    Rewrap,
    RotateCredentials,
    RotateDataKeys,
    RotateTenantKeys,
)

JOBS: tuple[type[Job], ...] = get_args(Job)

PROMISED = {
    Refresh: ("vault.refresh", "urgent", ["connection_id"]),
    RefreshScan: ("vault.refresh_scan", "refresh", []),
    Rewrap: ("vault.rewrap", "maintenance", []),
    RotateDataKeys: ("vault.rotate_data_keys", "maintenance", []),
    RotateTenantKeys: ("vault.rotate_tenant_keys", "maintenance", []),
    RotateCredentials: ("vault.rotate_credentials", "maintenance", []),
    ExpiryScan: ("vault.expiry_scan", "maintenance", []),
    HealthCheck: ("vault.health_check", "maintenance", []),
    HealthCheckAll: ("vault.health_check_all", "maintenance", []),
    FoldStatistics: ("vault.statistics", "maintenance", []),
    Cleanup: ("vault.cleanup", "maintenance", []),
    AuditChain: ("vault.audit_chain", "maintenance", []),
    Migrate: ("vault.migrate", "maintenance", ["name"]),
    Deliver: ("vault.deliver", "events", []),
}
"""Task, lane and arguments, as other services write them into their messages."""


def test_the_promise_covers_every_job() -> None:
    assert set(PROMISED) == set(JOBS)


@pytest.mark.parametrize("job", JOBS)
def test_a_job_has_the_task_the_lane_and_the_arguments_that_were_promised(job: type[Job]) -> None:
    assert (job.task, job.lane, [field.name for field in dataclasses.fields(job)]) == PROMISED[job]


@pytest.mark.parametrize("job", JOBS)
def test_every_job_is_told_apart_and_has_a_lane_that_is_served(job: type[Job]) -> None:
    assert [other.task for other in JOBS].count(job.task) == 1
    assert job.lane in LANES


@pytest.mark.parametrize("job", JOBS)
def test_every_job_can_be_had_at_the_door(job: type[Job]) -> None:
    assert getattr(vault, job.__name__) is job


def test_a_job_is_a_value() -> None:
    one = Refresh(UUID(int=1))
    assert one == Refresh(UUID(int=1))
    assert len({one, Refresh(UUID(int=1)), Refresh(UUID(int=2))}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.connection_id = UUID(int=2)  # type: ignore[misc]


def test_what_somebody_waits_for_comes_before_what_is_merely_due() -> None:
    assert LANES.index(Refresh.lane) < LANES.index(RefreshScan.lane) < LANES.index(Rewrap.lane)
