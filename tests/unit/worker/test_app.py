"""The worker's contract: one task for each job, ids only, and settings that keep a refresh whole."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
from kombu.transport.redis import Channel
from redis.exceptions import ConnectionError as RedisConnectionError

import beat_schedule
from vault import LANES, Job, RefreshScan, Settings, StoreUnavailable, UnknownConnection
from worker import broker_guard, tasks
from worker.app import HARD_LIMIT_S, LONGEST_RETRY_S, RETRIES, SOFT_LIMIT_S, VISIBILITY_S, Transient, app

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
    assert SOFT_LIMIT_S < HARD_LIMIT_S < VISIBILITY_S
    assert RETRIES * LONGEST_RETRY_S < VISIBILITY_S / 2


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


def test_beat_rings_for_what_the_settings_say() -> None:
    schedule = beat_schedule.schedule(Settings.load({**ENVIRON, "VAULT_SCAN_INTERVAL_S": "7"}))
    entry = schedule[RefreshScan.task]
    assert entry["schedule"] == 7.0
    assert entry["options"] == {"queue": "refresh", "expires": 7.0}
    assert set(schedule) < {job.task for job in Job.__args__}


def test_a_closed_channel_is_a_connection_error() -> None:
    """kombu 5.7.0 raises AttributeError there, which ends the worker."""
    broker_guard.install()

    class Connection:
        client = None

    channel = Channel.__new__(Channel)
    channel.connection = Connection()  # type: ignore[assignment]  # as a closed one looks
    with pytest.raises(RedisConnectionError):
        getattr(channel, broker_guard.METHOD)()
