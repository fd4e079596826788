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
from celery.utils.time import get_exponential_backoff_interval
from kombu import Exchange, Queue

import beat_schedule
from vault import LANES, ConfigurationError, Job, Settings, VaultError
from worker import broker_guard, metrics

log = structlog.get_logger(__name__)

JOBS = get_args(Job)
SOFT_LIMIT_S, HARD_LIMIT_S = 240, 300
"""Above every deadline inside: a drain claims for 5 s, waits 10 s for answers, and holds them for 120 s at most."""
VISIBILITY_S = 3600
RETRIES = 6
LONGEST_RETRY_S = 60

broker_guard.install()


class Transient(Exception):  # a passing state, not an error of anybody's
    """Something we stand on is away; the task is tried again. Its text names the error, never a value."""


class VaultTask(Task):  # type: ignore[type-arg]  # celery-types makes Task generic over its parameters
    """Times every task, tells how it ended, and repeats it when the infrastructure was away."""

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
            outcome = "retried"
            wait = get_exponential_backoff_interval(1, self.request.retries, LONGEST_RETRY_S, full_jitter=True)
            raise self.retry(exc=Transient(type(error).__name__), countdown=wait) from None
        else:
            return result
        finally:
            seconds = time.monotonic() - began
            metrics.task_seconds.labels(self.name, outcome).observe(seconds)
            log.info("task", task=self.name, outcome=outcome, seconds=round(seconds, 3))


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
        **FIXED,
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
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_max_tasks_per_child": 2000,
    "worker_max_memory_per_child": 600_000,
    "worker_send_task_events": True,
    "task_soft_time_limit": SOFT_LIMIT_S,
    "task_time_limit": HARD_LIMIT_S,
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
"""What is not for setting: each value was measured or follows from the design."""

app = Celery("evergrant", task_cls=VaultTask)
app.add_defaults(configuration)
