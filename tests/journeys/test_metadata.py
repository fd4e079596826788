"""What an app keeps with a connection: sealed, carried along, and gone with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.integration.house import House
from vault import CannotOpen, UnknownConnection

ZERO = timedelta(0)
GIVEN = {"instance_url": "https://na1.example", "größe": "Ω"}


def test_metadata_lives_as_long_as_its_connection(calm_house: House) -> None:
    house, vault = calm_house, calm_house.vault
    olga = house.connect("olga", metadata=GIVEN)
    assert vault.metadata(olga) == GIVEN
    plain = house.connect("nina")
    assert vault.metadata(plain) == {}

    # It stays through refreshes, key rotation and a new consent, and changes when it is told to.
    house.make_due(olga)
    assert house.worker.refresh_scan().refreshed == 1
    house.worker.rotate_data_keys(ZERO)
    assert house.another_vault().metadata(olga) == GIVEN
    assert house.connect("olga", reconnect=olga) == olga
    assert vault.metadata(olga) == GIVEN
    vault.set_metadata(olga, {"region": "eu"})
    assert vault.metadata(str(olga)) == {"region": "eu"}
    assert house.connect("olga", reconnect=olga, metadata={"region": "us"}) == olga
    assert vault.metadata(olga) == {"region": "us"}
    assert house.events(olga).count("connection.metadata_changed") == 1

    # It goes with the other secrets.
    vault.disconnect(olga)
    assert vault.metadata(olga) == {}
    with pytest.raises(UnknownConnection):
        vault.set_metadata(olga, {})
    assert house.connect("olga", reconnect=olga, metadata=GIVEN) == olga
    assert vault.metadata(olga) == GIVEN


def test_what_the_provider_s_answer_brings_is_kept_too(calm_house: House) -> None:
    house = calm_house
    registry = house.home / "providers.toml"
    row = registry.read_text() + '[acme.answer]\naccount = "org.id"\nkept = ["instance_url"]\n'
    registry.write_text(row)
    extra = {"instance_url": "https://na2.example", "org": {"id": "org-17"}}
    house.simulator.configure(house.far_side, answer={"extra": extra})
    olga = house.connect("olga", metadata={"plan": "gold"})
    assert house.vault.metadata(olga) == {"plan": "gold", "instance_url": "https://na2.example"}
    assert house.vault.connection(olga).account == "org-17"


def test_it_is_sealed_and_cannot_be_moved_or_brought_back(calm_house: House) -> None:
    house, vault = calm_house, calm_house.vault
    olga, nina = house.connect("olga", metadata=GIVEN), house.connect("nina", metadata={"who": "nina"})
    kept = house.sql("SELECT envelope FROM evergrant.connection_metadata WHERE connection_id = %s", (olga,))[0][
        "envelope"
    ]
    assert b"na1" not in kept
    swap = (
        "UPDATE evergrant.connection_metadata SET envelope = %s, data_key_id = (SELECT data_key_id FROM "
        "evergrant.connection_metadata WHERE connection_id = %s) WHERE connection_id = %s"
    )
    house.sql(swap, (kept, olga, nina))
    with pytest.raises(CannotOpen):
        vault.metadata(nina)
    vault.set_metadata(olga, {"region": "eu"})
    house.sql(swap, (kept, olga, olga))
    with pytest.raises(CannotOpen):
        vault.metadata(olga)


def test_a_consent_is_stored_though_what_was_kept_before_does_not_open(calm_house: House) -> None:
    house = calm_house
    registry = house.home / "providers.toml"
    registry.write_text(registry.read_text() + '[acme.answer]\nkept = ["instance_url"]\n')
    house.simulator.configure(house.far_side, answer={"extra": {"instance_url": "https://na2.example"}})
    olga = house.connect("olga", metadata=GIVEN)
    house.sql("UPDATE evergrant.connection_metadata SET envelope = overlay(envelope PLACING 'xx'::bytea FROM 90)")
    assert house.connect("olga", reconnect=olga) == olga
    assert house.vault.metadata(olga) == {"instance_url": "https://na2.example"}


def test_of_two_writers_at_a_time_the_last_wins_and_none_is_refused(calm_house: House) -> None:
    house, vault = calm_house, calm_house.vault
    olga = house.connect("olga")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: vault.set_metadata(olga, {"number": str(number)}), range(12)))
    assert vault.metadata(olga)["number"] in map(str, range(12))
    [row] = house.sql("SELECT version FROM evergrant.connection_metadata WHERE connection_id = %s", (olga,))
    assert row["version"] == 12


def test_what_cannot_be_kept_is_said_before_anybody_is_sent_anywhere(calm_house: House) -> None:
    vault = calm_house.vault
    for wrong, said in (({"a": 1}, "text by text"), ({"a": "x" * 17_000}, "at most 16384")):
        with pytest.raises(ValueError, match=said):
            vault.begin("acme", owner="olga", metadata=wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=said):
            vault.set_metadata(uuid4(), wrong)  # type: ignore[arg-type]
    with pytest.raises(UnknownConnection):
        vault.metadata(uuid4())
    with pytest.raises(UnknownConnection):
        vault.set_metadata(uuid4(), {})
    olga = calm_house.connect("olga", metadata=GIVEN)
    stranger = vault.for_tenant("umbra")
    with pytest.raises(UnknownConnection):
        stranger.metadata(olga)
    with pytest.raises(UnknownConnection):
        stranger.set_metadata(olga, {})
    assert vault.metadata(olga) == GIVEN
