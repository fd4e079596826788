"""Each provider's way of speaking, from the consent to the end of the grant, with the row that comes with us."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import requests

from tests.integration.dialects import CASES, Case, registry
from tests.integration.house import House
from tests.simulator import SimulatorProcess
from tests.simulator.client import consent
from vault import Connection, Status

DEFAULT_LIFE = 3600.0
SLACK = timedelta(minutes=2)
"""What instants may differ by: clocks are the database's, the provider's and ours, and this machine may be busy."""


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    """One whose clock nobody moves."""
    with SimulatorProcess(tmp_path_factory.mktemp("dialects") / "journal.jsonl") as process:
        yield process


@pytest.fixture(scope="module")
def house(
    module_database_url: str, simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    home = tmp_path_factory.mktemp("house")
    clients = {f"VAULT_CLIENT_{case.name.upper()}_{what}": said for case in CASES
               for what, said in (("ID", "evergrant"), ("SECRET", "cnry-cs-simulator"))}  # fmt: skip
    built = House(module_database_url, simulator, home)
    built.environment |= clients
    file = home / "providers.toml"
    file.write_text(f"{file.read_text()}\n{registry(simulator.base_uri, CASES)}")
    for case in CASES:
        simulator.configure(case.name, **case.speaks)
    yield built
    built.close()


def connect(house: House, case: Case, owner: str = "olga") -> Connection:
    start = house.vault.begin(case.name, owner=owner, **case.begin)
    said = consent(f"{start.url}&login_hint={owner}")
    return house.vault.complete(state=said["state"], code=said["code"], issuer=said["iss"], parameters=said)


def works(house: House, case: Case, connection_id: UUID) -> bool:
    headers = house.vault.get(connection_id).headers()
    return requests.get(house.simulator.uri(case.name, "api"), headers=headers, timeout=10).ok


def near(found: datetime | None, seconds: float) -> bool:
    return found is not None and abs(found - datetime.now(UTC) - timedelta(seconds=seconds)) < SLACK


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_grant_lives_and_dies_in_its_provider_s_dialect(house: House, case: Case) -> None:
    connection = connect(house, case)
    assert house.vault.metadata(connection.id) == case.metadata
    assert connection.account == case.account
    assert works(house, case, connection.id)
    assert near(connection.expires_at, case.life or DEFAULT_LIFE)
    before = house.vault.get(connection.id).access_token

    for _ in range(2):
        house.make_due(connection.id)
        assert house.worker.refresh_scan().refreshed == 1
    assert works(house, case, connection.id)
    refreshed = house.vault.connection(connection.id)
    assert refreshed.status is Status.ACTIVE
    assert near(refreshed.expires_at, case.life or DEFAULT_LIFE)
    assert (house.vault.get(connection.id).access_token == before) is (case.name == "coros"), "only COROS keeps it"
    if case.ends_in is not None:
        assert near(refreshed.grant_ends_at, case.ends_in) or near(connection.grant_ends_at, case.ends_in)

    house.simulator.kill_account(case.name, "olga")
    house.make_due(connection.id)
    house.worker.refresh_scan()
    dead = house.vault.connection(connection.id)
    assert (dead.status is Status.NEEDS_RECONNECT) is case.dies, dead.reason
