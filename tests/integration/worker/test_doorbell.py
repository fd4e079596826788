"""The queue is a doorbell: due refreshes are made with no beat, with three, and without Redis."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis

from tests.integration.worker.conftest import System, wait_until
from vault import Refresh

SCAN_S, SLACK_S = 1.0, 5.0


@pytest.mark.timeout(120)
def test_the_pulse_finds_due_rows_without_beat(system: System) -> None:
    """No beat runs; what falls due is refreshed within a scan interval and five seconds."""
    system.connect(20)
    worker = system.worker()
    system.make_due()
    took = wait_until(lambda: system.due() == 0, 30, worker.last_words)
    assert took <= SCAN_S + SLACK_S
    assert len(system.oracle.presented()) == 20


@pytest.mark.timeout(120)
def test_three_beats_and_two_workers_spend_no_token_twice(system: System) -> None:
    """However often the bell rings, each refresh token is sent once."""
    system.connect(40)
    workers = [system.worker("one"), system.worker("two")]
    for number in range(3):
        system.celery(
            f"beat-{number}", "beat", "--schedule", str(system.home.path / f"beat{number}"), "--pidfile="
        ).start()
    for _ in range(3):
        system.make_due()
        wait_until(lambda: system.due() == 0, 30, workers[0].last_words)
    assert set(system.oracle.presented().values()) == {1}
    assert len(system.oracle.presented()) == 120


@pytest.mark.timeout(120)
def test_without_redis_refreshes_go_on(system: System) -> None:
    """Redis dies and stays dead: the pulse notices that nobody answers and refreshes in a process of its own."""
    system.connect(10)
    worker = system.worker()
    system.redis.crash()
    system.make_due()
    took = wait_until(lambda: system.due() == 0, 60, worker.last_words)
    assert took <= 30
    assert worker.running


@pytest.mark.timeout(120)
def test_an_urgent_refresh_is_made_at_once(system: System) -> None:
    """``enqueue()`` gets a new token although nothing is due."""
    (connection_id,) = system.connect(1)
    worker = system.worker()
    before = system.vault.get(connection_id)
    system.vault.enqueue(Refresh(connection_id))
    wait_until(lambda: system.vault.get(connection_id).access_token != before.access_token, 10, worker.last_words)


@pytest.mark.timeout(120)
def test_a_worker_outlives_its_connections_to_redis(system: System) -> None:
    """Redis drops every connection again and again while tasks run; the same worker process goes on."""
    system.connect(10)
    worker = system.worker()
    pid = worker.pid
    with redis.Redis.from_url(system.redis.url) as client:
        for _ in range(8):
            system.make_due()
            system.vault.enqueue(Refresh(system.vault.connections(limit=1)[0].id))
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            wait_until(lambda: system.due() == 0, 30, worker.last_words)
    assert worker.running
    assert worker.pid == pid


@pytest.mark.timeout(120)
def test_sigterm_brings_home_what_was_sent(system: System) -> None:
    """A worker told to end while the provider takes its time stores the answer first."""
    (connection_id,) = system.connect(1)
    before = system.vault.connection(connection_id).refreshed_at
    worker = system.worker()
    system.provider.configure("acme", latency=2.0)
    system.make_due()
    wait_until(lambda: bool(_leased(system)), 20, worker.last_words)
    worker.stop()
    after = system.vault.connection(connection_id)
    assert after.refreshed_at is not None
    assert before is not None
    assert after.refreshed_at > before + timedelta(0)
    assert not _leased(system)


def _leased(system: System) -> list[tuple[object, ...]]:
    return system.database.execute("SELECT 1 FROM evergrant.schedule WHERE lease_until > now()").fetchall()
