"""The checker has teeth: each thing it promises to see is done once, to a system that was well a moment before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
import requests
from psycopg.types.json import Jsonb

from tests.chaos.campaign import restless
from tests.chaos.checker import Findings, check
from tests.integration.house import House
from tests.simulator import SimulatorProcess
from tests.simulator.client import consent

Build = Callable[[str], "Scene"]


class Scene:
    """One owner, connected and refreshed once."""

    def __init__(self, house: House, *, strict: bool) -> None:
        self.house, self._strict = house, strict
        self.owner = f"owner-{uuid4().hex[:8]}"
        start = house.vault.begin("acme", owner=self.owner)
        answer = consent(f"{start.url}&login_hint={self.owner}")
        made = house.vault.complete(state=answer["state"], code=answer["code"], issuer=answer.get("iss"))
        self.id: UUID = made.id
        self.refresh()

    def refresh(self) -> None:
        self.house.make_due(self.id)
        self.house.worker.refresh_scan()

    def tokens(self) -> list[str]:
        """Every refresh token the provider gave, oldest first."""
        return [*self.house.oracle.lineage(self.owner)]

    def tell(self, endpoint: str, token: str, **members: str) -> None:
        """Speak to the provider past Evergrant."""
        form = {"token": token, "refresh_token": token, **members}
        us = ("evergrant", "cnry-cs-simulator")
        requests.post(self.house.simulator.uri(self.house.far_side, endpoint), form, auth=us, timeout=10)

    def log(self, event: str, **detail: str) -> None:
        """Write an audit row that Evergrant did not write."""
        statement = "INSERT INTO evergrant.audit (tenant, event, connection_id, detail) VALUES ('default', %s, %s, %s)"
        self.house.sql(statement, (event, self.id, Jsonb(detail)))

    def findings(self) -> Findings:
        return check(self.house.environment, self.house.oracle, strict=self._strict)


@pytest.fixture
def scene(database_url: str, tmp_path: Path) -> Iterator[Build]:
    houses: list[House] = []
    with SimulatorProcess(tmp_path / "journal.jsonl") as simulator:

        def build(rotation: str) -> Scene:
            houses.append(House(database_url, simulator, tmp_path, rotation=rotation))
            return Scene(houses[-1], strict=rotation == "strict")

        yield build
        for house in houses:
            house.close()


@pytest.mark.parametrize("rotation", ["strict", "grace"])
def test_nothing_is_found_where_nothing_happened(scene: Build, rotation: str) -> None:
    found = scene(rotation).findings()
    assert found.problems == []
    assert (found.connections, found.refreshes, found.lost, found.lost_answers) == (1, 1, 0, 0)


def test_a_token_that_was_never_issued(scene: Build) -> None:
    here = scene("grace")
    here.log("oauth.refreshed", refresh="ff" * 16, parent="ee" * 16)
    assert "never issued" in here.findings().problems[0]


def test_a_refresh_token_sent_after_its_successor_was_stored(scene: Build) -> None:
    here = scene("grace")
    here.house.simulator.advance(1)
    here.tell("token", here.tokens()[0], grant_type="refresh_token")
    assert any("after its successor was stored" in problem for problem in here.findings().problems)


def test_a_loss_that_was_not_told(scene: Build) -> None:
    here = scene("strict")
    here.house.fault("drop_after")
    here.refresh()
    found = here.findings()
    assert (found.lost, found.lost_answers) == (0, 1)
    assert any("1 consents with an answer not stored, 0 flagged" in problem for problem in found.problems)


def test_a_loss_that_was_told_is_no_problem(scene: Build) -> None:
    here = scene("strict")
    here.house.fault("drop_after")
    here.refresh()
    here.refresh()
    found = here.findings()
    assert here.house.state(here.id) == ("needs_reconnect", "answer_lost")
    assert (found.lost, found.lost_answers, found.problems) == (1, 1, [])


def test_a_loss_that_was_told_and_was_none(scene: Build) -> None:
    here = scene("grace")
    here.log("connection.needs_reconnect")
    assert any("flagged 1 times, 0 of them" in problem for problem in here.findings().problems)


def test_a_grant_that_is_dead_at_the_provider_and_well_here(scene: Build) -> None:
    here = scene("strict")
    here.tell("revoke", here.tokens()[-1])
    assert any("dead at the provider" in problem for problem in here.findings().problems)


def test_a_row_that_holds_a_token_nobody_accepts(scene: Build) -> None:
    """The provider has moved on, and we have not noticed."""
    here = scene("strict")
    here.tell("token", here.tokens()[-1], grant_type="refresh_token")
    assert any("with a token it does not accept" in problem for problem in here.findings().problems)


def test_a_token_that_was_about_to_be_sent_is_not_at_rest(scene: Build) -> None:
    """Whoever claimed it may have died; until the lease is over everything else looks well."""
    here = scene("strict")
    here.house.sql("UPDATE evergrant.schedule SET intent_at = now(), intent_fp = %s", (b"f" * 16,))
    with psycopg.connect(here.house.environment["VAULT_DATABASE_URL"], autocommit=True) as database:
        before, now = next(database.execute("SELECT now() - interval '1 min', now()"))
        assert restless(database, before) == []
        assert len(restless(database, now)) == 1
