"""How the system is: who is alive, what lags behind, what does not come on; each in words, and as a number."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from tests.integration.house import House
from tests.integration.waiting import until
from tests.simulator import SimulatorProcess
from vault import metrics

MINUTE = timedelta(minutes=1)


@pytest.fixture
def house(database_url: str, redis_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[House]:
    built = House(database_url, simulator, tmp_path, redis_url=redis_url)
    yield built
    built.close()


def part(house: House, name: str) -> str:
    return house.worker.health_check().parts[name]


def test_with_a_worker_all_is_well(house: House) -> None:
    house.worker.sign_of_life("celery@here", MINUTE)
    found = house.worker.health_check()
    assert (found.healthy, found.status) == (True, "healthy"), found.parts
    assert set(found.parts) == {
        "database", "redis", "kms", "spool", "events", "workers", "refreshes", "rotations", "audit",
    }  # fmt: skip
    assert (found.lag, found.workers) == (0.0, ("celery@here",))
    assert metrics.workers_alive._value.get() == 1


def test_without_a_worker_it_is_degraded(house: House) -> None:
    found = house.worker.health_check()
    assert (found.healthy, found.status, found.workers) == (False, "degraded", ())
    assert {name for name, word in found.parts.items() if word != "ok"} == {"workers"}
    assert "celery -A worker worker" in found.parts["workers"]


def test_a_worker_that_ends_or_falls_silent_is_not_alive(house: House) -> None:
    for name in ("one", "two", "three"):
        house.worker.sign_of_life(name, MINUTE)
    house.worker.sign_off("one")
    house.worker.sign_of_life("two", timedelta(seconds=0.05))
    until(lambda: house.worker.health_check().workers == ("three",))
    house.worker.sign_of_life("two", MINUTE)
    assert house.worker.health_check().workers == ("three", "two")


def test_signs_of_long_ago_are_forgotten(house: House) -> None:
    house.worker.sign_of_life("old", timedelta(days=-2))
    house.worker.sign_off("another")
    assert house.sql("SELECT node FROM evergrant.worker_sign") == []


def test_refreshes_that_are_late_have_a_lag(house: House) -> None:
    made = house.connect()
    house.make_due(made)
    house.pass_time(timedelta(seconds=30), made)
    found = house.worker.health_check()
    assert 29 < found.lag < 40
    assert found.parts["refreshes"] == "ok"
    house.pass_time(timedelta(seconds=60), made)
    assert "the oldest for 9" in part(house, "refreshes")


def test_an_audit_that_nobody_links_is_told(house: House) -> None:
    house.connect()
    assert 0 < house.worker.health_check().audit_lag < 20
    assert part(house, "audit") == "ok"
    house.sql("SET session_replication_role = replica")
    house.sql("UPDATE evergrant.audit SET at = at - interval '11 minutes'")
    house.sql("SET session_replication_role = origin")
    assert "was told 66" in part(house, "audit")
    assert 660 < metrics.audit_lag_seconds._value.get() < 700
    until(lambda: house.worker.audit.chain() and house.worker.health_check().audit_lag == 0)
    assert part(house, "audit") == "ok"


def test_an_audit_held_up_by_a_long_transaction_is_told(house: House) -> None:
    until(lambda: house.worker.audit.chain() == 0)
    with psycopg.connect(house.database_url) as elsewhere:
        elsewhere.execute("SELECT pg_current_xact_id()")
        house.connect()
        house.worker.audit.chain()
        assert house.worker.health_check().audit_lag > 0
    until(lambda: house.worker.audit.chain() or house.worker.health_check().audit_lag == 0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("attempt = 7", "1 rotations of credentials do not come on: evergrant audit tail"),
        ("next_at = now() - interval '11 min'", "one is due for 66"),
    ],
    ids=["tried in vain", "nobody takes it"],
)
def test_rotations_that_do_not_come_on_are_told(house: House, change: str, word: str) -> None:
    secret = house.vault.store_webhook_secret(provider="acme")
    house.vault.rotate(secret)
    assert part(house, "rotations") == "ok"
    house.sql(f"UPDATE evergrant.credential_rotation SET {change}, ended_at = NULL, step = 'create'")
    assert word in part(house, "rotations")
    assert metrics.rotations_stuck._value.get() == 1
    house.sql("UPDATE evergrant.credential_rotation SET ended_at = now()")
    assert part(house, "rotations") == "ok"
