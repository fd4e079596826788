"""``evergrant session``: a token comes out once, and goes in by stdin or a file, never by a command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from tests.integration.house import House
from tests.simulator import SimulatorProcess
from vault.cli import EXIT_FAILED, EXIT_USAGE, main

Run = Callable[..., Result]


@pytest.fixture
def house(database_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[House]:
    built = House(database_url, simulator, tmp_path, VAULT_SESSION_ROUNDS="4")
    yield built
    built.close()


def run(house: House, *words: str, given: str | None = None) -> Result:
    return CliRunner(env={**house.environment, "COLUMNS": "200"}).invoke(main, words, input=given)


def said(house: House, *words: str, given: str | None = None) -> Any:
    result = run(house, "--json", "session", *words, given=given)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_session_is_tried_out_from_its_making_to_its_end(house: House) -> None:
    terms = ("--subscription", "plus", "--scope", "read", "--scope", "write", "--hours", "2", "--metadata", "a=b")
    made = said(house, "create", "olga", *terms)
    assert (made["user_id"], made["subscription"], made["scopes"]) == ("olga", "plus", ["read", "write"])
    assert house.vault.session_metadata(made["id"]) == {"a": "b"}
    file = house.home / "token"
    file.write_text(made["token"] + "\n")
    for found in (
        said(house, "verify", given=made["token"] + "\n"),
        said(house, "verify", "--token-file", str(file)),
    ):
        assert (found["kind"], found["subject"], found["session_id"]) == ("session", "olga", made["id"])
    [listed] = said(house, "list", "--user", "olga")
    assert listed == {name: value for name, value in made.items() if name != "token"}
    shown = run(house, "session", "list")
    assert "olga" in shown.output
    assert made["token"] not in shown.output
    assert said(house, "revoke", made["id"]) == {"revoked": 1}
    refused = run(house, "session", "verify", given=made["token"])
    assert refused.exit_code == EXIT_FAILED
    assert "TokenRefused: the token is refused (revoked)" in refused.stderr
    assert made["token"] not in refused.output
    assert said(house, "list") == []


def test_all_sessions_of_a_user_end_in_their_tenant_only(house: House) -> None:
    for tenant in ("default", "other"):
        said(house, "create", "olga", "--tenant", tenant)
    assert said(house, "revoke", "--user", "olga", "--tenant", "other") == {"revoked": 1}
    assert len(said(house, "list")) == 1
    assert said(house, "list", "--tenant", "other") == []


@pytest.mark.parametrize(
    "words",
    [
        ("revoke",), ("revoke", str(uuid4()), "--user", "olga"), ("revoke", "no-id"), ("create",),
        ("create", "olga", "--subscription", "gold"), ("create", "olga", "--device", "phone"),
        ("create", "olga", "--scope", "a b"), ("create", "olga", "--hours", "0"), ("create", "olga", "--metadata", "a"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_as_usage(house: House, words: tuple[str, ...]) -> None:
    result = run(house, "session", *words)
    assert result.exit_code == EXIT_USAGE, result.output
    assert house.vault.sessions() == []


def test_a_session_that_is_not_there_is_named(house: House) -> None:
    nobody = str(uuid4())
    result = run(house, "session", "revoke", nobody)
    assert result.exit_code == EXIT_FAILED
    assert nobody in result.stderr


def test_figures_are_shown(house: House) -> None:
    made = said(house, "create", "olga")
    said(house, "verify", given=made["token"])
    document = json.loads(run(house, "--json", "stats").stdout)
    assert document["sessions"] == {"free": 1}
    assert document["validations"]["by_outcome"] == {"valid": 1}
    shown = run(house, "stats").output
    assert "validations 1" in shown
    assert "1 free" in shown
