"""``evergrant event`` and ``evergrant endpoint``: a secret is shown once, everything else whenever it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.integration.office import Office, accepts
from tests.support.receiver import Receiver, status
from vault import Secret
from vault.cli import EXIT_FAILED, EXIT_USAGE, main


@pytest.fixture
def office(database_url: str, tmp_path: Path) -> Iterator[Office]:
    with Receiver() as receiver:
        built = Office(database_url, tmp_path, receiver)
        yield built
        built.close()


def run(office: Office, *words: str, as_json: bool = True) -> Result:
    return CliRunner(env=office.environment).invoke(main, [*(["--json"] if as_json else []), *words])


def said(office: Office, *words: str) -> Any:
    result = run(office, *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_life_of_an_endpoint(office: Office) -> None:
    added = said(office, "endpoint", "add", office.receiver.url("/mine"), "--type", "connection.quarantined")
    endpoint, secret = added["endpoint"], Secret(added["secret"])
    [listed] = said(office, "endpoint", "list", "--tenant", "default")
    assert (listed["id"], listed["types"], listed["state"]) == (endpoint, ["connection.quarantined"], "active")
    assert said(office, "endpoint", "test", endpoint)["state"] == "delivered"
    newer = Secret(said(office, "endpoint", "rotate-secret", endpoint, "--overlap-hours", "1")["secret"])
    assert run(office, "endpoint", "rotate-secret", endpoint).exit_code == EXIT_FAILED
    assert said(office, "endpoint", "test", endpoint)["status"] == 204
    assert accepts(secret, office.receiver.received[-1])
    assert accepts(newer, office.receiver.received[-1])
    assert said(office, "endpoint", "disable", endpoint)["state"] == "disabled"
    event_id = str(office.tell())
    office.deliver()
    [delivery] = said(office, "event", "show", event_id)["deliveries"]
    assert (delivery["endpoint_id"], delivery["state"]) == (endpoint, "held")
    said(office, "endpoint", "enable", endpoint)
    office.deliver()
    assert office.receiver.received[-1].id == event_id
    assert said(office, "event", "replay", event_id, "--endpoint", endpoint) == {"event": event_id, "endpoints": 1}
    office.deliver()
    assert [got.id for got in office.receiver.received].count(event_id) == 2
    assert event_id in [each["id"] for each in said(office, "event", "list", "--type", "connection.quarantined")]
    for words in (["endpoint", "list"], ["event", "list"], ["event", "show", event_id]):
        for as_json in (True, False):
            shown = run(office, *words, as_json=as_json)
            assert shown.exit_code == 0
            assert "whsec_" not in shown.output
    said(office, "endpoint", "remove", endpoint)
    assert said(office, "endpoint", "list") == []


def test_what_cannot_be_done_is_said(office: Office) -> None:
    endpoint, _ = office.add("/bad")
    office.receiver.answers["/bad"] = status(500)
    assert run(office, "endpoint", "test", str(endpoint)).exit_code == EXIT_FAILED
    assert run(office, "endpoint", "add", "http://app.example/").exit_code == EXIT_USAGE
    for words in (
        ("endpoint", "remove", "nonsense"),
        ("event", "replay", "nonsense"),
        ("event", "show", str(endpoint)),
    ):
        failed = run(office, *words)
        assert failed.exit_code == EXIT_FAILED
        assert "evergrant " in failed.stderr
