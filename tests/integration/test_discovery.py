"""Addresses that no file names are asked of the issuer, kept while it is away, and believed of itself alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from tests.integration.house import House
from tests.simulator.client import consent
from vault import ConnectRefused, Registry
from vault.cli import main
from vault.egress.once import Heard, Sent
from vault.oauth.discovery import KEPT_FOR, LONGEST_REST, TRY_AGAIN, Discovery, Undiscovered, addresses, discover

ISSUER = "https://issuer.test/tenant/"
DOCUMENT = {
    "issuer": ISSUER,
    "token_endpoint": "https://issuer.test/token",
    "authorization_endpoint": "https://issuer.test/a",
}


def registered(house: House) -> str:
    """A provider of whom the file says nothing but its issuer."""
    issuer = f"{house.simulator.base_uri}/{house.far_side}"
    file = house.home / "providers.toml"
    file.write_text(f'{file.read_text()}\n[far]\nissuer = "{issuer}"\ndiscover = true\nrotation = "strict"\n')
    house.environment |= {"VAULT_CLIENT_FAR_ID": "evergrant", "VAULT_CLIENT_FAR_SECRET": "cnry-cs-simulator"}
    return issuer


def test_an_issuer_s_word_is_all_that_a_connection_needs(house: House) -> None:
    issuer = registered(house)
    start = house.vault.begin("far", owner="olga")
    assert start.url.startswith(f"{issuer}/authorize?")
    said = consent(start.url)
    connection = house.vault.complete(state=said["state"], code=said["code"], issuer=said["iss"])
    house.make_due(connection.id)
    house.simulator.configure(house.far_side, undescribed=True)
    assert house.worker.refresh_scan().refreshed == 0, "nobody has told this process yet"
    assert house.state(connection.id)[0] == "active"
    house.simulator.configure(house.far_side, undescribed=False)
    assert house.another_worker().refresh_scan().refreshed == 1


def test_without_its_word_nobody_is_sent_anywhere(house: House) -> None:
    registered(house)
    house.simulator.configure(house.far_side, undescribed=True)
    with pytest.raises(ConnectRefused, match="has not told its addresses"):
        house.vault.begin("far", owner="olga")


def test_the_command_prints_the_beginning_of_a_file(house: House) -> None:
    issuer = f"{house.simulator.base_uri}/{house.far_side}"
    environment = {"VAULT_INSECURE_HOSTS": "127.0.0.1"}
    found = Registry.from_env(environment).discover(issuer)
    names = {"authorize": "authorize", "token": "token", "revoke": "revoke", "introspect": "introspect"}
    assert found == {"issuer": issuer} | {f"{name}_uri": f"{issuer}/{path}" for name, path in names.items()}
    run = CliRunner().invoke(main, ["providers", "discover", issuer, "--name", "far"], env=environment)
    assert (run.exit_code, run.output.splitlines()[:2]) == (0, ["[far]", f'issuer = "{issuer}"'])
    file = house.home / "found.toml"
    file.write_text(run.output)
    checked = CliRunner().invoke(main, ["providers", "check", str(file)], env=environment)
    assert (checked.exit_code, checked.output) == (0, "no problems\n")


class Answers:
    """An ``Http`` that says what it is told to."""

    def __init__(self, *said: Heard) -> None:
        self.said, self.asked = list(said), list[str]()

    def send(self, request: Sent) -> Heard:
        self.asked.append(request.url)
        return self.said.pop(0) if self.said else Heard(404, b"", None)


def heard(document: object) -> Heard:
    return Heard(200, document if isinstance(document, bytes) else json.dumps(document).encode(), None)


def test_both_places_are_asked_and_in_the_standards_order() -> None:
    http: Any = Answers(Heard(404, b"", None), heard(DOCUMENT))
    assert discover(http, ISSUER) == DOCUMENT
    assert http.asked == [
        "https://issuer.test/tenant/.well-known/openid-configuration",
        "https://issuer.test/.well-known/oauth-authorization-server/tenant",
    ]


@pytest.mark.parametrize(
    "said",
    [
        heard({**DOCUMENT, "issuer": "https://evil.test"}), heard({"token_endpoint": "https://evil.test"}), heard([]),
        heard(b"<html>"), heard(b"[" * 100_000), Heard(302, b"", None), Heard(500, b"", None),
        Heard(0, b"", None, "too_large"),
    ],
)  # fmt: skip
def test_another_s_word_or_none_is_not_believed(said: Heard) -> None:
    http: Any = Answers(said)
    with pytest.raises(Undiscovered):
        discover(http, ISSUER)


def test_what_is_no_address_is_left_out() -> None:
    wrong: list[object] = [1, None, ["https://a.test"], "https://a.test/{x}", "https://a\n.test"]
    assert [addresses({"token_endpoint": each}) for each in wrong] == [{}] * len(wrong)


def test_an_issuer_that_is_away_is_asked_in_one_place_and_less_and_less_often() -> None:
    """Whoever asks waits for it, and with them everybody's refreshes."""
    now = 0.0
    clock: Callable[[], float] = lambda: now  # noqa: E731
    http: Any = Answers(*[Heard(0, b"", None, "timeout")] * 5, heard(DOCUMENT), Heard(0, b"", None, "timeout"))
    discovery = Discovery(http, clock)
    for asked in range(1, 6):
        assert (discovery.look(ISSUER), len(http.asked)) == ("timeout", asked)
        now += min(LONGEST_REST, TRY_AGAIN * 2 ** (asked - 1)).total_seconds() - 1
        assert (discovery.look(ISSUER), len(http.asked)) == ("", asked)
        now += 1
    assert (discovery.look(ISSUER), bool(discovery.known(ISSUER))) == ("", True)
    now += KEPT_FOR.total_seconds()
    assert discovery.look(ISSUER) == "timeout"
    now += TRY_AGAIN.total_seconds()
    http.said.append(heard(DOCUMENT))
    assert (discovery.look(ISSUER), len(http.asked)) == ("", 8), "a new outage begins with the first rest"


def test_a_word_holds_for_a_day_and_outlives_an_outage() -> None:
    now = 0.0
    clock: Callable[[], float] = lambda: now  # noqa: E731
    http: Any = Answers(
        heard(DOCUMENT),
        Heard(503, b"", None),
        Heard(503, b"", None),
        heard({**DOCUMENT, "token_endpoint": "https://new.test"}),
    )
    discovery = Discovery(http, clock)
    assert discovery.known(ISSUER) == {}
    assert discovery.look(ISSUER) == ""
    known = discovery.known(ISSUER)
    now += KEPT_FOR.total_seconds() - 1
    assert (discovery.look(ISSUER), len(http.asked)) == ("", 1)
    now += 1
    assert (discovery.look(ISSUER), discovery.known(ISSUER)) == ("http_503", known)
    assert (discovery.look(ISSUER), len(http.asked)) == ("", 3), "not at every look"
    now += TRY_AGAIN / timedelta(seconds=1)
    assert discovery.look(ISSUER) == ""
    assert discovery.known(ISSUER)["token_uri"] == "https://new.test"
