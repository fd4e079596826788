"""What every store of wrapped keys must do, in PostgreSQL and in the fake that unit tests of the services stand on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest

from tests.integration.store.rows import HOUR, Rows
from tests.support.fake_keys import Clock, FakeKeys
from vault.claims import DataKeyRecord
from vault.ports import (
    DataKeyRotationStore,
    KeyStore,
    RewrapStore,
    SealedRow,
    TenantKeyRecord,
    TenantKeyRotationStore,
    WrappedKey,
)

ZERO = timedelta(0)
ENVELOPES = (("access_token", b"access"), ("refresh_token", b"refresh"))
ANEW = (("access_token", b"anew"), ("refresh_token", b"too"))


class Keys(KeyStore, RewrapStore, TenantKeyRotationStore, DataKeyRotationStore, Protocol):
    """Every port of keys at rest, as one object."""


class Bench(Protocol):
    """A store under test, and what the ports alone cannot do to it."""

    @property
    def keys(self) -> Keys:
        """The store."""

    def grant(self, key: DataKeyRecord) -> SealedRow:
        """Put a grant under a key."""

    def refresh(self, grant: SealedRow) -> None:
        """Move a grant on to its next version, as a refresh would."""

    def age(self, by: timedelta) -> None:
        """Make every key, and every replacement of one, older."""


class FakeBench:
    def __init__(self) -> None:
        self._clock = Clock()
        self.keys = self._fake = FakeKeys(self._clock)

    def grant(self, key: DataKeyRecord) -> SealedRow:
        grant = SealedRow("oauth_grant", uuid4(), key.tenant, key.owner, key.provider, 1, key.id, ENVELOPES)
        self._fake.rows[grant.subject] = grant
        return grant

    def refresh(self, grant: SealedRow) -> None:
        self._fake.rows[grant.subject] = grant._replace(version=grant.version + 1)

    def age(self, by: timedelta) -> None:
        self._clock.pass_by(by)


class PostgresBench:
    def __init__(self, rows: Rows) -> None:
        self.keys = rows.keys
        self._rows = rows

    def grant(self, key: DataKeyRecord) -> SealedRow:
        sealed = {"access_envelope": b"access", "refresh_envelope": b"refresh"}  # as in ENVELOPES
        made = self._rows.grant(key.provider, tenant=key.tenant, owner=key.owner, data_key_id=key.id, **sealed)
        assert self._rows.connections.connect(made)
        return SealedRow("oauth_grant", made.connection_id, key.tenant, key.owner, key.provider, 1, key.id, ENVELOPES)

    def refresh(self, grant: SealedRow) -> None:
        move = "UPDATE evergrant.oauth_grant SET version = version + 1 WHERE connection_id = %s"
        self._rows.sql(move, (grant.subject,))

    def age(self, by: timedelta) -> None:
        for table in ("data_key", "tenant_key"):
            older = f"UPDATE evergrant.{table} SET created_at = created_at - %s, replaced_at = replaced_at - %s"
            self._rows.sql(older, (by, by))


@pytest.fixture(params=["postgres", "fake"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "fake":
        yield FakeBench()
        return
    rows = Rows(request.getfixturevalue("database_url"))
    yield PostgresBench(rows)
    rows.close()


@pytest.fixture
def keys(bench: Bench) -> Keys:
    return bench.keys


def _tenant_key(tenant: str = "acme", kek_id: str = "kek-1") -> TenantKeyRecord:
    return TenantKeyRecord(uuid4(), tenant, "current", WrappedKey(kek_id, "fake", uuid4().bytes))


def _data_key(keys: Keys, tenant: str = "acme", **changes: Any) -> DataKeyRecord:
    above = keys.current_tenant_key(tenant) or keys.add_tenant_key(_tenant_key(tenant))
    made = DataKeyRecord(uuid4(), tenant, "olga", "spotify", "grant", "current", above.id, uuid4().bytes)
    return made._replace(**changes)


def _replaced(keys: Keys, old: DataKeyRecord) -> DataKeyRecord:
    new = _data_key(keys, old.tenant, owner=old.owner)
    assert keys.replace_data_keys([(old, new)]) == {old.id}
    return new


# -------------------------------------------------------------------------------------------------------------- keeping


def test_a_tenant_key_is_found_by_id_and_as_its_tenants_current_one(keys: Keys) -> None:
    record = _tenant_key()
    assert keys.add_tenant_key(record) == record
    assert keys.tenant_key(record.id) == keys.current_tenant_key("acme") == record
    assert keys.tenant_key(uuid4()) is None
    assert keys.current_tenant_key("umbra") is None


def test_the_first_tenant_key_wins_and_the_second_is_forgotten(keys: Keys) -> None:
    """Whoever came second gets the winner's: a value sealed under a key that was not kept would be lost."""
    first, second = _tenant_key(), _tenant_key()
    keys.add_tenant_key(first)
    assert keys.add_tenant_key(second) == first
    assert keys.tenant_key(second.id) is None


def test_a_data_key_is_found_by_id_and_as_current_for_its_owner_provider_and_purpose(keys: Keys) -> None:
    record = keys.add_data_key(_data_key(keys))
    assert keys.data_key(record.id) == keys.current_data_key("acme", "olga", "spotify", "grant") == record
    for elsewhere in [
        ("umbra", "olga", "spotify", "grant"),
        ("acme", "nina", "spotify", "grant"),
        ("acme", "olga", "xero", "grant"),
        ("acme", "olga", "spotify", "fingerprint"),
    ]:
        assert keys.current_data_key(*elsewhere) is None
    assert keys.data_key(uuid4()) is None


def test_the_first_data_key_wins_and_the_second_is_forgotten(keys: Keys) -> None:
    first, second = _data_key(keys), _data_key(keys)
    keys.add_data_key(first)
    assert keys.add_data_key(second) == first
    assert keys.data_key(second.id) is None


@pytest.mark.parametrize("kind", ["tenant", "data"])
def test_many_who_come_at_once_end_up_with_one_key(keys: Keys, kind: str) -> None:
    adders: dict[str, Callable[[], UUID]] = {
        "tenant": lambda: keys.add_tenant_key(_tenant_key()).id,
        "data": lambda: keys.add_data_key(_data_key(keys)).id,
    }
    with ThreadPoolExecutor(6) as threads:
        ids = {future.result() for future in [threads.submit(adders[kind]) for _ in range(24)]}
    assert len(ids) == 1
    [winner] = ids
    assert (keys.tenant_key(winner) if kind == "tenant" else keys.data_key(winner)) is not None


# ---------------------------------------------------------------------------------------------------------- tenant keys


def test_tenant_keys_under_another_kek_are_found_until_none_is_left(keys: Keys) -> None:
    old, new = keys.add_tenant_key(_tenant_key("acme")), keys.add_tenant_key(_tenant_key("umbra", "kek-2"))
    everybody = {"uri": None, "after": None}
    assert keys.tenant_keys_not_under("kek-2", 10, **everybody) == [old]
    assert keys.tenant_keys_not_under("kek-1", 10, **everybody) == [new]
    first, second = sorted([old, new], key=lambda key: key.id)
    assert keys.tenant_keys_not_under("kek-3", 1, **everybody) == [first]
    assert keys.tenant_keys_not_under("kek-3", 10, uri=None, after=first.id) == [second]
    assert keys.rewrap_tenant_key(old.id, old.wrapped, WrappedKey("kek-2", "fake", b"anew"))
    assert keys.tenant_keys_not_under("kek-2", 10, **everybody) == []
    assert keys.tenant_key(old.id) == old._replace(wrapped=WrappedKey("kek-2", "fake", b"anew"))


def test_a_wrapping_is_swapped_only_for_the_one_that_was_read(keys: Keys) -> None:
    old = keys.add_tenant_key(_tenant_key())
    assert keys.rewrap_tenant_key(old.id, old.wrapped, WrappedKey("kek-2", "fake", b"quicker"))
    assert not keys.rewrap_tenant_key(old.id, old.wrapped, WrappedKey("kek-2", "fake", b"slower"))
    kept = keys.tenant_key(old.id)
    assert kept is not None
    assert kept.wrapped.ciphertext == b"quicker"


def test_a_tenant_key_is_replaced_once_and_found_as_such(bench: Bench) -> None:
    keys = bench.keys
    old = keys.add_tenant_key(_tenant_key())
    bench.age(HOUR)
    young = keys.add_tenant_key(_tenant_key("umbra"))
    assert keys.tenant_keys_older_than(HOUR / 2, 10, None) == [old]
    assert {key.id for key in keys.tenant_keys_older_than(ZERO, 10, None)} == {old.id, young.id}
    new, late = _tenant_key(), _tenant_key()
    assert keys.replace_tenant_key(old, new)
    assert not keys.replace_tenant_key(old, late)
    assert keys.current_tenant_key("acme") == new


def test_a_replaced_tenant_key_is_found_as_long_as_it_wraps_anything(bench: Bench) -> None:
    keys = bench.keys
    old, new = keys.add_tenant_key(_tenant_key()), _tenant_key()
    assert keys.replace_tenant_key(old, new)
    assert (keys.replaced_tenant_keys(10, None), keys.data_keys_under_replaced()) == ([], 0)
    bench.age(HOUR * 2)
    assert keys.retire_unused_tenant_keys() == 1
    late = keys.add_data_key(_data_key(keys)._replace(tenant_key_id=old.id))
    assert keys.replaced_tenant_keys(10, None) == [old._replace(state="retired")], "one came after all"
    assert keys.replaced_tenant_keys(10, old.id) == []
    assert keys.data_keys_under_replaced() == 1
    assert keys.rewrap_data_keys([(late, late._replace(tenant_key_id=new.id))]) == 1
    assert (keys.replaced_tenant_keys(10, None), keys.data_keys_under_replaced()) == ([], 0)


def test_data_keys_are_rewrapped_under_a_new_tenant_key_and_the_old_one_retired(bench: Bench) -> None:
    keys = bench.keys
    old = keys.add_tenant_key(_tenant_key())
    under = sorted(
        (keys.add_data_key(_data_key(keys, owner=owner)) for owner in ("olga", "nina", "per")), key=lambda key: key.id
    )
    new = _tenant_key()
    assert keys.replace_tenant_key(old, new)
    bench.age(HOUR * 2)
    assert keys.data_keys_under(old.id, 2, None) == under[:2]
    assert keys.data_keys_under(old.id, 2, under[1].id) == under[2:]
    rewrapped = [(key, key._replace(tenant_key_id=new.id, wrapped=key.wrapped + b"anew")) for key in under]
    assert keys.rewrap_data_keys(rewrapped[:1]) == 1
    assert keys.rewrap_data_keys(rewrapped) == 2, "one is not any more what was read"
    assert keys.data_keys_under(old.id, 10, None) == []
    assert keys.data_key(under[0].id) == rewrapped[0][1]
    assert keys.retire_unused_tenant_keys() == 1
    assert keys.retire_unused_tenant_keys() == 0
    assert keys.tenant_key(old.id) == old._replace(state="retired")


# ------------------------------------------------------------------------------------------------------------ data keys


def test_data_keys_past_their_age_are_found_and_others_are_not(bench: Bench) -> None:
    keys = bench.keys
    old = keys.add_data_key(_data_key(keys))
    keys.add_data_key(_data_key(keys, purpose="fingerprint", owner="", provider=""))
    bench.age(HOUR)
    young = keys.add_data_key(_data_key(keys, owner="nina"))
    assert keys.data_keys_older_than(HOUR / 2, 10, None) == [old]
    assert keys.data_keys_older_than(ZERO, 10, None) == [old, young]
    assert keys.data_keys_older_than(ZERO, 1, None) == [old]
    assert keys.data_keys_older_than(ZERO, 10, old.id) == [young]


def test_a_replaced_data_key_goes_on_opening_and_the_new_one_seals(keys: Keys) -> None:
    old = keys.add_data_key(_data_key(keys))
    new = _replaced(keys, old)
    assert keys.current_data_key("acme", "olga", "spotify", "grant") == new
    assert keys.data_key(old.id) == old._replace(state="previous")


def test_a_data_key_is_replaced_once(keys: Keys) -> None:
    old = keys.add_data_key(_data_key(keys))
    new = _replaced(keys, old)
    late = _data_key(keys)
    assert not keys.replace_data_keys([(old, late)])
    assert keys.current_data_key("acme", "olga", "spotify", "grant") == new
    assert keys.data_key(late.id) is None


def test_rows_under_replaced_keys_are_found_until_they_are_resealed(bench: Bench) -> None:
    keys = bench.keys
    old = keys.add_data_key(_data_key(keys))
    grants = [bench.grant(old) for _ in range(3)]
    assert keys.rows_under_replaced_keys(10, None) == []
    new = _replaced(keys, old)
    found = keys.rows_under_replaced_keys(10, None)
    assert [each.row for each in found] == sorted(grants, key=lambda row: row.subject)
    assert {each.key for each in found} == {old._replace(state="previous")}
    assert {each.current for each in found} == {new}
    assert keys.rows_under_replaced_keys(2, None) == found[:2]
    assert keys.rows_under_replaced_keys(2, found[1].row) == found[2:]
    assert keys.rows_under_replaced_keys(2, found[2].row) == []
    resealed = [(g, g._replace(data_key_id=new.id, envelopes=ANEW)) for g in grants]
    assert keys.reseal(resealed) == 3
    assert keys.rows_under_replaced_keys(10, None) == []


def test_a_grant_that_moved_on_or_was_resealed_before_is_left_alone(bench: Bench) -> None:
    keys = bench.keys
    old = keys.add_data_key(_data_key(keys))
    moved, done, left = bench.grant(old), bench.grant(old), bench.grant(old)
    new = _replaced(keys, old)
    swap = {g: g._replace(data_key_id=new.id, envelopes=ANEW) for g in (moved, done, left)}
    bench.refresh(moved)
    assert keys.reseal([(done, swap[done])]) == 1
    assert keys.reseal(list(swap.items())) == 1
    assert [each.row.subject for each in keys.rows_under_replaced_keys(10, None)] == [moved.subject]


def test_what_is_at_rest_is_counted_by_method_and_by_what_it_stands_under(bench: Bench) -> None:
    keys = bench.keys
    before = Counter({(c.what, c.method, c.under): c.number for c in keys.counts()})
    old = keys.add_data_key(_data_key(keys, wrapped=b"EK\x01\x01 and so on"))
    for _ in range(3):
        bench.grant(old)
    _replaced(keys, old)
    after = Counter({(c.what, c.method, c.under): c.number for c in keys.counts()})
    new = after - before
    assert new["data_key", b"EK\x01\x01", "previous"] == 1
    assert new["oauth_grant.access_token", b"acce", ""] == new["oauth_grant.refresh_token", b"refr", ""] == 3
    assert sum(after[key] for key in after if key[0] == "tenant_key") >= 1


def test_a_replaced_key_is_retired_when_nothing_stands_or_can_come_home_under_it(bench: Bench) -> None:
    """An answer sealed under it may lie in a spool for a day."""
    keys = bench.keys
    old = keys.add_data_key(_data_key(keys))
    grant = bench.grant(old)
    new = _replaced(keys, old)
    bench.age(timedelta(hours=30))
    assert keys.retire_unused_data_keys() == 0
    keys.reseal([(grant, grant._replace(data_key_id=new.id))])
    assert keys.retire_unused_data_keys() == 1
    assert keys.retire_unused_data_keys() == 0
    assert keys.data_key(old.id) == old._replace(state="retired")
    assert keys.data_key(new.id) == new
