"""Credentials of seven kinds, as an app stores, reads, replaces and ends them: on real PostgreSQL."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.integration.house import House
from tests.support import certificates
from vault import (
    CannotOpen,
    InvalidCredential,
    Secret,
    UnknownCredential,
    Vault,
    VersionConflict,
)
from vault.services import expiry

DAY = timedelta(days=1)


@pytest.fixture
def vault(house: House) -> Vault:
    return house.vault


def value(vault: Vault, credential_id: UUID, version: int | None = None) -> str:
    return vault.credential(credential_id, version=version).value.reveal()


def events(house: House, credential_id: UUID) -> list[str]:
    found = house.sql(
        "SELECT event FROM evergrant.audit WHERE detail ->> 'credential_id' = %s ORDER BY id", [str(credential_id)]
    )
    return [row["event"] for row in found]


def near(instant: datetime | None, wanted: timedelta) -> bool:
    return instant is not None and abs(instant - datetime.now(UTC) - wanted) < timedelta(minutes=1)


# ------------------------------------------------------------------------------------------------------------ each kind


def test_an_api_key_is_kept_read_and_described_without_its_value(house: House, vault: Vault) -> None:
    key = vault.store_api_key(
        "sk_live_51H", provider="acme", owner="ann", name="billing", tags={"team": "blue"}, expires_at=None
    )
    found = vault.credential(key, reason="to send an invoice")
    assert found.value.reveal() == "sk_live_51H"
    shown = vault.describe_credential(key)
    assert found.credential == shown
    assert (shown.kind, shown.provider, shown.owner, shown.name) == ("api_key", "acme", "ann", "billing")
    assert (shown.version, shown.state, shown.tags) == (1, "active", {"team": "blue"})
    assert near(shown.rotate_at, 90 * DAY)
    assert near(shown.warn_at, 60 * DAY), "thirty days before; the policy's fourteen come later"
    assert shown.export_name == f"integration-default-acme-api_key-{key}"
    assert "sk_live" not in repr((found, shown, vault.history(key), vault.credentials()))
    assert events(house, key) == ["credential.stored", "credential.retrieved"]


def test_basic_auth_is_a_name_and_a_password_each_by_itself(vault: Vault) -> None:
    ids = vault.store_basic_auth("ann", Secret("correct horse"), provider="acme")
    assert (value(vault, ids.username), value(vault, ids.password)) == ("ann", "correct horse")
    assert vault.put(ids.password, "battery staple") == 2
    assert (value(vault, ids.username), value(vault, ids.password)) == ("ann", "battery staple")
    assert vault.describe_credential(ids.username).rotate_at is None, "a name does not age"


def test_a_certificate_ends_when_it_says_and_is_replaced_with_its_key(vault: Vault) -> None:
    first, second = certificates.leaf("ann", days=40), certificates.leaf("ann", days=400)
    ids = vault.store_certificate(first.chain, first.key, provider="bank")
    shown = vault.describe_credential(ids.certificate)
    assert near(shown.expires_at, 40 * DAY)
    assert near(shown.warn_at, 10 * DAY), "thirty days before its end"
    assert (shown.facts["subject"], shown.facts["chain"]) == ("CN=ann", "2")
    for half in ids:
        with pytest.raises(InvalidCredential, match="together"):
            vault.put(half, first.key)
    assert vault.put_certificate(ids.certificate, second.chain, second.key, expected_version=1) == 2
    assert (value(vault, ids.certificate), value(vault, ids.key)) == (second.chain, second.key)
    assert near(vault.describe_credential(ids.certificate).expires_at, 400 * DAY)
    assert vault.roll_back(ids.key) == 3
    assert (value(vault, ids.certificate), value(vault, ids.key)) == (first.chain, first.key)
    assert near(vault.describe_credential(ids.certificate).expires_at, 40 * DAY)


def test_the_password_of_a_key_is_not_needed_any_more(vault: Vault) -> None:
    made = certificates.leaf("ann", days=40)
    ids = vault.store_certificate(made.chain, certificates.encrypted(made.key, "open sesame"), password="open sesame")
    assert value(vault, ids.key) == made.key


def test_a_webhook_secret_is_made_when_none_is_given(vault: Vault) -> None:
    made = vault.store_webhook_secret(provider="acme")
    assert value(vault, made).startswith("whsec_")
    assert vault.describe_credential(made).facts == {"style": "standard"}
    assert near(vault.describe_credential(made).rotate_at, 180 * DAY)
    given = vault.store_webhook_secret("it's-a-github-secret", style="github")
    assert value(vault, given) == "it's-a-github-secret"


def test_any_text_can_be_kept(vault: Vault) -> None:
    text = '{"type": "service_account",\n "key": "ключ"}\n'
    assert value(vault, vault.store_secret(text)) == text


BAD = {
    "empty": lambda v, c: v.store_api_key(""),
    "white space": lambda v, c: v.store_api_key("sk_live \n"),
    "control characters": lambda v, c: v.store_api_key("sk\x00live"),
    "a colon in a user name": lambda v, c: v.store_basic_auth("a:b", "secret"),
    "no certificate": lambda v, c: v.store_certificate("no PEM", c.key),
    "another's key": lambda v, c: v.store_certificate(c.chain, certificates.leaf("bob", days=9).key),
    "a chain out of order": lambda v, c: v.store_certificate(certificates.reversed_chain(c.chain), c.key),
    "a key in the chain": lambda v, c: v.store_certificate(c.chain + c.key, c.key),
    "a locked key": lambda v, c: v.store_certificate(c.chain, certificates.encrypted(c.key, "x")),
    "a wrong password": lambda v, c: v.store_certificate(c.chain, certificates.encrypted(c.key, "x"), password="y"),
    "a short RSA key": lambda v, c: v.store_certificate(c.chain, certificates.short_rsa_key()),
    "no base64": lambda v, c: v.store_webhook_secret("whsec_!!!!"),
    "a short webhook secret": lambda v, c: v.store_webhook_secret("short", style="github"),
    "an unknown style": lambda v, c: v.store_webhook_secret("long enough for anybody", style="gitlab"),
    "too long": lambda v, c: v.store_secret("x" * 65_537),
    "no text": lambda v, c: v.store_secret("\ud800"),
    "an end without a zone": lambda v, c: v.store_api_key("sk", expires_at=datetime(2030, 1, 1)),  # noqa: DTZ001  # the point
    "a number nobody knows": lambda v, c: v.store_api_key("sk", policy={"max_ages": 3}),
    "an age of nothing": lambda v, c: v.store_api_key("sk", policy={"max_age": 0}),
    "too many tags": lambda v, c: v.store_api_key("sk", tags={str(n): "" for n in range(65)}),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_what_it_says_is_refused_without_being_repeated(house: House, vault: Vault, name: str) -> None:
    act: Callable[[Vault, Any], object] = BAD[name]
    with pytest.raises(InvalidCredential) as refusal:
        act(vault, certificates.leaf("ann", days=40))
    for given in ("sk_live", "PRIVATE", "whsec_!", "short", "long enough"):
        assert given not in str(refusal.value).replace("'whsec_", "").replace("shortly", "")
    assert house.sql("SELECT * FROM evergrant.credential") == []


# ------------------------------------------------------------------------------------------------------------- versions


def test_every_write_is_a_version_and_those_before_are_kept(house: House, vault: Vault) -> None:
    key = vault.store_api_key("one")
    assert [vault.put(key, "two", overlap=DAY), vault.put(key, "three"), vault.put(key, "two")] == [2, 3, 4]
    history = vault.history(key)
    assert [(each.version, each.stage) for each in history] == [
        (4, "current"), (3, "previous"), (2, "retired"), (1, "retired"),
    ]  # fmt: skip
    assert history[0].fingerprint == history[2].fingerprint != history[1].fingerprint
    assert near(history[1].serves_until, DAY)
    assert [value(vault, key, number) for number in (1, 2, 3)] == ["one", "two", "three"]
    assert vault.roll_back(key) == 5
    assert vault.roll_back(key, to_version=1) == 6
    assert value(vault, key) == "one"
    assert Counter(events(house, key))["credential.rolled_back"] == 2


def test_a_write_can_insist_on_what_it_has_seen(vault: Vault) -> None:
    key = vault.store_api_key("one")
    assert vault.put(key, "two", expected_version=1) == 2
    with pytest.raises(VersionConflict) as conflict:
        vault.put(key, "three", expected_version=1)
    assert (conflict.value.expected, conflict.value.found) == (1, 2)
    assert value(vault, key) == "two"


def test_of_writes_at_the_same_moment_none_is_lost_and_only_one_insisting_wins(house: House, vault: Vault) -> None:
    key = vault.store_api_key("start")
    gate = threading.Barrier(8)

    def write(number: int) -> int | None:
        gate.wait()
        try:
            return vault.put(key, f"insisting-{number}", expected_version=1)
        except VersionConflict:
            return None

    def append(number: int) -> int:
        gate.wait()
        return vault.put(key, f"plain-{number}")

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(write, range(8)), key=str) == [2, *[None] * 7]
        assert sorted(threads.map(append, range(8))) == list(range(3, 11))
    assert [each.version for each in vault.history(key)] == list(range(10, 0, -1))
    assert Counter(events(house, key))["credential.rotated"] == 9


def test_only_so_many_versions_are_kept(house: House, vault: Vault) -> None:
    key = vault.store_api_key("0", policy={"keep": 3})
    for number in range(1, 6):
        vault.put(key, str(number))
    stages = {each.version: each.stage for each in vault.history(key)}
    assert stages == {6: "current", 5: "previous", 4: "retired", 3: "retired", 2: "destroyed", 1: "destroyed"}
    with pytest.raises(UnknownCredential):
        vault.credential(key, version=2)
    kept = house.sql("SELECT version FROM evergrant.credential_version WHERE envelope IS NOT NULL ORDER BY 1")
    assert [row["version"] for row in kept] == [3, 4, 5, 6]
    with pytest.raises(UnknownCredential):
        vault.roll_back(key, to_version=1)


# --------------------------------------------------------------------------------------------------------------- ending


def test_what_was_deleted_can_be_brought_back_for_a_while(house: House, vault: Vault) -> None:
    key, other = vault.store_api_key("one"), vault.store_api_key("two", policy={"recovery": 1})
    assert vault.delete_credentials(key, other, uuid4()) == {key, other}
    assert vault.delete_credentials(key) == set()
    with pytest.raises(UnknownCredential):
        vault.credential(key)
    with pytest.raises(UnknownCredential):
        vault.put(key, "three")
    assert near(vault.describe_credential(key).purge_at, 30 * DAY)
    house.sql("UPDATE evergrant.credential SET purge_at = purge_at - interval '2 days'")
    vault.undelete_credential(key)
    assert value(vault, key) == "one"
    with pytest.raises(UnknownCredential):
        vault.undelete_credential(other)
    assert events(house, key)[-3:] == ["credential.deleted", "credential.undeleted", "credential.retrieved"]


def test_what_is_destroyed_is_gone_and_its_history_says_so(house: House, vault: Vault) -> None:
    key, other = vault.store_api_key("one"), vault.store_api_key("two")
    vault.put(key, "three")
    vault.destroy_version(key, 1)
    with pytest.raises(UnknownCredential):
        vault.destroy_version(key, 2)
    assert vault.destroy_credentials(key, uuid4()) == {key}
    assert vault.destroy_credentials(key) == set()
    for act in (lambda: vault.credential(key), lambda: vault.undelete_credential(key), lambda: vault.put(key, "four")):
        with pytest.raises(UnknownCredential):
            act()
    assert {each.stage for each in vault.history(key)} == {"destroyed"}
    assert vault.describe_credential(key).state == "destroyed"
    [left] = house.sql("SELECT credential_id FROM evergrant.credential_version WHERE envelope IS NOT NULL")
    assert left["credential_id"] == other
    assert events(house, key)[-2:] == ["credential.version_destroyed", "credential.destroyed"]


# -------------------------------------------------------------------------------------------------------------- finding


def test_credentials_are_found_by_whatever_they_have(vault: Vault) -> None:
    connection = uuid4()
    first = vault.store_api_key("1", provider="acme", owner="ann", connection=connection, tags={"a": "1", "b": "2"})
    second = vault.store_secret("2", provider="acme", tags={"a": "1"})
    third = vault.store_secret("3", owner="ann")

    def ids(**words: Any) -> set[UUID]:
        return {each.id for each in vault.credentials(**words)}

    assert ids() == {first, second, third}
    assert ids(provider="acme") == {first, second}
    assert ids(owner="ann") == {first, third}
    assert ids(connection=connection) == {first}
    assert ids(kind="custom_secret") == {second, third}
    assert ids(tags={"a": "1"}) == {first, second}
    assert ids(tags={"a": "1", "b": "2"}, owner="ann") == {first}
    vault.delete_credentials(third)
    assert ids() == {first, second}
    assert ids(state="deleted") == {third}
    assert ids(state=None) == {first, second, third}
    pages, after = [], None
    while page := vault.credentials(after=after, limit=1, state=None):
        pages += [page[0].id]
        after = page[-1].id
    assert pages == sorted({first, second, third})


def test_another_tenants_credentials_are_not_there(vault: Vault) -> None:
    key = vault.store_api_key("one")
    other = vault.for_tenant("umbra")
    calls: list[Callable[[], object]] = [
        lambda: other.credential(key), lambda: other.describe_credential(key), lambda: other.history(key),
        lambda: other.put(key, "x"), lambda: other.roll_back(key), lambda: other.undelete_credential(key),
        lambda: other.destroy_version(key, 1), lambda: other.change_credential(key, name="x"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(UnknownCredential):
            call()
    assert other.credentials(state=None) == []
    assert other.delete_credentials(key) == other.destroy_credentials(key) == set()
    assert value(vault, key) == "one"


def test_what_ends_soon_and_what_is_past_its_age_is_listed_the_first_first(house: House, vault: Vault) -> None:
    now = datetime.now(UTC)
    late, soon, over = (vault.store_api_key("sk", expires_at=now + days * DAY) for days in (20, 10, -1))
    vault.store_api_key("sk", expires_at=now + 40 * DAY)
    assert [each.id for each in vault.list_expiring()] == [over, soon, late]
    assert [each.id for each in vault.list_expiring(15)] == [over, soon]
    assert vault.check_rotation_required() == []
    house.sql("UPDATE evergrant.credential SET rotate_at = now() - interval '1 day' WHERE id = %s", [soon])
    assert [each.id for each in vault.check_rotation_required()] == [soon]
    assert vault.for_tenant("umbra").list_expiring() == vault.for_tenant("umbra").check_rotation_required() == []


def told(house: House, credential_id: UUID) -> list[tuple[str, int]]:
    found = house.sql(
        "SELECT type, body::json -> 'data' ->> 'days' AS days FROM evergrant.event WHERE credential_id = %s"
        " ORDER BY created_at", [credential_id],
    )  # fmt: skip
    return [(row["type"], int(row["days"])) for row in found]


def a_day_comes(house: House, days: int) -> None:
    """Everything is so many days nearer."""
    shift = f"interval '{days} days'"
    house.sql(
        f"UPDATE evergrant.credential SET rotated_at = rotated_at - {shift}, expires_at = expires_at - {shift},"
        f" rotate_at = rotate_at - {shift}, warn_at = warn_at - {shift}"
    )
    house.worker.expiry_scan()
    house.worker.expiry_scan()


def test_every_end_is_told_of_thirty_and_seven_days_before_as_the_policy_says_and_at_it_each_once(
    house: House, vault: Vault
) -> None:
    key = vault.store_api_key("sk", expires_at=datetime.now(UTC) + 100 * DAY, policy={"max_age": None, "warn": 3})
    aged, ours = vault.store_api_key("sk"), vault.store_webhook_secret()
    for _ in range(101):
        a_day_comes(house, 1)
    assert told(house, key) == [
        ("credential.expiring", 30), ("credential.expiring", 7), ("credential.expiring", 3), ("credential.expired", 0),
    ]  # fmt: skip
    assert told(house, aged) == [("credential.rotation_due", days) for days in (30, 14, 7, 0)]
    assert told(house, ours) == [], "we rotate it ourselves"
    assert Counter(events(house, key))["credential.expiring"] == 3
    vault.put(aged, "new")
    a_day_comes(house, 61)
    assert told(house, aged)[4:] == [("credential.rotation_due", 30)], "a new value, a new end"


def test_who_looks_late_tells_the_nearest_warning_only(house: House, vault: Vault) -> None:
    key = vault.store_api_key("sk", expires_at=datetime.now(UTC) + 100 * DAY, policy={"max_age": None})
    a_day_comes(house, 95)
    assert told(house, key) == [("credential.expiring", 7)]
    over = vault.store_api_key("sk", expires_at=datetime.now(UTC) - DAY, policy={"max_age": None})
    house.worker.expiry_scan()
    assert told(house, over) == [], "whoever stores what has ended knows it"


def test_what_was_deleted_is_destroyed_when_it_cannot_be_brought_back(house: House, vault: Vault) -> None:
    key, kept = vault.store_api_key("one"), vault.store_api_key("two")
    vault.delete_credentials(key, kept)
    house.sql("UPDATE evergrant.credential SET purge_at = now() WHERE id = %s", [key])
    assert house.worker.cleanup(dry_run=True)["credentials"] == 1
    assert house.worker.cleanup()["credentials"] == 1
    assert house.worker.cleanup()["credentials"] == 0
    assert vault.describe_credential(key).state == "destroyed"
    vault.undelete_credential(kept)
    assert value(vault, kept) == "two"


def test_rotations_are_forgotten_when_they_have_been_over_for_long(house: House, vault: Vault) -> None:
    done, open_ = vault.store_webhook_secret(), vault.store_webhook_secret()
    for each, overlap in ((done, timedelta(0)), (open_, DAY)):
        vault.rotate(each, overlap=overlap)
    house.worker.rotate_credentials()
    assert house.worker.cleanup()["rotations"] == 0
    house.sql("UPDATE evergrant.credential_rotation SET ended_at = ended_at - interval '91 days'")
    assert house.worker.cleanup(dry_run=True)["rotations"] == 1
    assert house.worker.cleanup()["rotations"] == 1
    [left] = house.sql("SELECT credential_id FROM evergrant.credential_rotation")
    assert left["credential_id"] == open_


# ------------------------------------------------------------------------------------------------------------- policies


def test_numbers_are_overridden_from_the_general_to_the_special(house: House, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(
        '[keys]\nkind = "api_key"\nmax_age = 60\nwarn = 5\n\n'
        '[acme]\nprovider = "acme"\nmax_age = 50\n\n'
        '[umbra]\ntenant = "umbra"\nmax_age = "never"\n'
    )
    vault = house.another_vault(policies=(str(tmp_path / "rules.toml"),))

    def rotated_in(owner: Vault, **words: Any) -> timedelta | None:
        shown = owner.describe_credential(owner.store_api_key("sk", **words))
        return None if shown.rotate_at is None else shown.rotate_at - shown.rotated_at

    assert rotated_in(vault) == 60 * DAY
    assert rotated_in(vault, provider="acme") == 50 * DAY
    assert rotated_in(vault, provider="acme", policy={"max_age": 40}) == 40 * DAY
    assert rotated_in(vault.for_tenant("umbra"), provider="acme") is None
    key = vault.store_api_key("sk")
    vault.change_credential(key, policy={"max_age": 20}, name="renamed", tags={"x": "y"})
    shown = vault.describe_credential(key)
    assert (shown.name, shown.tags, shown.policy) == ("renamed", {"x": "y"}, {"max_age": 20})
    assert shown.rotate_at == shown.rotated_at + 20 * DAY


def test_when_the_files_change_every_credential_gets_the_new_dates_once(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "BATCH", 2)
    rules = tmp_path / "rules.toml"
    keys = [house.vault.store_api_key(f"sk-{number}") for number in range(5)]
    kept = house.vault.store_api_key("sk", policy={"max_age": 70})
    gone = house.vault.store_api_key("gone")
    house.vault.delete_credentials(gone)
    house.worker.expiry_scan()
    rules.write_text('[keys]\nkind = "api_key"\nmax_age = 10\nwarn = 20\n')
    newer = house.another_worker(policies=(str(rules),))
    newer.expiry_scan()
    assert near(house.vault.describe_credential(keys[0]).rotate_at, 90 * DAY), "the others' work is let alone at first"
    house.sql("UPDATE evergrant.policy_state SET begun_at = begun_at - interval '51 minutes'")
    assert newer.expiry_scan().told == 5, "what should have been told before by now is told at once"
    assert all(near(house.vault.describe_credential(each).rotate_at, 10 * DAY) for each in keys)
    assert near(house.vault.describe_credential(kept).rotate_at, 70 * DAY), "its own number wins"
    assert near(house.vault.describe_credential(gone).rotate_at, 90 * DAY)
    assert [events(house, each) for each in keys] == [
        ["credential.stored", "credential.changed", "credential.rotation_due"]
    ] * 5
    assert events(house, kept) == ["credential.stored"]
    house.worker.expiry_scan()
    house.sql("UPDATE evergrant.policy_state SET place = %s", (UUID(int=0),))
    assert newer.expiry_scan().told == 0
    assert [len(events(house, each)) for each in keys] == [3] * 5, "who has the dates already is not written again"


def test_dating_goes_on_where_it_stopped(house: House, tmp_path: Path) -> None:
    keys = sorted(house.vault.store_api_key(f"sk-{number}") for number in range(4))
    house.worker.expiry_scan()
    house.sql("UPDATE evergrant.credential SET rotate_at = NULL")
    house.sql("UPDATE evergrant.policy_state SET place = %s", (keys[1],))
    house.worker.expiry_scan()
    assert [house.vault.describe_credential(each).rotate_at is None for each in keys] == [True, True, False, False]
    assert not house.finds("SELECT 1 FROM evergrant.policy_state WHERE place IS NOT NULL")


# ----------------------------------------------------------------------------------------------------------- their keys


def test_new_data_keys_seal_every_version_anew_and_the_audit_opens_them_all(house: House, vault: Vault) -> None:
    keys = [vault.store_api_key(f"{number}-0", owner="ann") for number in range(150)]
    for number, key in enumerate(keys):
        vault.put(key, f"{number}-1")
    assert house.worker.rotate_data_keys(timedelta(0)) >= 1
    assert house.worker.keys.under_replaced_data_keys() == 0
    found = house.worker.keys.verify()
    assert found.passed
    assert found.opened >= 300
    fresh = house.another_vault()
    assert [value(fresh, key) for key in keys] == [f"{number}-1" for number in range(150)]
    assert value(fresh, keys[7], 1) == "7-0"


def test_shredding_an_owner_takes_the_owners_credentials_too(house: House, vault: Vault) -> None:
    anns, bobs = vault.store_api_key("1", owner="ann"), vault.store_api_key("2", owner="bob")
    house.worker.keys.shred_owner("ann")
    with pytest.raises(UnknownCredential):
        vault.credential(anns)
    assert vault.describe_credential(anns).state == "destroyed"
    assert value(vault, bobs) == "2"
    house.worker.keys.shred_tenant()
    assert {each.state for each in vault.credentials(state=None)} == {"destroyed"}


def test_a_row_put_in_the_place_of_another_does_not_open(house: House, vault: Vault) -> None:
    one, two = vault.store_api_key("1", owner="ann"), vault.store_api_key("2", owner="ann")
    house.sql(
        "UPDATE evergrant.credential_version v SET envelope = o.envelope FROM evergrant.credential_version o"
        f" WHERE v.credential_id = '{one}' AND o.credential_id = '{two}'"
    )
    with pytest.raises(CannotOpen):
        vault.credential(one)
