"""Keys from their making to their end, through the door, on real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Thread
from uuid import UUID

import pytest

from tests.integration.house import House
from tests.simulator.client import consent
from vault import (
    CannotOpen,
    ConfigurationError,
    DestructionRefused,
    KeyUnavailable,
    ReconnectRequired,
    UnknownConnection,
    Vault,
)

DAYS = timedelta(days=1)


def connect(vault: Vault, owner: str) -> UUID:
    start = vault.begin("acme", owner=owner)
    answer = consent(start.url)
    return vault.complete(state=answer["state"], code=answer["code"], issuer=answer.get("iss")).id


def let_pass(house: House, time: timedelta) -> None:
    """Make every key, what was done to it, and every open audit older."""
    for table, columns in {
        "data_key": ("created_at", "replaced_at", "retired_at"), "open_audit": ("started_at",),
        "tenant_key": ("created_at", "replaced_at", "retired_at"),
    }.items():  # fmt: skip
        past = ", ".join(f"{column} = {column} - %(by)s" for column in columns)
        house.sql(f"UPDATE evergrant.{table} SET {past}", {"by": time})


def states(house: House, table: str) -> list[str]:
    return [row["state"] for row in house.sql(f"SELECT state FROM evergrant.{table} ORDER BY created_at")]


# ---------------------------------------------------------------------------------------------------- KEKs of tenants


@pytest.fixture
def umbra(house: House) -> Vault:
    """The vault of a tenant."""
    return house.vault.for_tenant("umbra")


def test_a_tenant_that_disables_its_kek_is_locked_and_nobody_else_notices(house: House, umbra: Vault) -> None:
    ours, theirs = house.connect("olga"), connect(umbra, "nina")
    file = house.home / "umbra.json"
    name = house.worker.keys.set_tenant_kek("umbra", f"local:{file}")
    assert name.startswith("local:primary#")
    assert house.worker.keys.under_former_keks() == 0
    kek_ids = {row["tenant"]: row["kek_id"] for row in house.sql("SELECT tenant, kek_id FROM evergrant.tenant_key")}
    assert kek_ids["umbra"] == name != kek_ids["default"]
    [kek] = house.worker.keys.tenant_keks()
    assert (kek.tenant, kek.uri, kek.former_uris) == ("umbra", f"local:{file}", ())
    hidden = file.rename(house.home / "hidden.json")
    after_the_cache_life = house.another_vault()
    with pytest.raises(KeyUnavailable) as refusal:
        after_the_cache_life.for_tenant("umbra").get(theirs)
    assert not refusal.value.transient
    assert after_the_cache_life.get(ours)
    assert umbra.get(theirs), "a process that has the key goes on until its cache life ends"
    house.make_due(ours, theirs)
    tally = house.another_worker().refresh_scan(timedelta(seconds=1))
    assert tally.refreshed == 1, "the other tenant's is refreshed"
    assert house.state(theirs) == ("active", "KeyUnavailable")
    hidden.rename(file)
    house.make_due(theirs)
    assert house.another_worker().refresh_scan(timedelta(seconds=1)).refreshed == 1
    assert house.another_vault().for_tenant("umbra").get(theirs)


def test_a_kek_that_does_not_work_is_not_taken(house: House, umbra: Vault) -> None:
    theirs = connect(umbra, "nina")
    for uri, error in [("local:", ConfigurationError), ("carrier-pigeon:7", ConfigurationError)]:
        with pytest.raises((error, KeyUnavailable)):
            house.worker.keys.set_tenant_kek("umbra", uri)
    assert house.worker.keys.tenant_keks() == []
    assert house.another_vault().for_tenant("umbra").get(theirs)


def test_a_tenant_may_change_its_kek_and_take_it_back(house: House, umbra: Vault) -> None:
    theirs, keys = connect(umbra, "nina"), house.worker.keys
    for uri in (f"local:{house.home}/one.json", f"local:{house.home}/two.json", None):
        name = keys.set_tenant_kek("umbra", uri)
        [row] = house.sql("SELECT kek_id FROM evergrant.tenant_key WHERE tenant = 'umbra'")
        assert row["kek_id"] == name
        assert house.another_vault().for_tenant("umbra").get(theirs)
    assert keys.tenant_keks() == []
    for file in ("one.json", "two.json"):
        (house.home / file).unlink()
    assert house.another_vault().for_tenant("umbra").get(theirs)


def test_a_change_that_was_cut_off_before_the_rewrap_leaves_everything_open(house: House, umbra: Vault) -> None:
    theirs, uri = connect(umbra, "nina"), f"local:{house.home}/umbra.json"
    house.sql("INSERT INTO evergrant.tenant_kek (tenant, uri, former_uris) VALUES ('umbra', %s, '{NULL}')", (uri,))
    assert house.another_vault().for_tenant("umbra").get(theirs)
    assert house.worker.keys.under_former_keks() == 1
    assert house.worker.rewrap() == 1
    assert house.another_vault().for_tenant("umbra").get(theirs)
    [kek] = house.worker.keys.tenant_keks()
    assert kek.former_uris == ()


# -------------------------------------------------------------------------------------------------------- tenant keys


def test_tenant_keys_are_rotated_while_grants_are_refreshed(house: House) -> None:
    ids = house.connect_many(5)
    tokens = {each: house.vault.get(each).access_token.reveal() for each in ids}
    assert house.worker.rotate_tenant_keys(timedelta(0)) == 1
    assert states(house, "tenant_key") == ["previous", "current"]
    under = house.sql("SELECT DISTINCT tenant_key_id FROM evergrant.data_key")
    current = house.sql("SELECT id AS tenant_key_id FROM evergrant.tenant_key WHERE state = 'current'")
    assert under == current
    fresh = house.another_vault()
    assert {each: fresh.get(each).access_token.reveal() for each in ids} == tokens
    house.make_due(*ids)
    assert house.worker.refresh_scan(timedelta(seconds=1)).refreshed == 5
    assert {each: house.newest_answer(each) for each in ids} == {
        each: house.another_vault().get(each).access_token.reveal() for each in ids
    }
    let_pass(house, DAYS)
    house.worker.rotate_tenant_keys(7 * DAYS)
    assert states(house, "tenant_key") == ["retired", "current"]


# ---------------------------------------------------------------------------------------------------------- destruction


def test_keys_are_destroyed_only_when_nothing_can_ever_need_them(house: House) -> None:
    each, keys = house.connect(), house.worker.keys
    now = datetime.now(UTC)
    assert keys.destroy(now)[:2] == (0, 0), "there is nothing to destroy, which is no reason to refuse"
    house.worker.rotate_data_keys(timedelta(0))
    house.worker.rotate_tenant_keys(timedelta(0))
    let_pass(house, 2 * DAYS)
    house.sql("DELETE FROM evergrant.connect_attempt")
    house.worker.rotate_data_keys()
    house.worker.rotate_tenant_keys(9 * DAYS)
    assert (states(house, "tenant_key").count("retired"), states(house, "data_key").count("retired")) == (1, 2)

    with pytest.raises(DestructionRefused, match="no open audit was made yet: run 'evergrant keys verify'"):
        keys.destroy(now)
    assert keys.verify().passed
    with pytest.raises(DestructionRefused, match="a backup from before that could be restored"):
        keys.destroy(now - 3 * DAYS)
    let_pass(house, DAYS)
    house.sql("UPDATE evergrant.open_audit SET started_at = started_at - interval '9 days'")
    with pytest.raises(DestructionRefused, match="no open audit was made since"):
        keys.destroy(now)
    house.sql("UPDATE evergrant.oauth_grant SET access_envelope = access_envelope || '!'::bytea")
    assert keys.verify()[1:] == (1, 1, 0)
    with pytest.raises(DestructionRefused, match="not every value opened"):
        keys.destroy(now)
    house.sql(
        "UPDATE evergrant.oauth_grant SET access_envelope = substr(access_envelope, 1, length(access_envelope) - 1)"
    )
    assert keys.verify().passed
    assert keys.destroy(now, dry_run=True)[:2] == (2, 1)
    assert states(house, "data_key").count("destroyed") == 0
    assert keys.destroy(now)[:2] == (2, 1)
    assert states(house, "data_key").count("destroyed") == 2
    assert house.sql("SELECT count(*) AS n FROM evergrant.data_key WHERE state = 'destroyed' AND wrapped <> ''") == [
        {"n": 0}
    ]
    assert house.another_vault().get(each)
    assert [row["event"] for row in house.sql("SELECT event FROM evergrant.audit WHERE tenant = '*'")] == [
        "key.open_audit", "key.open_audit", "key.open_audit", "key.destroyed",
    ]  # fmt: skip


def test_an_open_audit_opens_whatever_is_sealed_anywhere(house: House) -> None:
    each = house.connect("olga", metadata={"a": "b"})
    house.vault.begin("acme", owner="nina", metadata={"c": "d"})
    other = house.connect("per")
    house.vault.disconnect(other)
    house.simulator.configure(house.far_side, offline_parameters={"access_type": "offline"})
    house.vault.disconnect(house.connect("pia"))
    expected = 2 + 1 + 2 + 2
    assert house.worker.keys.verify()[1:] == (expected, 0, 0), "tokens, metadata, a flow, revocations of both kinds"
    house.sql("UPDATE evergrant.connection_metadata SET version = version + 1")
    house.sql("UPDATE evergrant.revocation SET version = version + 1")
    assert house.worker.keys.verify()[1:] == (4, 3, 0)
    assert house.vault.get(each)


def test_a_key_of_the_local_keyring_is_removed_only_when_it_wraps_nothing(house: House) -> None:
    each, keys = house.connect(), house.worker.keys
    keys.add_local_kek("second", use=True)
    assert keys.local_keks() == {"primary": False, "second": True}
    with pytest.raises(DestructionRefused, match="1 tenant keys stand under 'primary': run 'evergrant rewrap'"):
        keys.remove_local_kek("primary")
    keys.back_up_keyring(house.home / "backup.json")
    assert (house.home / "backup.json").stat().st_mode & 0o777 == 0o600
    assert house.worker.rewrap() == 1
    keys.remove_local_kek("primary")
    assert keys.local_keks() == {"second": True}
    assert house.another_vault().get(each)
    wrong: list[Callable[[], object]] = [
        lambda: keys.remove_local_kek("second"), lambda: keys.remove_local_kek("third"),
        lambda: keys.back_up_keyring(house.home / "backup.json"),
    ]  # fmt: skip
    for act in wrong:
        with pytest.raises((ConfigurationError, DestructionRefused)):
            act()


# ------------------------------------------------------------------------------------------------------------ shredding


def test_an_owner_is_shredded_and_the_others_are_not(house: House) -> None:
    gone, stays = house.connect("olga", metadata={"a": "b"}), house.connect("nina")
    before = house.row(gone)
    assert house.worker.keys.shred_owner("olga") == (1, 1, 0)
    for vault in (house.vault, house.another_vault()):
        with pytest.raises(ReconnectRequired, match="shredded"):
            vault.get(gone)
        assert vault.metadata(gone) == {}
        assert vault.get(stays)
    house.sql(
        "UPDATE evergrant.oauth_grant SET access_envelope = %s, version = %s, status = 'active'"
        " WHERE connection_id = %s",
        (before["access_envelope"], before["version"], gone),
    )
    with pytest.raises(KeyUnavailable, match="destroyed"):
        house.another_vault().get(gone)
    assert house.worker.keys.shred_owner("olga") == (1, 0, 0)
    assert house.connect("olga"), "they may come again"


def test_an_answer_that_comes_after_its_owner_was_shredded_is_not_kept(house: House) -> None:
    gone = house.connect("olga")
    house.make_due(gone)
    house.simulator.configure(house.far_side, latency=0.5)
    refresh = Thread(target=house.worker.refresh_scan, args=(timedelta(seconds=0.1),))
    refresh.start()
    while not house.finds("SELECT 1 FROM evergrant.schedule WHERE lease_until > now()"):
        pass
    house.another_worker().keys.shred_owner("olga")
    refresh.join(30)
    house.another_worker().refresh_scan(timedelta(seconds=0.1))
    row = house.row(gone)
    assert (row["status"], row["access_envelope"], row["refresh_envelope"]) == ("disconnected", None, None)


def test_a_tenant_is_shredded_and_the_others_are_not(house: House, umbra: Vault) -> None:
    stays, gone = house.connect("olga"), [connect(umbra, f"owner {n}") for n in range(3)]
    assert house.worker.keys.shred_tenant("umbra") == (3, 5, 1), (
        "three owners' keys, that of flows, and the fingerprint key"
    )
    for vault in (umbra, house.another_vault().for_tenant("umbra")):
        for each in gone:
            with pytest.raises((ReconnectRequired, UnknownConnection, CannotOpen)):
                vault.get(each)
    assert house.another_vault().get(stays)
    assert house.worker.keys.shred_tenant("umbra") == (0, 0, 0)
    assert connect(house.another_vault().for_tenant("umbra"), "somebody"), "it may come again"
