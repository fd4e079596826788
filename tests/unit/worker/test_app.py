"""The worker's contract: one task for each job, ids only, and settings that keep a refresh whole."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery.beat import ScheduleEntry
from celery.exceptions import SoftTimeLimitExceeded
from kombu.transport.redis import Channel
from prometheus_client import REGISTRY
from redis.exceptions import ConnectionError as RedisConnectionError

import beat_schedule
from vault import (
    LANES,
    AuditChain,
    Deliver,
    DeliveryTally,
    HealthCheckAll,
    Job,
    Migrate,
    RefreshScan,
    Rewrap,
    RotateDataKeys,
    RotateTenantKeys,
    Settings,
    StoreUnavailable,
    UnknownConnection,
)
from vault.engine.drain import Tally
from worker import broker_guard, tasks
from worker.app import DRAIN_S, HOLD_S, LONGEST_RETRY_S, RETRIES, VISIBILITY_S, Transient, VaultTask, app, limits

ENVIRON = {"VAULT_DATABASE_URL": "postgresql://db/x", "VAULT_REDIS_URL": "redis://redis:6379/0"}


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("job", Job.__args__, ids=lambda job: str(job.task))
def test_every_job_has_a_task_with_its_fields(job: type) -> None:
    task = app.tasks[job.task]  # type: ignore[attr-defined]
    fields = [field.name for field in dataclasses.fields(job)]
    assert list(inspect.signature(task.run).parameters) == fields
    assert app.conf.task_routes[task.name] == {"queue": job.lane}  # type: ignore[attr-defined]


def test_there_is_no_other_task() -> None:
    ours = {name for name in app.tasks if not name.startswith("celery.")}
    assert ours == {job.task for job in Job.__args__}


def test_every_lane_is_a_queue_of_its_own() -> None:
    """A message for one lane must not be delivered to the others."""
    queues = app.conf.task_queues
    assert [queue.name for queue in queues] == list(LANES)
    assert len({(queue.exchange.name, queue.routing_key) for queue in queues}) == len(LANES)


def test_what_protects_a_refresh_between_send_and_commit_is_set() -> None:
    conf = app.conf
    assert conf.worker_cancel_long_running_tasks_on_connection_loss is False
    assert conf.task_acks_late is False
    assert conf.worker_prefetch_multiplier == 1
    assert conf.accept_content == ["json"]
    assert conf.task_ignore_result is True
    assert conf.worker_disable_prefetch is True
    assert RETRIES * LONGEST_RETRY_S < VISIBILITY_S / 2


@pytest.mark.parametrize("deadline", [1.0, 10.0, 300.0])
def test_time_limits_are_above_every_deadline_inside(deadline: float) -> None:
    found = limits(deadline)
    soft = found["task_soft_time_limit"]
    assert DRAIN_S + deadline + HOLD_S < soft < found["task_time_limit"]
    assert found["worker_soft_shutdown_timeout"] >= DRAIN_S + deadline


def test_sweeps_over_all_keys_have_the_time_of_their_interval() -> None:
    tasks_of_hours = limits(10.0)["task_annotations"]
    assert set(tasks_of_hours) == {Rewrap.task, RotateDataKeys.task, RotateTenantKeys.task}
    assert {each["soft_time_limit"] for each in tasks_of_hours.values()} == {
        Settings.model_fields["rewrap_interval_s"].default
    }


class _Scanning:
    """A ``Maintenance`` that finds so much, and notes what it is asked to ring."""

    def __init__(self, *, backlog: bool, news: bool) -> None:
        self.tally = Tally(1, 1, {}, settled=True, backlog=backlog, news=news)
        self.rung: list[Job] = []

    def refresh_scan(self) -> Tally:
        return self.tally

    def refresh(self, connection_id: str) -> Tally:
        return self.tally

    def deliver(self) -> DeliveryTally:
        return DeliveryTally({}, self.tally.backlog)

    def ring(self, job: Job) -> None:
        self.rung.append(job)


@pytest.mark.parametrize("news", [False, True])
@pytest.mark.parametrize("backlog", [False, True])
def test_a_scan_cut_off_by_its_budget_rings_again_and_one_with_something_to_tell_rings_for_that(
    monkeypatch: pytest.MonkeyPatch, backlog: bool, news: bool
) -> None:
    found = _Scanning(backlog=backlog, news=news)
    monkeypatch.setattr(tasks, "maintenance", lambda: found)
    tasks.refresh_scan()
    assert found.rung == [RefreshScan()] * backlog + [Deliver()] * news
    found.rung.clear()
    tasks.refresh("an id")
    assert found.rung == [Deliver()] * news
    found.rung.clear()
    tasks.deliver()
    assert found.rung == [Deliver()] * backlog


class _Migrating:
    """A ``Maintenance`` with a migration that is not at its end."""

    def __init__(self, *, more: bool) -> None:
        self.more = more
        self.rung: list[Job] = []

    def migrate_slice(self, name: str) -> bool:
        return self.more

    def unfinished_migrations(self) -> list[str]:
        return ["old"] if self.more else []

    def cleanup(self) -> None: ...

    def unfinished_health_check(self) -> bool:
        return False

    def ring(self, job: Job) -> None:
        self.rung.append(job)


@pytest.mark.parametrize(("more", "rung"), [(True, [Migrate("old")]), (False, [])])
def test_a_migration_rings_again_until_it_is_done_and_clean_up_rings_for_it_when_that_was_lost(
    monkeypatch: pytest.MonkeyPatch, more: bool, rung: list[Job]
) -> None:
    found = _Migrating(more=more)
    monkeypatch.setattr(tasks, "maintenance", lambda: found)
    tasks.migrate("old")
    assert found.rung == rung
    tasks.cleanup()
    assert found.rung == rung * 2


class _Looking(_Migrating):
    """A ``Maintenance`` with connections that were not looked at."""

    def unfinished_migrations(self) -> list[str]:
        return []

    def health_check_slice(self) -> bool:
        return self.more

    def unfinished_health_check(self) -> bool:
        return self.more


@pytest.mark.parametrize("more", [True, False])
def test_a_look_at_all_connections_rings_again_until_it_is_done_and_clean_up_rings_for_it_when_that_was_lost(
    monkeypatch: pytest.MonkeyPatch, more: bool
) -> None:
    found = _Looking(more=more)
    monkeypatch.setattr(tasks, "maintenance", lambda: found)
    tasks.health_check_all()
    assert found.rung == [HealthCheckAll()] * more
    tasks.cleanup()
    assert found.rung == [HealthCheckAll()] * more * 2


class _Chaining:
    """A ``Maintenance`` with more to link than one task has time for."""

    def __init__(self, *, more: bool) -> None:
        self.more = more
        self.rung: list[Job] = []

    @property
    def audit(self) -> _Chaining:
        return self

    def chain_slice(self, budget: timedelta) -> bool:
        assert budget < timedelta(seconds=60)
        return self.more

    def ring(self, job: Job) -> None:
        self.rung.append(job)


@pytest.mark.parametrize(("more", "rung"), [(True, [AuditChain()]), (False, [])])
def test_chaining_cut_off_by_its_budget_rings_again(
    monkeypatch: pytest.MonkeyPatch, more: bool, rung: list[Job]
) -> None:
    found = _Chaining(more=more)
    monkeypatch.setattr(tasks, "maintenance", lambda: found)
    tasks.audit_chain()
    assert found.rung == rung


def test_a_passing_trouble_is_retried_and_a_lasting_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(error: Exception) -> object:
        class Broken:
            def refresh(self, connection_id: str) -> None:
                raise error

        return lambda: Broken()

    monkeypatch.setattr(tasks, "maintenance", raises(StoreUnavailable("db:5432", "refused")))
    with pytest.raises(Transient, match="StoreUnavailable"):
        tasks.refresh("id")
    monkeypatch.setattr(tasks, "maintenance", raises(UnknownConnection("id")))
    with pytest.raises(UnknownConnection):
        tasks.refresh("id")


@pytest.mark.parametrize(("error", "tries", "outcome"), [
    (None, 0, "done"),
    (StoreUnavailable("db:5432", "refused"), 0, "retried"),
    (StoreUnavailable("db:5432", "refused"), RETRIES, "given_up"),
    (SoftTimeLimitExceeded(), 0, "cut_off"),
    (UnknownConnection("id"), 0, "failed"),
])  # fmt: skip
def test_every_end_of_a_task_is_counted_and_timed(error: Exception | None, tries: int, outcome: str) -> None:
    def body() -> None:
        if error is not None:
            raise error

    name = f"test.{outcome}"
    task = app.task(name=name)(body)
    try:
        task.push_request(retries=tries, called_directly=False, is_eager=True)
        with contextlib.suppress(Exception):
            task()
    finally:
        task.pop_request()
        app.tasks.pop(name)
    assert isinstance(task, VaultTask)
    labels = {"task": name, "outcome": outcome}
    assert REGISTRY.get_sample_value("evergrant_task_seconds_count", labels) == 1


def test_beat_rings_for_what_the_settings_say() -> None:
    schedule = beat_schedule.schedule(Settings.load({**ENVIRON, "VAULT_SCAN_INTERVAL_S": "7"}))
    entry = schedule[RefreshScan.task]
    assert entry["schedule"] == 7.0
    assert entry["options"] == {"queue": "refresh", "expires": 7.0}  # so that a backlog of ticks does not pile up
    assert set(schedule) < {job.task for job in Job.__args__}


def test_beat_begins_with_everything_since_it_keeps_no_file() -> None:
    """A beat restarted more often than the longest interval would never ring for that otherwise."""
    schedule = beat_schedule.schedule(Settings.load(ENVIRON))
    entries = [ScheduleEntry(name=name, app=app, **entry) for name, entry in schedule.items()]  # type: ignore[arg-type]
    assert all(entry.is_due()[0] for entry in entries)
    assert not any(entry.next().is_due()[0] for entry in entries)
    assert app.conf.beat_scheduler == "celery.beat:Scheduler"


@pytest.mark.parametrize("connection", [None, SimpleNamespace(client=None)], ids=["closed", "closing"])
def test_a_closed_channel_is_a_connection_error(connection: object) -> None:
    """kombu 5.7.0 raises AttributeError there, which ends the worker."""
    broker_guard.install()
    channel: Any = Channel.__new__(Channel)
    channel.connection = connection
    with pytest.raises(RedisConnectionError):
        getattr(channel, broker_guard.METHOD)()
