"""The Celery app and its one Task base.

Messages carry ids only; results are ignored; a message is acknowledged before its task runs, since losing one costs
latency and running one twice costs work. What cannot be done because PostgreSQL or the KMS is away is tried again by
Celery with exponential backoff; what a provider does not give is tried again by its row.
"""

from __future__ import annotations

import sys
import time
from typing import Any, get_args

import click
import structlog
from celery import Celery, Task
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.time import get_exponential_backoff_interval
from kombu import Exchange, Queue

import beat_schedule
from vault import LANES, ConfigurationError, Job, Rewrap, RotateDataKeys, RotateTenantKeys, Settings, VaultError
from worker import broker_guard, metrics, pool_guard

log = structlog.get_logger(__name__)

JOBS = get_args(Job)
DRAIN_S, HOLD_S, SLACK_S = 5.0, 120.0, 60.0
"""A drain claims for so long; its answers are held against a database that is away; and what nobody has thought of."""
SETTLING_S = 5.0
"""For the last answers to be stored, when a worker is told to end."""
REQUESTS_IN_A_ROW = 3
"""A scan waits for requests this often: for revocations, for what it sent itself, and for one suspect alone."""
SWEEP_LIMIT_S = 3600.0
"""For tasks that go over all keys. Each of their steps is a transaction: where the limit cuts, the next run goes on."""
GRACE_S = 30.0
"""Seconds between the soft limit, which a task can answer, and the hard one, which kills its process."""
VISIBILITY_S = 3600
RETRIES = 6
LONGEST_RETRY_S = 60

broker_guard.install()
pool_guard.install()


class Transient(Exception):  # a passing state, not an error of anybody's
    """Something we stand on is away; the task is tried again. Its text names the error, never a value."""


class VaultTask(Task):  # type: ignore[type-arg]  # celery-types makes Task generic over its parameters
    """Times every task, tells how it ended, and repeats it when the infrastructure was away.

    Outcomes: ``done``; ``retried``, something is away and Celery tries again; ``given_up``, the last of these tries,
    now it is up to the rows and to beat; ``cut_off``, by the time limit; ``failed``.
    """

    max_retries = RETRIES

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task."""
        began = time.monotonic()
        outcome = "failed"
        try:
            result = super().__call__(*args, **kwargs)
            outcome = "done"
        except VaultError as error:
            if not error.transient:
                raise
            outcome = "retried" if self.request.retries < RETRIES else "given_up"
            wait = get_exponential_backoff_interval(1, self.request.retries, LONGEST_RETRY_S, full_jitter=True)
            raise self.retry(exc=Transient(type(error).__name__), countdown=wait) from None
        except SoftTimeLimitExceeded:
            outcome = "cut_off"
            raise
        else:
            return result
        finally:
            seconds = time.monotonic() - began
            metrics.task_seconds.labels(self.name, outcome).observe(seconds)
            say = log.debug if outcome == "done" else log.info  # Celery itself says what went well
            say("task", task=self.name, outcome=outcome, seconds=round(seconds, 3))


def configuration() -> dict[str, Any]:
    """Return Celery's settings; asked for when Celery needs one, so that importing this module needs none of ours."""
    try:
        settings = Settings.load()
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    return {
        "broker_url": settings.redis_url.reveal(),
        "beat_schedule": beat_schedule.schedule(settings),
        **limits(settings.request_deadline_s),
        **FIXED,
    }


def limits(request_deadline_s: float) -> dict[str, Any]:
    """Return the time limits, above every deadline inside.

    Args:
        request_deadline_s: For one request to a provider, in seconds.
    """
    drained = DRAIN_S + REQUESTS_IN_A_ROW * request_deadline_s
    soft = drained + HOLD_S + SLACK_S
    sweep = {"soft_time_limit": SWEEP_LIMIT_S, "time_limit": SWEEP_LIMIT_S + GRACE_S}
    return {
        "task_soft_time_limit": soft,
        "task_time_limit": soft + GRACE_S,
        "task_annotations": dict.fromkeys((Rewrap.task, RotateDataKeys.task, RotateTenantKeys.task), sweep),
        "worker_soft_shutdown_timeout": drained + SETTLING_S,
    }


FIXED: dict[str, Any] = {
    "task_queues": [Queue(lane, Exchange(lane, type="direct"), routing_key=lane) for lane in LANES],
    "task_routes": {job.task: {"queue": job.lane} for job in JOBS},
    "task_default_queue": "maintenance",
    "task_create_missing_queues": False,
    "task_serializer": "json",
    "accept_content": ["json"],
    "task_ignore_result": True,
    "task_acks_late": False,
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_max_tasks_per_child": 2000,
    "worker_max_memory_per_child": 600_000,
    "worker_send_task_events": True,
    "beat_scheduler": "celery.beat:Scheduler",
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_transport_options": {
        "visibility_timeout": VISIBILITY_S,
        "queue_order_strategy": "priority",
        "socket_timeout": 15,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
    },
    "enable_utc": True,
    "timezone": "UTC",
}
"""What is not for setting: each value was measured or follows from the design.

``queue_order_strategy``: the broker is asked for ``urgent`` first each time. ``worker_disable_prefetch``: and only when
a process is free, so that nothing less pressing stands in line before it. ``worker_soft_shutdown_timeout`` counts for
SIGQUIT, and for SIGTERM with ``REMAP_SIGTERM=SIGQUIT`` in the environment: what was sent to a provider comes home, a
sweep over keys is cut off. Plain SIGTERM waits for every running task. ``beat_scheduler``: one that keeps no file.
"""

app = Celery("evergrant", task_cls=VaultTask)
app.add_defaults(configuration)
