"""``evergrant client``: secrets go in and never come out, nor do they ever stand in a command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.integration.house import House
from tests.simulator import SimulatorProcess
from vault.cli import EXIT_FAILED, EXIT_USAGE, main

CHECKOUT = Path(__file__).resolve().parents[2]
OURS, OLD, NEW = "evergrant", "cnry-cs-simulator", "cnry-cs-the-new-one"


@pytest.fixture
def house(database_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[House]:
    built = House(database_url, simulator, tmp_path)
    for part in ("ID", "SECRET"):
        del built.environment[f"VAULT_CLIENT_ACME_{part}"]
    yield built
    built.close()


def run(house: House, *words: str, given: str | None = None) -> Result:
    result = CliRunner(env={**house.environment}).invoke(main, ["--json", "client", *words], input=given)
    assert OLD not in result.output
    assert NEW not in result.output
    return result


def said(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_secret_comes_from_stdin_or_a_file(house: House) -> None:
    made = {"provider": "acme", "client_id": OURS, "generation": 1}
    assert said(run(house, "set", "acme", OURS, given=f"{OLD}\n")) == made
    assert house.connect(), "without the line's end"
    file = house.home / "secret"
    file.write_text(f"{NEW}\n")
    assert said(run(house, "set", "acme", OURS, "--secret-file", str(file))) == made
    assert said(run(house, "set", "acme", OURS, "--secret-file", "-", given=OLD)) == made
    [listed] = said(run(house, "list"))
    assert (listed["where"], listed["current"], listed["secrets"], listed["grants"]) == ("store", True, 2, 1)
    assert said(run(house, "end-roll", "acme", OURS))["secrets"] == 1
    assert said(run(house, "set", "acme", "another", "--public"))["generation"] == 2
    shown = CliRunner(env={**house.environment}).invoke(main, ["client", "list"])
    assert "another" in shown.output
    assert OLD not in shown.output


def test_no_secret_is_taken_from_a_command_line(house: House) -> None:
    for words in ((), ("--secret",)):
        assert run(house, "set", "acme", OURS, *words, "typed").exit_code == EXIT_USAGE
    assert said(run(house, "list")) == []


@pytest.mark.parametrize(
    ("words", "given", "told"),
    [
        (("set", "acme", OURS), "", "empty"),
        (("set", "acme", OURS), "\n", "empty"),
        (("set", "acme", OURS, "--secret-file", "/no/such/file"), None, "cannot be read"),
        (("set", "acme", OURS, "--public", "--secret-file", "-"), OLD, "public"),
        (("set", "spootify", OURS), OLD, "unknown provider"),
        (("end-roll", "acme", OURS), None, "evergrant client list"),
        (("remove", "acme", OURS), None, "evergrant client list"),
    ],
)
def test_what_cannot_be_done_is_said(house: House, words: tuple[str, ...], given: str | None, told: str) -> None:
    result = run(house, *words, given=given)
    assert result.exit_code in (EXIT_FAILED, EXIT_USAGE)
    assert told in result.stderr
    assert said(run(house, "list")) == []


def test_removing_is_refused_while_grants_need_it(house: House) -> None:
    said(run(house, "set", "acme", OURS, given=OLD))
    house.connect()
    refused = run(house, "remove", "acme", OURS)
    assert refused.exit_code == EXIT_FAILED
    assert "1 grants" in refused.stderr
    assert said(run(house, "remove", "acme", OURS, "--force"))["grants_that_needed_it"] == 1


def test_as_a_program_nothing_it_logs_or_shows_holds_a_secret(house: House) -> None:
    """Nor when the KMS is away."""
    command = [sys.executable, "-m", "vault.cli", "client", "set", "acme", OURS]
    for secret, code in ((NEW, 0), (OLD, EXIT_FAILED)):
        done = subprocess.run(
            command, cwd=CHECKOUT, env=house.environment, input=secret, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code, done.stderr
        assert secret not in done.stdout + done.stderr
        assert ("KeyUnavailable" in done.stderr) is (code != 0)
        (house.home / "keyring.json").rename(house.home / "hidden.json")
