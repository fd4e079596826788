"""kombu 5.7.0 ends its worker when Redis drops a connection while a message is unacknowledged; our guard keeps it."""

from __future__ import annotations

from importlib.metadata import version

import pytest
import redis
from celery import Celery

from tests.demo.services import Service
from tests.integration.worker.conftest import System, wait_until
from worker.broker_guard import AFFECTED

APP = "tests.integration.worker.late_app"


@pytest.mark.timeout(120)
def test_with_the_guard_the_worker_goes_on(system: System) -> None:
    worker = system.worker(app=APP)
    _drop_connections_under_an_unacknowledged_message(system, worker)
    _send(system, 0.0)
    wait_until(lambda: worker.log.read_bytes().count(b"late.work ended") >= 2, 30, worker.last_words)
    assert worker.running


@pytest.mark.skipif(version("kombu") != AFFECTED, reason="only this version needs the guard")
@pytest.mark.timeout(120)
def test_without_the_guard_it_dies(system: System) -> None:
    """If this fails, the guard has become needless: remove it."""
    worker = system.worker(app=APP, UNGUARDED="1")
    _drop_connections_under_an_unacknowledged_message(system, worker)
    wait_until(lambda: not worker.running, 30, worker.last_words)
    assert "object has no attribute 'hostname'" in worker.log.read_text()


def _drop_connections_under_an_unacknowledged_message(system: System, worker: Service) -> None:
    _send(system, 1.5)
    wait_until(lambda: worker.has_said(b"late.work began"), 20, worker.last_words)
    with redis.Redis.from_url(system.redis.url) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def _send(system: System, seconds: float) -> None:
    with Celery(broker=system.redis.url, set_as_current=False) as app:
        app.send_task("late.work", args=[seconds], queue="maintenance", ignore_result=True)
