"""Workers sign in the database, add up what is counted, and look at all connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.integration.worker.conftest import Running, System, wait_until
from vault import Cleanup, FoldStatistics, HealthCheckAll, Maintenance


@pytest.fixture
def operator(running: Running) -> Iterator[Maintenance]:
    with closing(Maintenance.from_env(running.system.environ)) as made:
        yield made


def test_a_worker_that_runs_is_alive(running: Running, operator: Maintenance) -> None:
    wait_until(lambda: operator.health_check().workers == ("worker@here",), 20, running.worker.last_words)
    assert operator.health_check().parts["workers"] == "ok"


def test_it_adds_up_differences_when_it_is_asked(running: Running, operator: Maintenance) -> None:
    def waiting() -> int:
        row = running.system.database.execute("SELECT count(*) FROM evergrant.tally_change").fetchone()
        return int(row[0]) if row else 0

    wait_until(lambda: operator.recount_statistics() == [], 10)
    running.system.connect(1)
    assert waiting()
    operator.ring(FoldStatistics())
    wait_until(lambda: waiting() == 0, 20, running.worker.last_words)


def test_it_looks_at_all_connections_when_it_is_asked(running: Running, operator: Maintenance) -> None:
    assert operator.statistics().health is None
    operator.ring(HealthCheckAll())
    wait_until(lambda: operator.statistics().health is not None, 20, running.worker.last_words)
    found = operator.statistics().health
    assert found is not None
    assert found.connections >= 10
    assert found.ended_at is not None


def test_it_goes_on_with_a_look_whose_message_was_lost(running: Running, operator: Maintenance) -> None:
    running.system.database.execute(
        "INSERT INTO evergrant.health_sweep AS h (tenant, began_at) VALUES ('*', now())"
        " ON CONFLICT (tenant) DO UPDATE SET began_at = now(), last_counts = NULL"
    )
    operator.ring(Cleanup())
    wait_until(lambda: operator.statistics().health is not None, 20, running.worker.last_words)


@pytest.mark.timeout(120)
def test_one_that_ends_signs_off_and_one_that_is_killed_falls_silent(system: System) -> None:
    with closing(Maintenance.from_env(system.environ)) as operator:
        first, second = system.worker("first"), system.worker("second")
        wait_until(lambda: operator.health_check().workers == ("first@here", "second@here"), 20)
        first.stop()
        wait_until(lambda: operator.health_check().workers == ("second@here",), 10, first.last_words)
        second.crash()
        assert operator.health_check().workers == ("second@here",), "it has said so a moment ago"
        system.database.execute("UPDATE evergrant.worker_sign SET alive_until = alive_until - interval '62 s'")
        wait_until(lambda: operator.health_check().workers == (), 10)
