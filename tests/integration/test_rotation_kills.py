"""Each rotation, killed wherever it can be, on real PostgreSQL: everything opens, and the next run finishes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.integration.house import House
from tests.rotation.processes import KILLED, RUNS, dying, start
from tests.simulator import SimulatorProcess
from tests.simulator.client import consent

VALUES = 3 * 2 + 1
"""Two tokens of each connection, and the metadata of one."""
WRITES = {
    # What each of them writes, so that a new way to die is noticed here.
    "rewrap": {"rewrap_tenant_key", "forget_former_keks"},
    "rotate tenant keys": {"replace_tenant_key", "rewrap_data_keys", "retire_unused_tenant_keys"},
    "rotate data keys": {"replace_data_keys", "reseal", "retire_unused_data_keys"},
}


@pytest.fixture
def house(database_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[House]:
    """Three owners under two tenants."""
    built = House(database_url, simulator, tmp_path, VAULT_ROTATION_RATE="1000000")
    built.connect("olga", metadata={"a": "b"})
    built.connect("nina")
    umbra = built.vault.for_tenant("umbra")
    flow = umbra.begin("acme", owner="per")
    answer = consent(flow.url)
    umbra.complete(state=answer["state"], code=answer["code"], issuer=answer.get("iss"))
    yield built
    built.close()


def assert_everything_opens(house: House) -> None:
    """By the eyes of a process that has just started."""
    worker = house.another_worker()
    assert worker.keys.verify()[1:] == (VALUES, 0, 0)
    worker.close()


def assert_nothing_is_left(house: House) -> None:
    """No key but those in use is needed for anything."""
    keys = house.worker.keys
    assert (keys.under_former_keks(), keys.under_replaced_data_keys()) == (0, 0)
    assert not house.finds(
        "SELECT 1 FROM evergrant.data_key d JOIN evergrant.tenant_key t ON t.id = d.tenant_key_id"
        " WHERE t.state <> 'current'"
    )


@pytest.mark.parametrize("work", RUNS)
def test_a_run_killed_anywhere_leaves_everything_open_and_the_next_one_finishes(house: House, work: str) -> None:
    """One process after another comes one point further, until one comes through; nobody who reads notices."""
    vaults = {"default": house.vault, "umbra": house.vault.for_tenant("umbra")}
    grants = house.sql("SELECT connection_id AS id, tenant FROM evergrant.oauth_grant ORDER BY connection_id")
    tokens = [vaults[each["tenant"]].get(each["id"]).access_token.reveal() for each in grants]
    died = Counter[str]()
    for fatal in count(1):
        if work == "rewrap":
            house.worker.keys.add_local_kek(f"kek-{fatal}", use=True)
        point = killed_at(house, work, fatal)
        if not point:
            break
        died[point] += 1
        assert_everything_opens(house)
        house.sql("UPDATE evergrant.tenant_key SET replaced_at = replaced_at - interval '2 h'")  # and so it is retired
        RUNS[work](house.worker)
        assert_nothing_is_left(house)
        assert [vaults[each["tenant"]].get(each["id"]).access_token.reveal() for each in grants] == tokens
    assert_everything_opens(house)
    assert set(died) == {f"{when}:{call}" for call in WRITES[work] for when in ("uncommitted", "after")}


def killed_at(house: House, work: str, fatal: int) -> str:
    """Run it in a process that dies at its ``fatal``-th point; returns which that was, or nothing: it came through."""
    running = start(dying, house.environment, work, fatal)
    point: str = running.line.recv()
    running.process.join(60)
    assert running.process.exitcode == (KILLED if point else 0)
    return point
