"""``evergrant stats`` and ``evergrant health``, for people and for machines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result

from tests.integration.house import House
from tests.simulator import SimulatorProcess
from vault.cli import EXIT_DEGRADED, EXIT_FAILED, EXIT_USAGE, main

Run = Callable[..., Result]
ID = str(UUID(int=1))


@pytest.fixture
def house(database_url: str, redis_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[House]:
    built = House(database_url, simulator, tmp_path, redis_url=redis_url)
    yield built
    built.close()


@pytest.fixture
def run(house: House) -> Run:
    nothing_else: dict[str, str | None] = {name: None for name in os.environ if name.startswith("VAULT_")}

    def run(*words: object) -> Result:
        runner = CliRunner(env={**nothing_else, **house.environment, "COLUMNS": "200"})
        return runner.invoke(main, [str(word) for word in words])

    return run


def _document(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_figures_for_machines(run: Run, house: House) -> None:
    house.connect()
    house.vault.store_api_key("k", provider="bank")
    told = _document(run("--json", "stats"))
    assert (told["tenant"], told["connections"], told["credentials"]) == (None, 1, 1)
    assert told["by_kind"] == {"api_key": 1, "oauth": 1}
    assert told["ends"]["within_7_days"] == told["refreshes"]["overdue"] == told["work"]["rotations"] == 0
    assert set(told["cache"]) == {"hits", "misses", "size"}
    assert told["health"] is None
    assert "mended" not in told
    assert _document(run("--json", "stats", "--tenant", "other"))["connections"] == 0


def test_figures_for_people(run: Run, house: House) -> None:
    first, _ = house.connect_many(2)
    for number in range(15):
        house.vault.store_api_key("k", provider=f"provider {number}")
    house.vault.disconnect(first)
    said = run("stats").stdout
    for words in ("all tenants", "connections 1", "1 active", "1 disconnected", "credentials 15", "15 api key",
                  "3 in 3 more", "within 7 days", "in flight", "looked at: never"):  # fmt: skip
        assert words in said, said
    run("health", "--all")
    assert "looked at 20" in run("stats").stdout
    assert "tenant other" in run("stats", "--tenant", "other").stdout


def test_nobody_is_called_a_star(run: Run) -> None:
    assert run("stats", "--tenant", "*").exit_code == EXIT_USAGE


def test_differences_are_added_up_on_demand(run: Run, house: House) -> None:
    house.connect()
    assert house.finds("SELECT * FROM evergrant.tally_change")
    assert _document(run("--json", "stats", "--fold"))["connections"] == 1
    assert not house.finds("SELECT * FROM evergrant.tally_change")


def test_a_recount_tells_what_it_mended(run: Run, house: House) -> None:
    house.connect()
    assert _document(run("--json", "stats", "--recount"))["mended"] == []
    house.sql("UPDATE evergrant.tally SET amount = 5 WHERE tenant = 'default'")
    told = _document(run("--json", "stats", "--recount"), EXIT_FAILED)
    assert {(each["tenant"], each["was"], each["amount"]) for each in told["mended"]} == {
        ("default", 5, 1),
        ("*", 1, 5),
    }
    assert told["connections"] == 1
    house.sql("UPDATE evergrant.tally SET amount = 5 WHERE tenant = 'default'")
    assert "mended: tenant default, what connection, provider acme" in run("stats", "--recount").stdout
    assert run("stats", "--recount").exit_code == 0


def test_health_of_one_connection(run: Run, house: House) -> None:
    made = house.connect()
    told = _document(run("--json", "health", made))
    assert (told["connection_id"], told["need"], told["well"], told["reachable"]) == (str(made), "nothing", True, True)
    house.sql("UPDATE evergrant.oauth_grant SET status = 'needs_reconnect', reason = 'invalid_grant'")
    told = _document(run("--json", "health", made), EXIT_DEGRADED)
    assert (told["need"], told["reason"]) == ("reconnect", "invalid_grant")
    said = run("health", made)
    assert said.exit_code == EXIT_DEGRADED
    assert "reconnect" in said.stdout
    assert run("health", uuid4()).exit_code == EXIT_FAILED


def test_health_of_all_connections(run: Run, house: House) -> None:
    house.connect_many(3)
    told = _document(run("--json", "health", "--all"))
    assert (told["connections"], told["well"], told["needs"]) == (3, 3, {"nothing": 3})
    assert told["ended_at"] > told["began_at"]
    house.sql("UPDATE evergrant.oauth_grant SET status = 'quarantined'")
    assert _document(run("--json", "health", "--all"), EXIT_DEGRADED)["needs"] == {"operator": 3}
    assert _document(run("--json", "health", "--all", "--tenant", "other"))["connections"] == 0


def test_health_of_the_system_has_numbers_too(run: Run, house: House) -> None:
    ill = _document(run("--json", "health"), EXIT_DEGRADED)
    assert (ill["status"], ill["healthy"], ill["alive"]) == ("degraded", False, [])
    house.worker.sign_of_life("celery@here", house.worker.settings.scan_interval * 10)
    told = _document(run("--json", "health"))
    assert (told["status"], told["healthy"], told["workers"], told["alive"]) == ("healthy", True, "ok", ["celery@here"])
    assert told["lag_s"] == 0.0
    assert told["audit_lag_s"] >= 0.0


@pytest.mark.parametrize("words", [("--all", ID), ("--tenant", "t"), (ID, "--tenant", "t")], ids=str)
def test_words_that_do_not_go_together(run: Run, words: tuple[str, ...]) -> None:
    result = run("health", *words)
    assert result.exit_code == EXIT_USAGE
    assert "Usage:" in result.stderr
