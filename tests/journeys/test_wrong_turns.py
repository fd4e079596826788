"""What people and machines get wrong, and what they are told: what it is, what to do, and nothing secret."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID, uuid4

import pytest

from tests.integration.house import NOBODY_HERE, House
from tests.integration.waiting import until
from tests.simulator.client import consent
from vault import (
    CannotOpen,
    ConfigurationError,
    ConnectRefused,
    KeyUnavailable,
    Maintenance,
    ReconnectRequired,
    Refresh,
    RefreshPending,
    SchemaOutdated,
    StoreUnavailable,
    Token,
    UnknownConnection,
    UnknownProvider,
    Vault,
    VaultError,
)

ZERO = timedelta(0)


# -------------------------------------------------------------------------------------------------------- wrong inputs


@pytest.mark.parametrize(
    "wrong",
    ["", "17", "not an id", "x" * 5000, UUID(int=0), str(UUID(int=7))],
    ids=["empty", "a number", "words", "long", "an id", "an id as text"],
)
def test_an_id_of_no_connection(calm_house: House, wrong: Any) -> None:
    vault = calm_house.vault
    for ask in (
        lambda: vault.get(wrong),
        lambda: vault.connection(wrong),
        lambda: vault.disconnect(wrong),
        lambda: vault.report_rejected(wrong),
        lambda: vault.enqueue(Refresh(wrong)),
    ):
        with pytest.raises(UnknownConnection) as refusal:
            ask()
        assert len(str(refusal.value)) < 250
        assert refusal.value.connection_id == str(wrong)[:64]


def test_a_provider_nobody_registered_is_answered_with_those_that_are(calm_house: House) -> None:
    with pytest.raises(UnknownProvider, match=r"known: acme,.*VAULT_PROVIDERS"):
        calm_house.vault.begin("spootify", owner="olga")


def test_a_provider_without_a_registration_of_ours(calm_house: House) -> None:
    with pytest.raises(ConfigurationError, match="VAULT_CLIENT_SPOTIFY_ID"):
        calm_house.vault.begin("spotify", owner="olga")


@pytest.mark.parametrize("away", ["https://evil.example/", "//evil.example", "/\\evil.example", "next"])
def test_a_way_back_that_leads_away_is_refused(calm_house: House, away: str) -> None:
    with pytest.raises(ConnectRefused) as refusal:
        calm_house.vault.begin("acme", owner="olga", return_to=away)
    assert refusal.value.reason == "return_to"


def test_a_reconnect_as_somebody_else_is_refused(calm_house: House) -> None:
    olgas = calm_house.connect("olga")
    with pytest.raises(ConnectRefused) as refusal:
        calm_house.vault.begin("acme", owner="nina", reconnect=olgas)
    assert refusal.value.reason == "other_connection"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": "never seen"}, "unknown_state"),
        ({"browser": "another session"}, "other_browser"),
        ({"browser": None}, "other_browser"),
        ({"code": None, "error": "access_denied"}, "denied"),
        ({"code": "made up"}, "exchange_refused"),
    ],
    ids=["unknown state", "another browser", "no browser", "declined", "wrong code"],
)
def test_a_flow_that_comes_back_wrong(calm_house: House, changes: dict[str, Any], reason: str) -> None:
    vault = calm_house.vault
    start = vault.begin("acme", owner="olga", browser="her session")
    answer = consent(start.url)
    right = {"state": answer["state"], "code": answer["code"], "browser": "her session"}
    with pytest.raises(ConnectRefused) as refusal:
        vault.complete(**{**right, **changes})
    assert refusal.value.reason == reason
    for secret in (answer["state"], answer["code"]):
        assert secret not in str(refusal.value)
    assert vault.connections() == []


def test_a_state_is_good_for_one_call(calm_house: House) -> None:
    start = calm_house.vault.begin("acme", owner="olga")
    answer = consent(start.url)
    calm_house.vault.complete(state=answer["state"], code=answer["code"])
    with pytest.raises(ConnectRefused) as refusal:
        calm_house.vault.complete(state=answer["state"], code=answer["code"])
    assert refusal.value.reason == "unknown_state"


def test_the_way_to_the_provider_carries_a_challenge_and_no_secret(calm_house: House) -> None:
    start = calm_house.vault.begin("acme", owner="olga", scopes=["read", "write"])
    sent = dict(parse_qsl(urlsplit(start.url).query))
    assert (sent["code_challenge_method"], sent["response_type"], sent["scope"]) == ("S256", "code", "read write")
    assert sent["state"] == start.state
    assert "cnry-cs-simulator" not in start.url
    assert len({calm_house.vault.begin("acme", owner="olga").state for _ in range(3)}) == 3


# ------------------------------------------------------------------------------------------------ damage, and lost keys


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE evergrant.oauth_grant SET access_envelope = set_byte(access_envelope, length(access_envelope) - 1,"
        " get_byte(access_envelope, length(access_envelope) - 1) # 1)",
        "UPDATE evergrant.oauth_grant SET access_envelope = substr(access_envelope, 1, 40)",
        "UPDATE evergrant.oauth_grant SET access_envelope = refresh_envelope",
        "UPDATE evergrant.oauth_grant SET version = version + 1",
        "UPDATE evergrant.oauth_grant g SET access_envelope = o.access_envelope, data_key_id = o.data_key_id"
        " FROM evergrant.oauth_grant o WHERE o.connection_id <> g.connection_id",
        "UPDATE evergrant.oauth_grant SET access_envelope = ''",
    ],
    ids=["a byte", "cut off", "another field's", "rolled back", "another row's", "emptied"],
)
def test_a_damaged_value_is_refused_and_every_damage_looks_the_same(calm_house: House, damage: str) -> None:
    each, _ = calm_house.connect("olga"), calm_house.connect("nina")
    token = calm_house.vault.get(each).access_token.reveal()
    calm_house.sql(damage)
    for vault in (calm_house.vault, calm_house.another_vault()):
        with pytest.raises(CannotOpen) as refusal:
            vault.get(each)
        assert str(refusal.value) == str(CannotOpen())
        assert refusal.value.__cause__ is None
        assert token not in repr(refusal.value.__context__)


def test_another_master_key_than_the_one_it_was_sealed_under(calm_house: House, tmp_path: Path) -> None:
    each = calm_house.connect()
    stranger = calm_house.another_vault(home=tmp_path / "another home")
    with pytest.raises(KeyUnavailable, match=r"VAULT_KEK_FORMER_URIS.*check the key and the rights on it") as refusal:
        stranger.get(each)
    assert not refusal.value.transient
    assert "local:primary#" in str(refusal.value), "the key it wants is named"
    assert calm_house.vault.get(each), "and nothing was harmed"


# ------------------------------------------------------------------------------------------------ servers that are away


def test_a_database_that_is_away_is_named_without_its_password(calm_house: House, tmp_path: Path) -> None:
    away = calm_house.another_vault(database_url=f"postgresql://vault:hunter2@/x?host={tmp_path}")
    for ask in (lambda: away.get(uuid4()), lambda: away.connections(), lambda: away.begin("acme", owner="olga")):
        with pytest.raises(StoreUnavailable) as refusal:
            ask()
        assert refusal.value.transient
        assert "VAULT_DATABASE_URL" in str(refusal.value)
        assert "hunter2" not in str(refusal.value)


def test_redis_away_costs_nobody_anything_but_is_seen(calm_house: House) -> None:
    each = calm_house.connect()
    vault = calm_house.another_vault(redis_url=NOBODY_HERE)
    vault.enqueue(Refresh(each))
    vault.report_rejected(each)
    assert vault.get(each)
    worker = calm_house.another_worker(redis_url=NOBODY_HERE)
    assert worker.refresh_scan().refreshed == 1, "the row said so, not the message"
    worker.sign_of_life("another worker", timedelta(minutes=1))
    health = worker.health_check()
    assert not health.healthy
    assert "VAULT_REDIS_URL" in health.parts["redis"]
    assert {part for part, found in health.parts.items() if found != "ok"} == {"redis"}


def test_all_is_well(calm_house: House) -> None:
    calm_house.connect()
    calm_house.worker.sign_of_life("another worker", timedelta(minutes=1))
    health = calm_house.worker.health_check()
    assert health.healthy, health.parts


def test_a_database_that_was_never_set_up(calm_house: House, empty_database_url: str) -> None:
    vault = calm_house.another_vault(database_url=empty_database_url)
    worker = calm_house.another_worker(database_url=empty_database_url)
    for ask in (lambda: vault.get(uuid4()), lambda: vault.connections(), lambda: worker.refresh_scan(), worker.check):
        with pytest.raises(SchemaOutdated, match="evergrant db upgrade"):
            ask()
    worker.upgrade_schema()
    assert worker.check()
    assert vault.connections() == []


def test_settings_that_are_missing_are_all_named_at_once() -> None:
    for face in (Vault, Maintenance):
        with pytest.raises(ConfigurationError) as refusal:
            face.from_env({})
        assert len(refusal.value.problems) == 2
        assert "VAULT_DATABASE_URL" in str(refusal.value)
        assert "VAULT_REDIS_URL" in str(refusal.value)


# -------------------------------------------------------------------------------------------------- waiting for a token


def test_whoever_waits_for_a_token_is_told_when_to_ask_again(calm_house: House) -> None:
    each = calm_house.connect()
    calm_house.fault("rate_limited", retry_after=90)
    calm_house.make_due(each)
    calm_house.worker.refresh_scan()
    calm_house.sql("UPDATE evergrant.oauth_grant SET expires_at = now()")
    with pytest.raises(RefreshPending, match="http_429") as pending:
        calm_house.vault.get(each)
    assert pending.value.transient
    assert pending.value.retry_after is not None
    assert timedelta(seconds=80) < pending.value.retry_after <= timedelta(seconds=90)


def test_whoever_waits_gets_the_token_as_soon_as_it_is_there(calm_house: House) -> None:
    each = calm_house.connect()
    calm_house.sql("UPDATE evergrant.oauth_grant SET expires_at = now()")
    got: list[Token] = []
    waiting = threading.Thread(target=lambda: got.append(calm_house.vault.get(each)))
    waiting.start()
    until(lambda: calm_house.row(each)["urgent"])
    assert calm_house.worker.refresh_scan().refreshed == 1
    waiting.join(5)
    [token] = got
    assert token.access_token == calm_house.vault.get(each).access_token


def test_whoever_waits_while_the_owner_disconnects_is_told_so(calm_house: House) -> None:
    each = calm_house.connect()
    calm_house.sql("UPDATE evergrant.oauth_grant SET expires_at = now()")
    errors: list[VaultError] = []

    def wait() -> None:
        try:
            calm_house.vault.get(each)
        except VaultError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    until(lambda: calm_house.row(each)["urgent"])
    calm_house.another_vault().disconnect(each)
    waiting.join(5)
    [error] = errors
    assert isinstance(error, ReconnectRequired)
    assert error.reason == "disconnected"
