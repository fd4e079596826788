"""API keys: what they open, until when, how often; and how they are looked after."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.integration.house import House
from tests.integration.waiting import until
from tests.integration.web.front import Client, Front, opened, problem
from tests.simulator import SimulatorProcess
from vault import SCOPES
from vault.cli import EXIT_FAILED, EXIT_USAGE, main
from vault.web.strangers import network_of

LIST = "/connections"


def run(house: House, *words: str) -> Result:
    return CliRunner(env={**house.environment}).invoke(main, ["--json", "api-key", *words])


def said(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def quick(house: House) -> Iterator[Front]:
    """With a memory for keys of a fifth of a second."""
    with opened(house, http_key_cache_s=0.2) as made:
        yield made


def test_without_a_key_that_counts_nothing_opens(front: Front) -> None:
    key = front.key()
    for given in (None, "", "egk_", key[:-1], key + "A", "egk_" + "A" * 43, key.upper(), "Bearer"):
        answer = Client(front.api, given).get(LIST)
        assert problem(answer, 401, "api_key")["reason"] in ("missing", "unknown")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert front.browser().get(LIST, params={"api_key": key}).status_code == 401
    assert front.browser().get(LIST, headers={"Authorization": f"Basic {key}"}).status_code == 401
    assert Client(front.api, key).get(LIST).ok


def test_a_key_opens_what_its_scopes_say(front: Front) -> None:
    asked = {
        "tokens:read": f"/connections/{front.connect()}/token",
        "connections:read": LIST,
        "credentials:read": "/credentials",
        "statistics:read": "/statistics",
    }
    for scope, path in asked.items():
        client = front.client(scope)
        assert client.get(path).ok
        for other, elsewhere in asked.items():
            if other != scope:
                assert problem(client.get(elsewhere), 403, "scope")["reason"] == other
    admin = front.client("admin")
    assert all(admin.get(path).ok for path in asked.values())
    metrics = Client(front.base, front.key("admin")).get("/metrics")
    assert problem(metrics, 403, "scope")["reason"] == "metrics:read"


def test_a_revoked_key_is_refused_within_what_is_promised(quick: Front) -> None:
    client = quick.client()
    assert client.get(LIST).ok
    [key] = quick.house.worker.api_keys.list()
    assert quick.house.worker.api_keys.revoke(key.id).revoked_at is not None
    time.sleep(0.25)  # the promise itself: nothing is to be observed before
    assert problem(client.get(LIST), 401, "api_key")["reason"] == "revoked"


def test_a_key_ends_by_the_databases_clock_also_while_it_is_at_hand(front: Front) -> None:
    client = Client(front.api, front.key(life=timedelta(seconds=1.5)))
    assert client.get(LIST).ok
    until(lambda: client.get(LIST).status_code == 401)
    assert problem(client.get(LIST), 401, "api_key")["reason"] == "expired"


def test_too_many_requests_are_told_when_to_come_again(house: House) -> None:
    with opened(house, http_rate_others=5.0, http_rate_tokens=0.0) as front:
        made, client = front.connect(), front.client()
        codes = [client.get(LIST).status_code for _ in range(30)]
        assert 10 <= codes.count(200) < 30
        refused = next(answer for answer in iter(lambda: client.get(LIST), None) if answer.status_code == 429)
        assert 0 < problem(refused, 429, "rate")["retry_after"] <= 1
        assert refused.headers["retry-after"] == "1"
        assert front.client().get(LIST).ok, "another key has its own"
        assert all(client.get(f"/connections/{made}/token").ok for _ in range(30)), "0: any number"


def test_processes_share_a_rate_through_redis(
    database_url: str, simulator: SimulatorProcess, tmp_path: Path, redis_url: str
) -> None:
    house = House(database_url, simulator, tmp_path, redis_url=redis_url)
    with opened(house, http_rate_others=2.0) as first, opened(house, http_rate_others=2.0) as second:
        key = first.key()
        both = [Client(first.api, key), Client(second.api, key)]
        began = time.monotonic()
        with ThreadPoolExecutor(2) as threads:
            counts = threads.map(lambda client: [client.get(LIST).ok for _ in range(12)].count(True), both)
            served = sum(counts)
        assert served <= 4 + 2 * (time.monotonic() - began) + 1
        assert served >= 4
    house.close()


def test_keys_are_made_listed_and_revoked_by_command(house: House) -> None:
    made = said(run(house, "create", "billing", "--scope", "tokens:read", "--scope", "tokens:read", "--days", "2"))
    assert made["key"].startswith("egk_")
    assert (made["name"], made["scopes"], made["state"], made["tenant"]) == (
        "billing",
        ["tokens:read"],
        "active",
        "default",
    )
    said(run(house, "create", "other", "--scope", "admin", "--tenant", "b"))
    listed = run(house, "list")
    assert made["key"] not in listed.output
    assert [each["name"] for each in said(listed)] == ["other", "billing"]
    assert [each["name"] for each in said(run(house, "list", "--tenant", "b"))] == ["other"]
    assert said(run(house, "revoke", made["id"]))["state"] == "revoked"
    table = CliRunner(env={**house.environment}).invoke(main, ["api-key", "list"])
    assert "revoked" in table.output
    told = house.sql("SELECT tenant, event, detail FROM evergrant.audit WHERE event LIKE 'api_key.%%' ORDER BY id")
    assert [(row["tenant"], row["event"]) for row in told] == [
        ("default", "api_key.created"),
        ("b", "api_key.created"),
        ("default", "api_key.revoked"),
    ]
    assert made["key"] not in str(told)
    assert not house.finds(f"SELECT 1 FROM evergrant.api_key k WHERE k::text LIKE '%%{made['key'][4:]}%%'")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("create", "x"), EXIT_USAGE),
        (("create", "x", "--scope", "everything"), EXIT_USAGE),
        (("create", "", "--scope", "admin"), EXIT_USAGE),
        (("create", "x", "--scope", "admin", "--tenant", "*"), EXIT_USAGE),
        (("create", "x", "--scope", "admin", "--days", "0"), EXIT_USAGE),
        (("revoke", "00000000-0000-4000-8000-000000000000"), EXIT_FAILED),
    ],
)
def test_what_cannot_be_a_key_is_refused(house: House, words: tuple[str, ...], code: int) -> None:
    assert run(house, *words).exit_code == code
    assert said(run(house, "list")) == []


def test_every_scope_can_be_given(front: Front) -> None:
    assert front.house.worker.api_keys.create("all", list(SCOPES)).key.scopes == tuple(SCOPES)


def test_strangers_are_held_to_a_rate_by_address_and_known_keys_are_not(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each guess at a key, a state or a ticket costs the database a look: so many of them a second, and no more."""
    monkeypatch.setattr("vault.quotas.SAVED_S", 100.0)
    with opened(house, http_rate_strangers=0.05) as front:  # five, and then one in twenty seconds
        known, browser, guessing = front.client(), front.browser(), Client(front.api, "egk_" + "A" * 43)
        assert known.get(LIST).ok
        assert browser.get("/acme/callback", params={"state": "a"}).status_code == 400
        assert browser.get("/acme/callback", params={"state": "b"}).status_code == 400
        assert browser.get(f"/acme/tickets/{'a' * 43}").status_code == 400
        assert guessing.get(LIST).status_code == 401
        assert guessing.get(LIST).status_code == 401, "it is known to be none, and costs no look"
        for late in (
            Client(front.api, "egk_" + "B" * 43).get(LIST),
            front.client().get(LIST),
            browser.get("/acme/callback", params={"state": "a"}),
            Client(front.base, front.key()).get("/metrics"),
        ):
            assert problem(late, 429, "rate")["reason"] == "strangers"
            assert 1 <= int(late.headers["retry-after"]) <= 20
        assert known.get(LIST).ok
        assert Client(front.base).get("/health").status_code == 200
        assert browser.get(LIST).status_code == 401, "nor does no key at all"


@pytest.mark.parametrize(
    ("host", "whose"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::1", "2001:db8:1:2::/64"),
        ("/run/evergrant.sock", "/run/evergrant.sock"),
        ("", ""),
    ],
)
def test_a_stranger_is_who_cannot_choose_to_be_another(host: str, whose: str) -> None:
    assert network_of(host) == whose
