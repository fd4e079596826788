"""From the first consent to the last goodbye, as an app, a worker and an operator live through it."""

from __future__ import annotations

import base64
import json
import os
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.integration.house import House
from tests.integration.waiting import until
from tests.journeys.conftest import LIFE_S
from tests.simulator.client import consent
from vault import ReconnectRequired, Status, Token

ZERO = timedelta(0)


def test_the_life_of_a_connection(house: House) -> None:
    vault, worker = house.vault, house.worker

    # Olga connects her account. What the app keeps is an id.
    start = vault.begin("acme", owner="olga", scopes=["read"], browser="her session", return_to="/music")
    answer = consent(start.url)
    connection = vault.complete(
        state=answer["state"], code=answer["code"], browser="her session", issuer=answer.get("iss")
    )
    assert (connection.owner, connection.status, connection.granted_scopes) == ("olga", Status.ACTIVE, ("read",))
    assert connection.return_to == "/music"
    olga = connection.id
    account = house.oracle.accounts()[-1]

    # From now on there is a token whenever the app asks, and the provider's API takes it.
    first = vault.get(olga)
    assert house.oracle.access_token_live(first.access_token.reveal())
    assert first.headers() == {"Authorization": f"Bearer {first.access_token.reveal()}"}
    assert first.access_token.reveal() not in repr(first)
    assert ZERO < first.ttl <= timedelta(seconds=LIFE_S)

    # Time passes. The token grows old, is served as long as it lives, and a worker refreshes it before it does not.
    until(lambda: worker.overdue().rows == 1)
    assert vault.get(olga, min_ttl=ZERO).access_token == first.access_token
    assert worker.refresh_scan().refreshed == 1
    second = vault.get(olga)
    assert second.access_token != first.access_token
    assert second.expires_at > first.expires_at
    assert house.oracle.access_token_live(second.access_token.reveal())
    refreshed_at = vault.connection(olga).refreshed_at
    assert refreshed_at is not None
    assert refreshed_at > connection.connected_at

    # An operator rotates data keys, and then the master key, while the app goes on.
    assert worker.rotate_data_keys(ZERO) >= 1
    keyring = house.home / "keyring.json"
    keys = json.loads(keyring.read_text())
    keys["keys"]["next"] = base64.b64encode(os.urandom(32)).decode()
    keyring.write_text(json.dumps(keys))
    operator = house.another_worker(kek_uri=f"local:{keyring}#next")
    assert operator.rewrap() == 1
    assert operator.rewrap() == 0
    del keys["keys"][keys["current"]]
    keyring.write_text(json.dumps({**keys, "current": "next"}))
    after = house.another_vault(kek_uri=f"local:{keyring}#next")
    assert after.get(olga, min_ttl=ZERO).access_token == second.access_token

    # Refreshing goes on as if nothing had happened.
    refresher = house.another_worker(kek_uri=f"local:{keyring}#next")
    until(lambda: refresher.overdue().rows == 1)
    assert refresher.refresh_scan().refreshed == 1
    assert house.oracle.access_token_live(after.get(olga).access_token.reveal())

    # Olga takes it back. The secrets are gone at once, and the provider is told.
    after.disconnect(olga)
    with pytest.raises(ReconnectRequired, match="disconnected"):
        after.get(olga)
    assert after.connection(olga).status is Status.DISCONNECTED
    refresher.refresh_scan()
    assert not house.oracle.alive(account, house.far_side)
    assert [c.id for c in after.connections(owner="olga")] == [olga]


def test_a_grant_that_its_owner_withdrew_is_served_to_its_end_and_given_anew_in_place(house: House) -> None:
    vault, worker = house.vault, house.worker
    olga = house.connect("olga", labels={"plan": "gold"})
    token = vault.get(olga)
    house.simulator.kill_account(house.far_side, house.account(olga))
    until(lambda: worker.overdue().rows == 1)
    worker.refresh_scan()
    gone = vault.connection(olga)
    assert (gone.status, gone.reason) == (Status.NEEDS_RECONNECT, "invalid_grant")
    assert vault.get(olga, min_ttl=ZERO).access_token == token.access_token, "a token that still works is served"

    def is_over() -> bool:
        try:
            vault.get(olga, min_ttl=ZERO)
        except ReconnectRequired as error:
            return error.reason == "invalid_grant"
        return False

    until(is_over)
    assert [c.id for c in vault.connections(status="needs_reconnect")] == [olga]
    again = house.connect("olga", reconnect=olga)
    assert again == olga, "the app goes on with the id it has"
    assert vault.connection(olga).status is Status.ACTIVE
    assert house.oracle.access_token_live(vault.get(olga).access_token.reveal())
    assert vault.connection(olga).labels == {"plan": "gold"}


def test_an_app_without_workers_refreshes_by_itself(house: House) -> None:
    vault = house.another_vault(inline_refresh=True)
    olga = house.connect()
    first = vault.get(olga)
    until(lambda: house.worker.overdue().rows == 1)
    wanted = first.ttl - timedelta(seconds=1)
    second = vault.get(olga, min_ttl=wanted)
    assert second.access_token != first.access_token
    assert house.oracle.access_token_live(second.access_token.reveal())


def test_many_tokens_come_at_once_each_with_its_own_fate(calm_house: House) -> None:
    vault = calm_house.vault
    alive, ended = calm_house.connect("olga"), calm_house.connect("nina")
    vault.disconnect(ended)
    answers = vault.get_many([alive, str(ended), uuid4()])
    assert set(answers) == {alive, ended}
    served = answers[alive]
    assert isinstance(served, Token)
    assert served.access_token == vault.get(alive).access_token
    assert isinstance(answers[ended], ReconnectRequired)
