"""The simulated GitHub and Stripe keep registrations of webhooks as the real ones do, and know of each when it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.simulator import Simulator
from tests.simulator.hook_oracle import registered

HOOK = "acme/widgets/7"
NEW = "url=https://a.example&enabled_events[]=charge.succeeded&metadata[x]=y"


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator({"acme": {}}) as running:
        running.hooks("acme", key="key")
        yield running


def ask(simulator: Simulator, method: str, path: str, body: str = "", **headers: str) -> tuple[int, Any]:
    connection = HTTPConnection(urlsplit(simulator.base_uri).netloc, timeout=10)
    sent = {"Authorization": "Bearer key", "User-Agent": "test", **headers}
    connection.request(method, f"/acme/{path}", body, sent)
    response = connection.getresponse()
    status, answer = response.status, json.loads(response.read())
    connection.close()
    return status, answer


def secrets(simulator: Simulator) -> list[str]:
    return [each["secret"] for each in simulator.hooks("acme")["registered"]]


def test_github_has_one_secret_and_never_shows_it(simulator: Simulator) -> None:
    simulator.hooks("acme", github={HOOK: "one"})
    status, answer = ask(simulator, "PATCH", "github/repos/acme/widgets/hooks/7/config", '{"secret": "two"}')
    assert (status, "two" in str(answer)) == (200, False)
    assert secrets(simulator) == ["two"]
    assert [each["secret"] for each in simulator.deliver("acme", "github", HOOK)] == ["two"]
    assert ask(simulator, "PATCH", "github/repos/acme/widgets/hooks/8/config", "{}")[0] == 404


def test_stripe_makes_one_endpoint_for_one_key_and_shows_its_secret_then_only(simulator: Simulator) -> None:
    made = [ask(simulator, "POST", "stripe/v1/webhook_endpoints", NEW, **{"Idempotency-Key": "1"}) for _ in range(2)]
    assert made[0] == made[1]
    secret = made[0][1]["secret"]
    assert ask(simulator, "POST", "stripe/v1/webhook_endpoints", NEW + "z", **{"Idempotency-Key": "1"})[0] == 400
    listed = ask(simulator, "GET", "stripe/v1/webhook_endpoints?limit=100")[1]
    assert [each["metadata"] for each in listed["data"]] == [{"x": "y"}]
    assert secret not in str(listed)
    assert [each["secret"] for each in simulator.deliver("acme", "stripe", "https://a.example")] == [secret]
    path = f"stripe/v1/webhook_endpoints/{made[0][1]['id']}"
    assert ask(simulator, "POST", path, "disabled=true")[1]["status"] == "disabled"
    assert simulator.deliver("acme", "stripe", "https://a.example") == []
    assert [ask(simulator, "DELETE", path)[0] for _ in range(2)] == [200, 404]
    assert secrets(simulator) == []


def test_nobody_changes_anything_without_a_key(simulator: Simulator) -> None:
    simulator.hooks("acme", github={HOOK: "one"})
    path = "github/repos/acme/widgets/hooks/7/config"
    assert ask(simulator, "PATCH", path, '{"secret": "two"}', Authorization="Bearer no")[0] == 401
    assert secrets(simulator) == ["one"]


def test_the_oracle_knows_which_secret_was_registered_when(simulator: Simulator) -> None:
    for secret in ("one", "one", "two", "one"):
        simulator.hooks("acme", github={HOOK: secret})
    known = sorted(registered(simulator.application.journal.lines, "acme"), key=lambda each: each.since)
    assert [each.secret for each in known] == ["one", "two", "one"]
    assert all(before.until == after.since for before, after in pairwise(known))
    assert known[-1].until == float("inf")
