"""Our registrations at providers: their secrets rolled, mistyped, replaced, with grants that depend on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from tests.integration.house import House
from tests.integration.waiting import until
from tests.simulator import SimulatorProcess
from tests.simulator.client import consent
from vault import (
    ConfigurationError,
    ConnectRefused,
    DestructionRefused,
    KeyUnavailable,
    Maintenance,
    Secret,
    Settings,
    UnknownClient,
    UnknownProvider,
    Vault,
)
from vault.metrics import client_secrets_refused

ZERO = timedelta(0)
MINUTE = timedelta(minutes=1)
OURS, OLD, NEW, WRONG = "evergrant", "cnry-cs-simulator", "cnry-cs-the-new-one", "cnry-cs-mistyped"
NEXT, NEXTS = "evergrant-2", "cnry-cs-of-the-second"


class Home(House):
    """A house that counts what was refused at its provider, and no other house's."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._before = self.oracle.count("refused")

    @property
    def refused(self) -> int:
        return self.oracle.count("refused") - self._before


@pytest.fixture
def build(database_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[Callable[..., Home]]:
    """Build a house whose registration is in the environment, or else in no place yet."""
    houses: list[Home] = []

    def built(*, environment: bool = False, **more: Any) -> Home:
        house = Home(database_url, simulator, tmp_path, **more)
        if not environment:
            for part in ("ID", "SECRET"):
                del house.environment[f"VAULT_CLIENT_ACME_{part}"]
        houses.append(house)
        return house

    yield built
    for house in houses:
        house.close()


@pytest.fixture
def house(build: Callable[..., Home]) -> Home:
    """A house whose registration is in the store."""
    built = build()
    assert built.worker.clients.set("acme", OURS, Secret(OLD)) == 1
    return built


def at_the_provider(house: Home, **members: Any) -> None:
    house.simulator.configure(house.far_side, **members)


def time_for_a_look(process: Vault | Maintenance) -> None:
    """As when half a minute has passed."""
    process._wiring._providers._look_at = 0.0


def refresh(house: Home, *ids: UUID, worker: Maintenance | None = None) -> int:
    house.make_due(*ids)
    return (worker or house.worker).refresh_scan(timedelta(seconds=1)).refreshed


def events(house: Home) -> list[dict[str, Any]]:
    return house.sql(
        "SELECT event, detail FROM evergrant.audit WHERE tenant = '*' AND event LIKE 'client.%%' ORDER BY id"
    )


# ----------------------------------------------------------------------------------------------------- rolling a secret


def test_a_secret_is_rolled_and_no_refresh_fails(house: Home) -> None:
    ids, clients = house.connect_many(3), house.worker.clients
    assert refresh(house, *ids) == 3
    at_the_provider(house, other_secrets=[NEW])
    assert refresh(house, *ids) == 3
    assert clients.set("acme", OURS, Secret(NEW)) == 1
    assert refresh(house, *ids) == 3, "a process that has not looked yet goes on with the one before"
    time_for_a_look(house.worker)
    assert refresh(house, *ids) == 3
    at_the_provider(house, client_secret=NEW, other_secrets=[])
    time_for_a_look(house.vault)
    ids.append(house.connect("nina"))
    assert refresh(house, *ids) == 4
    [listed] = clients.list()
    assert (listed.provider, listed.generation, listed.client_id, listed.where) == ("acme", 1, OURS, "store")
    assert (listed.current, listed.secrets, listed.grants) == (True, 2, 4)
    clients.end_roll("acme", OURS)
    clients.end_roll("acme", OURS)
    time_for_a_look(house.worker)
    assert refresh(house, *ids) == 4
    assert clients.list()[0].secrets == 1
    assert house.refused == 0
    told = events(house)
    assert [each["event"] for each in told] == ["client.added", "client.secret_changed", "client.secret_ended"]
    for each in told:
        assert (each["detail"]["provider"], each["detail"]["generation"]) == ("acme", 1)
        assert each["detail"]["client_id"] == OURS
    added, changed, ended = (each["detail"] for each in told)
    assert changed["other"] == added["secret"] != changed["secret"] == ended["secret"]
    assert ended["other"] is None


def test_a_mistyped_secret_is_told_once_and_harms_no_grant(house: Home) -> None:
    ids = house.connect_many(6)
    at_the_provider(house, other_secrets=[NEW])
    house.worker.clients.set("acme", OURS, Secret(WRONG))
    before = client_secrets_refused.labels("other")._value.get()
    worker = house.another_worker()
    with capture_logs() as logs:
        assert refresh(house, *ids, worker=worker) == 0
        for each in ids:
            assert house.state(each) == ("active", "invalid_client")
            assert house.row(each)["wait"] < 10 * timedelta(seconds=1), "soon again"
            assert house.row(each)["intent_fp"] is None, "nothing was spent"
        assert refresh(house, *ids, worker=worker) == 6, "the breaker is closed"
        assert refresh(house, *ids, worker=worker) == 6, "and the wrong one is not shown again"
    assert house.refused == 6
    [alert] = [each for each in logs if each["event"] == "client.secret_refused"]
    assert (alert["provider"], alert["client_id"], alert["instead"]) == ("acme", OURS, "other")
    assert client_secrets_refused.labels("other")._value.get() == before + 1
    assert house.worker.clients.set("acme", OURS, Secret(NEW), mistyped=True) == 1
    time_for_a_look(worker)
    at_the_provider(house, client_secret=NEW, other_secrets=[])
    assert refresh(house, *ids, worker=worker) == 6
    at_the_provider(house, client_secret=OLD)
    later = house.another_worker()
    assert refresh(house, *ids, worker=later) == 0
    assert refresh(house, *ids, worker=later) == 6, "the one that worked before was kept beside the right one"


def test_when_both_are_refused_the_breaker_opens_until_a_third_comes(house: Home) -> None:
    ids = house.connect_many(2)
    at_the_provider(house, client_secret=NEW)
    worker = house.another_worker()
    house.worker.clients.set("acme", OURS, Secret(WRONG))
    with capture_logs() as logs:
        assert refresh(house, *ids, worker=worker) == 0
        assert refresh(house, *ids, worker=worker) == 0
    assert [e["instead"] for e in logs if e["event"] == "client.secret_refused"] == ["other", "nothing"]
    assert all(house.row(each)["wait"] > 29 * MINUTE for each in ids)
    house.make_due(*ids)
    asked = house.refused
    assert worker.refresh_scan(timedelta(seconds=1)).claimed == 0
    assert house.refused == asked
    house.worker.clients.set("acme", OURS, Secret(NEW))
    time_for_a_look(worker)
    assert worker.refresh_scan(timedelta(seconds=1)).refreshed == 2, "what was held against the others is forgotten"


def test_a_code_is_exchanged_with_the_other_secret_when_the_first_is_refused(house: Home) -> None:
    house.worker.clients.set("acme", OURS, Secret(WRONG))
    assert house.connect()
    assert house.refused == 1
    assert house.connect("nina")
    assert house.refused == 1
    at_the_provider(house, invalid_client=True)
    with pytest.raises(ConnectRefused, match="invalid_client"):
        house.connect("otto")
    assert house.refused == 2, "the wrong one is not tried again"


def test_the_secret_before_may_stand_in_the_environment(build: Callable[..., Home]) -> None:
    house = build(environment=True)
    house.environment["VAULT_CLIENT_ACME_SECRET_FORMER"] = OLD
    house.environment["VAULT_CLIENT_ACME_SECRET"] = NEW
    each = house.connect()
    assert refresh(house, each) == 0
    assert refresh(house, each) == 1
    assert house.refused == 2, "each process finds out for itself"


def test_the_store_may_hold_the_secret_of_a_client_that_the_environment_names(build: Callable[..., Home]) -> None:
    house = build(environment=True)
    del house.environment["VAULT_CLIENT_ACME_SECRET"]
    house.worker.clients.set("acme", OURS, Secret(OLD))
    assert refresh(house, house.connect()) == 1
    assert [(each.where, each.current, each.secrets, each.grants) for each in house.worker.clients.list()] == [
        ("environment", True, 0, 1),
        ("store", False, 1, 1),
    ]


# ------------------------------------------------------------------------------------------------- another registration


@pytest.fixture
def moved(house: Home) -> tuple[Home, UUID, UUID]:
    """A house with two registrations, and a grant of each."""
    olgas = house.connect("olga")
    at_the_provider(house, other_clients={NEXT: NEXTS})
    assert house.worker.clients.set("acme", NEXT, Secret(NEXTS)) == 2
    time_for_a_look(house.vault)
    return house, olgas, house.connect("nina")


def test_grants_are_refreshed_as_the_client_that_got_them(moved: tuple[Home, UUID, UUID]) -> None:
    house, *ids = moved
    assert [house.row(each)["client_id"] for each in ids] == [OURS, NEXT]
    worker = house.another_worker()
    for _ in range(2):
        assert refresh(house, *ids, worker=worker) == 2
    assert house.refused == 0
    first, second = house.worker.clients.list()
    assert (first.generation, first.current, first.grants) == (1, False, 1)
    assert (second.generation, second.current, second.grants) == (2, True, 1)


def test_a_rejection_as_the_client_that_got_the_consent_is_conclusive(moved: tuple[Home, UUID, UUID]) -> None:
    house, olgas, _ = moved
    house.simulator.kill_account(house.far_side, house.account(olgas))
    assert refresh(house, olgas, worker=house.another_worker()) == 0
    assert house.state(olgas) == ("needs_reconnect", "invalid_grant")


def test_a_registration_is_not_removed_while_grants_need_it(moved: tuple[Home, UUID, UUID]) -> None:
    house, olgas, ninas = moved
    clients = house.worker.clients
    with pytest.raises(DestructionRefused, match="1 grants at acme"):
        clients.remove("acme", OURS)
    house.vault.disconnect(olgas)
    with pytest.raises(DestructionRefused, match="1 grants at acme"):
        clients.remove("acme", OURS)  # the provider is still to be told
    house.worker.refresh_scan()
    assert clients.remove("acme", OURS) == 0
    assert [each.client_id for each in clients.list()] == [NEXT]
    assert clients.remove("acme", NEXT, force=True) == 1
    assert [(each.where, each.client_id, each.grants) for each in clients.list()] == [("nowhere", NEXT, 1)]
    with pytest.raises(UnknownClient, match="evergrant client list"):
        clients.remove("acme", NEXT)
    with pytest.raises(UnknownClient):
        clients.end_roll("acme", NEXT)
    assert [each["event"] for each in events(house)][-2:] == ["client.removed"] * 2
    assert events(house)[-1]["detail"]["grants"] == 1
    assert refresh(house, ninas, worker=house.another_worker()) == 0
    assert house.state(ninas)[0] == "active"


def test_a_token_is_revoked_as_the_client_it_was_given_to(moved: tuple[Home, UUID, UUID]) -> None:
    house, *ids = moved
    for each in ids:
        house.vault.disconnect(each)
        assert house.alive(each)
    house.another_worker().refresh_scan()
    assert not any(house.alive(each) for each in ids)
    revoked = [
        row["detail"]["outcome"] for each in ids for row in house.audit(each) if row["event"].endswith("revoked")
    ]
    assert revoked == ["revoked", "revoked"]


def test_a_revocation_falls_back_to_the_other_secret(house: Home) -> None:
    each = house.connect()
    house.worker.clients.set("acme", OURS, Secret(WRONG))
    house.vault.disconnect(each)
    worker = house.another_worker()
    worker.refresh_scan()
    assert house.alive(each)
    house.sql("UPDATE evergrant.revocation SET next_at = now()")
    worker.refresh_scan()
    assert not house.alive(each)


def test_a_registration_that_is_refused_leaves_the_other_one_alone(moved: tuple[Home, UUID, UUID]) -> None:
    house, olgas, ninas = moved
    nobody_elses = house.connect("otto")
    for refused, another in ((NEXT, olgas), (OURS, ninas)):
        at_the_provider(house, other_clients={NEXT: NEXTS if refused is not NEXT else "revoked"})
        at_the_provider(house, client_secret=OLD if refused is not OURS else "revoked")
        worker = house.another_worker()
        fine = {olgas: OURS, ninas: NEXT, nobody_elses: NEXT}
        assert refresh(house, olgas, ninas, nobody_elses, worker=worker) == sum(c != refused for c in fine.values())
        asked = house.refused
        assert refresh(house, another, worker=worker) == 1
        late = [each for each, client in fine.items() if client == refused]
        house.make_due(*late)
        tally = worker.refresh_scan(timedelta(seconds=1))
        assert (tally.refreshed, tally.claimed) == (0, len(late)), "put off, and not claimed over and over"
        assert house.refused == asked, "without asking"
        assert all(MINUTE < house.row(each)["wait"] <= 5 * MINUTE for each in late)
        assert {house.state(each)[0] for each in fine} == {"active"}


def test_a_flow_is_ended_as_the_client_it_was_begun_with(house: Home) -> None:
    begun = house.vault.begin("acme", owner="olga")
    at_the_provider(house, other_clients={NEXT: NEXTS})
    house.worker.clients.set("acme", NEXT, Secret(NEXTS))
    newer = house.another_vault()
    answers = [(house.vault, consent(newer.begin("acme", owner="nina").url)), (newer, consent(begun.url))]
    made = [vault.complete(state=back["state"], code=back["code"]).id for vault, back in answers]
    assert [house.row(each)["client_id"] for each in made] == [NEXT, OURS]
    late = consent(house.vault.begin("acme", owner="otto").url)
    house.worker.clients.remove("acme", NEXT, force=True)
    time_for_a_look(house.vault)
    with pytest.raises(ConnectRefused) as refusal:
        house.vault.complete(state=late["state"], code=late["code"])
    assert refusal.value.reason == "other_client"


def test_a_new_registration_in_the_environment_leaves_the_former_one_to_the_store(build: Callable[..., Home]) -> None:
    house = build(environment=True)
    olgas = house.connect("olga")
    at_the_provider(house, other_clients={NEXT: NEXTS})
    house.environment |= {"VAULT_CLIENT_ACME_ID": NEXT, "VAULT_CLIENT_ACME_SECRET": NEXTS}
    worker = house.another_worker()
    worker.clients.set("acme", OURS, Secret(OLD))
    made = house.another_vault()
    start = consent(made.begin("acme", owner="nina").url)
    ninas = made.complete(state=start["state"], code=start["code"]).id
    assert house.row(ninas)["client_id"] == NEXT
    assert refresh(house, olgas, ninas, worker=house.another_worker()) == 2


# ----------------------------------------------------------------------------------------------------- keys and the KMS


def test_without_the_kms_a_process_goes_on_with_what_it_knows_and_a_new_one_asks_nobody(house: Home) -> None:
    each, keyring = house.connect(), house.home / "keyring.json"
    assert refresh(house, each) == 1
    house.worker.clients.set("acme", OURS, Secret(OLD))
    keyring.rename(house.home / "hidden.json")
    time_for_a_look(house.worker)
    assert refresh(house, each) == 1
    cold = house.another_worker()
    house.make_due(each)
    with capture_logs() as logs:
        for _ in range(3):
            time_for_a_look(cold)
            assert cold.refresh_scan(timedelta(seconds=1)).claimed == 0
    [told] = [e for e in logs if e["event"] == "clients.unavailable"]
    assert (told["what"], told["error"]) == (f"acme {OURS}", "KeyUnavailable")
    with pytest.raises(KeyUnavailable, match="client secret at acme"):
        house.another_vault().begin("acme", owner="otto")
    (house.home / "hidden.json").rename(keyring)

    def looks_again() -> bool:
        time_for_a_look(cold)
        return cold.refresh_scan(timedelta(seconds=1)).refreshed == 1

    until(looks_again)  # for a second the keyring repeats what the KMS has said


def test_a_grant_waits_while_only_its_own_registration_cannot_be_opened(moved: tuple[Home, UUID, UUID]) -> None:
    house, olgas, ninas = moved
    [kept] = house.sql("SELECT secret_envelope FROM evergrant.oauth_client WHERE generation = 1")
    house.sql("UPDATE evergrant.oauth_client SET secret_envelope = '\\x00' WHERE generation = 1")
    worker = house.another_worker()
    assert refresh(house, olgas, ninas, worker=worker) == 1
    assert house.state(olgas) == ("active", "client_secret_unavailable")
    assert house.arrivals(olgas) == 0, "it is not sent as somebody else"
    house.sql("UPDATE evergrant.oauth_client SET secret_envelope = %s WHERE generation = 1", (kept["secret_envelope"],))
    time_for_a_look(worker)
    assert refresh(house, olgas, ninas, worker=worker) == 2


def test_rotating_and_proving_keys_takes_the_secrets_of_clients_along(house: Home) -> None:
    house.worker.clients.set("acme", OURS, Secret(NEW))
    [before] = house.sql("SELECT * FROM evergrant.oauth_client")
    counted = {each.what: each.number for each in house.worker.keys.counts()}
    assert counted["oauth_client.client_secret"] == counted["oauth_client.other_client_secret"] == 1
    house.sql("UPDATE evergrant.data_key SET created_at = now() - interval '1 day'")
    assert house.worker.rotate_data_keys(ZERO) >= 1
    assert house.worker.keys.under_replaced_data_keys() == 0
    [after] = house.sql("SELECT * FROM evergrant.oauth_client")
    assert after["version"] == before["version"]
    for column in ("data_key_id", "secret_envelope", "other_envelope"):
        assert after[column] != before[column]
    assert house.worker.rotate_tenant_keys(ZERO) >= 1
    house.worker.keys.add_local_kek("second", use=True)
    assert house.worker.rewrap() >= 1
    audit = house.another_worker().keys.verify()
    assert audit.passed
    assert audit.opened >= 2
    at_the_provider(house, client_secret=WRONG, other_secrets=[OLD])
    assert refresh(house, house.connect(), worker=house.another_worker()) == 0
    for envelope in ("secret_envelope", "other_envelope"):
        house.sql(f"UPDATE evergrant.oauth_client SET {envelope} = set_byte({envelope}, 90, 0), version = version")
    assert not house.another_worker().keys.verify().passed


@pytest.mark.parametrize(
    "swap",
    [
        "UPDATE evergrant.oauth_client SET secret_envelope = other_envelope",
        "UPDATE evergrant.oauth_client SET version = version - 1",
        "UPDATE evergrant.oauth_client c SET (secret_envelope, data_key_id, version) ="
        " (SELECT secret_envelope, data_key_id, version FROM evergrant.oauth_client o WHERE o.id <> c.id)",
    ],
    ids=["another field's", "rolled back", "another row's"],
)
def test_a_secret_that_was_moved_does_not_open_nor_does_a_rotation_mend_that(house: Home, swap: str) -> None:
    house.worker.clients.set("acme", NEXT, Secret(NEXTS))
    for client_id in (OURS, NEXT):
        house.worker.clients.set("acme", client_id, Secret(NEW))
    assert house.another_worker().keys.verify().passed
    house.sql(swap)
    house.sql("UPDATE evergrant.data_key SET created_at = now() - interval '1 day'")
    worker = house.another_worker()
    assert worker.keys.verify().cannot_open >= 2
    worker.rotate_data_keys(ZERO)
    assert worker.keys.verify().cannot_open >= 2


@pytest.mark.parametrize("column", ["provider", "client_id"])
def test_a_secret_is_not_shown_as_somebody_else_s_nor_to_somebody_else(house: Home, column: str) -> None:
    house.sql(f"UPDATE evergrant.oauth_client SET {column} = 'google'")
    with capture_logs() as logs, pytest.raises((KeyUnavailable, ConfigurationError)):
        house.another_vault().begin("google" if column == "provider" else "acme", owner="olga")
    assert [each["error"] for each in logs if each["event"] == "clients.unavailable"] == ["CannotOpen"]


def test_two_who_set_a_secret_at_once_lose_neither(house: Home) -> None:
    processes = [house.another_worker() for _ in range(4)]

    def set_one(number: int) -> int:
        return processes[number].clients.set("acme", OURS, Secret(f"secret {number}"))

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(set_one, range(4))) == {1}
    [row] = house.sql("SELECT * FROM evergrant.oauth_client")
    assert row["version"] == 5
    assert house.another_worker().keys.verify().passed
    prints = [(each["detail"].get("secret"), each["detail"].get("other")) for each in events(house)]
    for (secret, _), (_, other) in pairwise(prints):
        assert other == secret, "each keeps what was set before it"


def test_two_new_registrations_at_once_become_two_generations(house: Home) -> None:
    processes = [house.another_worker() for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        made = threads.map(lambda n: processes[n].clients.set("acme", f"client {n}", None), range(4))
        assert sorted(made) == [2, 3, 4, 5]
    assert [each.secrets for each in house.worker.clients.list()] == [1, 0, 0, 0, 0]


# ------------------------------------------------------------------------------------------------------------- refusals


def test_without_any_registration_it_is_said_where_one_is_set(build: Callable[..., Home]) -> None:
    with pytest.raises(ConfigurationError, match=r"VAULT_CLIENT_ACME_ID.*evergrant client set"):
        build().vault.begin("acme", owner="olga")


def test_what_cannot_be_a_registration_is_refused(house: Home) -> None:
    clients = house.worker.clients
    with pytest.raises(UnknownProvider):
        clients.set("spootify", OURS, Secret(NEW))
    for client_id, secret in [("", NEW), (OURS, ""), (OURS, "a\nb"), ("x" * 5000, NEW), (OURS, " padded ")]:
        with pytest.raises(ConfigurationError) as refusal:
            clients.set("acme", client_id, Secret(secret))
        assert not secret or secret not in str(refusal.value)
    assert len(events(house)) == 1


def test_a_provider_that_is_gone_is_a_warning(house: Home) -> None:
    house.sql("UPDATE evergrant.oauth_client SET provider = 'gone'")
    with capture_logs() as logs:
        for _ in range(2):
            time_for_a_look(house.worker)
            house.worker.refresh_scan()
    assert [e["provider"] for e in logs if e["event"] == "clients.unknown_provider"] == ["gone"]


def test_nobody_can_be_called_what_stands_for_all(house: Home) -> None:
    with pytest.raises(ConfigurationError, match="VAULT_TENANT"):
        Settings.load({**house.environment, "VAULT_TENANT": "*"})
    with pytest.raises(ConfigurationError, match="no tenant"):
        house.vault.for_tenant("*")
    for act in (house.worker.keys.set_tenant_kek, lambda tenant, uri: house.worker.keys.test_kek(uri, tenant)):
        with pytest.raises(ConfigurationError, match="no tenant"):
            act("*", f"local:{house.home}/theirs.json")
    for shred in (house.worker.keys.shred_tenant, lambda tenant: house.worker.keys.shred_owner("client", tenant)):
        with pytest.raises(DestructionRefused, match="evergrant client remove"):
            shred("*")
    assert house.another_worker().keys.verify().passed
