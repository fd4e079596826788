"""Which KMS is asked for whose key."""

from __future__ import annotations

import pytest

from tests.support.fake_keys import Clock, FakeKms
from vault.errors import ConfigurationError, KeyUnavailable
from vault.kms.directory import CAPACITY, KekDirectory
from vault.ports import Kms, TenantKek

CONTEXT = {"tenant": "acme"}


class Brought(dict[str, TenantKek]):
    """``TenantKeks`` in a dictionary."""

    def tenant_kek(self, tenant: str) -> TenantKek | None:
        return self.get(tenant)

    def set_tenant_kek(self, tenant: str, uri: str | None) -> None:
        known = self.get(tenant)
        self[tenant] = TenantKek(tenant, uri, (*known.former_uris, known.uri) if known else (None,))

    def tenant_keks(self) -> list[TenantKek]:
        return list(self.values())


class World:
    """KMSs by URI, each with one KEK of its own."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.brought = Brought()
        self.directory = KekDirectory("fake:new", ("fake:old",), self.brought, Clock(), open_kms=self._open)

    def _open(self, uri: str) -> Kms:
        self.opened.append(uri)
        if uri.endswith("broken"):
            raise ConfigurationError([f"{uri} cannot work"])
        kms = FakeKms()
        kms.in_use, kms.keks = uri, {uri: uri.encode().ljust(32, b"!")}
        return kms


@pytest.fixture
def world() -> World:
    return World()


def test_nothing_is_opened_before_it_is_needed_and_nothing_twice(world: World) -> None:
    assert world.opened == []
    for _ in range(3):
        assert world.directory.of("acme").describe() == "fake:new"
    assert world.opened == ["fake:new"]


def test_what_was_wrapped_before_the_kek_was_changed_is_looked_for_where_it_was(world: World) -> None:
    assert world.directory.holding("acme", "fake:old").describe() == "fake:old"
    with pytest.raises(KeyUnavailable) as refusal:
        world.directory.holding("acme", "fake:elsewhere")
    assert not refusal.value.transient
    assert "VAULT_KEK_FORMER_URIS" in str(refusal.value)


def test_a_tenant_that_brought_its_kek_has_it_used_and_the_former_ones_remembered(world: World) -> None:
    world.brought.set_tenant_kek("umbra", "fake:umbra")
    assert world.directory.of("umbra").describe() == "fake:umbra"
    assert world.directory.of("acme").describe() == "fake:new"
    for kek_id in ("fake:umbra", "fake:new", "fake:old"):
        assert world.directory.holding("umbra", kek_id).describe() == kek_id
    with pytest.raises(KeyUnavailable):
        world.directory.holding("acme", "fake:umbra")


def test_once_rewrapped_only_its_own_kek_opens_for_a_tenant(world: World) -> None:
    """Whoever may write to our database must not have a tenant's key replaced by one that another KMS opens."""
    world.brought["umbra"] = TenantKek("umbra", "fake:umbra", ())
    with pytest.raises(KeyUnavailable):
        world.directory.holding("umbra", "fake:new")


def test_a_tenant_that_took_its_kek_back_is_served_as_everybody(world: World) -> None:
    world.brought["umbra"] = TenantKek("umbra", None, ("fake:umbra",))
    assert world.directory.of("umbra").describe() == "fake:new"
    assert world.directory.holding("umbra", "fake:umbra").describe() == "fake:umbra"


def test_a_kek_that_cannot_be_opened_stops_the_tenant_who_brought_it_and_nobody_else(world: World) -> None:
    world.brought["umbra"] = TenantKek("umbra", "fake:broken", ())
    with pytest.raises(KeyUnavailable) as refusal:
        world.directory.of("umbra")
    assert not refusal.value.transient
    assert world.directory.of("acme").describe() == "fake:new"


def test_a_configured_kek_that_cannot_be_opened_is_a_matter_of_settings() -> None:
    world = World()
    directory = KekDirectory("fake:broken", (), world.brought, Clock(), open_kms=world._open)
    with pytest.raises(ConfigurationError):
        directory.of("acme")


def test_the_number_of_open_ones_is_bounded(world: World) -> None:
    for number in range(CAPACITY + 5):
        world.directory.at(f"fake:{number}")
    world.directory.at("fake:0")
    assert world.opened.count("fake:0") == 2
    assert world.opened.count(f"fake:{CAPACITY}") == 1
