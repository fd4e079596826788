"""The queue is a doorbell: due refreshes are made with no beat, with three, and without Redis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from uuid import uuid4

import pytest
import redis

from tests.integration.worker.conftest import SCAN_S, Running, System, wait_until
from vault import Maintenance, Refresh, RefreshScan

SLACK_S = 5.0


@pytest.mark.timeout(120)
def test_the_pulse_finds_due_rows_without_beat(running: Running) -> None:
    """No beat runs; what falls due is refreshed within a scan interval and five seconds."""
    system, worker, ids = running
    before = len(system.oracle.presented())
    system.make_due()
    took = wait_until(lambda: system.due() == 0, 30, worker.last_words)
    assert took <= SCAN_S + SLACK_S
    assert len(system.oracle.presented()) == before + len(ids)


@pytest.mark.timeout(120)
def test_an_urgent_refresh_is_made_at_once(running: Running) -> None:
    """``enqueue()`` gets a new token although nothing is due."""
    system, worker, ids = running
    before = system.vault.get(ids[0])
    system.vault.enqueue(Refresh(ids[0]))
    wait_until(lambda: system.vault.get(ids[0]).access_token != before.access_token, 10, worker.last_words)


@pytest.mark.timeout(120)
def test_the_pulse_survives_the_forks_around_it(running: Running) -> None:
    """Each task's process is replaced by a fork of the main process, pulse and its connection and all."""
    system, worker, _ = running
    for _round in range(4):
        system.make_due()
        wait_until(lambda: system.due() == 0, 30, worker.last_words)
    log = worker.log.read_text()
    assert "pulse.missed" not in log
    assert "pulse.failed" not in log
    assert len(set(re.findall(r"ForkPoolWorker-(\d+)", log))) > 2
    assert set(system.oracle.presented().values()) == {1}


@pytest.mark.timeout(120)
def test_a_worker_outlives_its_connections_to_redis(running: Running) -> None:
    """Redis drops every connection again and again while tasks run; the same worker process goes on."""
    system, worker, ids = running
    pid = worker.pid
    with redis.Redis.from_url(system.redis.url) as client:
        for _ in range(4):
            system.make_due()
            system.vault.enqueue(Refresh(ids[0]))
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            wait_until(lambda: system.due() == 0, 30, worker.last_words)
    assert worker.running
    assert worker.pid == pid


@pytest.mark.timeout(120)
def test_three_beats_spend_no_token_twice(system: System) -> None:
    """However often the bell rings, each refresh token is sent once; one beat's clock is an hour slow."""
    system.connect(20)
    worker = system.worker()
    for number, module in enumerate(("celery", "celery", "tests.integration.worker.slow_clock")):
        system.python(f"beat-{number}", module, "-A", "worker", "beat", "--pidfile=", "--loglevel", "INFO").start()
    for _ in range(3):
        system.make_due()
        wait_until(lambda: system.due() == 0, 30, worker.last_words)
    assert set(system.oracle.presented().values()) == {1}
    assert len(system.oracle.presented()) == 60


@pytest.mark.timeout(120)
def test_without_redis_refreshes_go_on(system: System) -> None:
    """Redis is away before the worker starts: the pulse notices that nobody answers and refreshes in its own process.

    Such a worker is live, so that nobody restarts it, and not ready.
    """
    system.connect(10)
    system.redis.crash()
    worker = system.start_worker()
    system.make_due()
    wait_until(lambda: system.due() == 0, 60, worker.last_words)
    assert worker.running
    assert system.signs() == (True, False)
    assert worker.log.read_bytes().count(b"pulse.helps_itself") == 1
    assert set(system.oracle.presented().values()) == {1}


@pytest.mark.timeout(120)
def test_what_is_urgent_waits_for_nothing_but_what_runs(system: System) -> None:
    """While the worker's one process is busy others ring; urgent messages that came last are taken first."""
    system.connect(1)
    worker = system.worker("worker", "--concurrency", "1")
    system.provider.configure("acme", latency=1.5)
    system.make_due()
    wait_until(system.leased, 20, worker.last_words)
    maintenance = Maintenance.from_env(system.environ)
    for job in (RefreshScan(), RefreshScan(), RefreshScan(), Refresh(uuid4()), Refresh(uuid4())):
        maintenance.ring(job)
    maintenance.close()
    wait_until(lambda: len(_received(worker.log.read_text())) >= 6, 20, worker.last_words)
    assert _received(worker.log.read_text())[:4] == ["refresh_scan", "refresh", "refresh", "refresh_scan"]


def _received(log: str) -> Sequence[str]:
    return re.findall(r"Task vault\.(\w+)\[[-0-9a-f]+\] received", log)
