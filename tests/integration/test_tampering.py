"""Somebody can write to the database: whatever they change, the door gives a right token or refuses, never a wrong one.

Every bit of every protected column is flipped, and every column that a value is bound to is altered, in a real
PostgreSQL behind the doors that apps and workers use.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from tests.integration.house import House
from tests.simulator import SimulatorProcess
from tests.simulator.client import consent
from vault import UnknownConnection, Vault
from vault.claims import Claim, DataKeyRecord
from vault.errors import CannotOpen, KeyUnavailable
from vault.model import Status

SNAPSHOTS = ("tenant_key", "data_key", "connection", "oauth_grant", "connection_metadata")
PARTS = {"magic": 0, "suite": 3, "key id": 10, "salt": 30, "commitment": 50, "nonce": 70, "ciphertext": 80, "tag": -1}


class Scene(NamedTuple):
    """Two owners of one tenant and one of another, each with a grant and metadata."""

    house: House
    umbra: Vault
    olga: UUID
    otto: UUID
    ursula: UUID
    """Of tenant umbra."""

    def alter(self, statement: str, **values: Any) -> None:
        """Write to the database behind everybody's back."""
        named = {"olga": self.olga, "otto": self.otto, "ursula": self.ursula, **values}
        self.house.sql(statement, named)

    def restore(self) -> None:
        """Put everything back where it was."""
        for table in SNAPSHOTS:
            [row] = self.house.sql(f"SELECT * FROM before.{table} LIMIT 1")
            key = "connection_id" if "connection_id" in row else "id"
            columns = [name for name in row if name != key]
            taken_over = ", ".join(f"{name} = b.{name}" for name in columns)
            self.house.sql(f"UPDATE evergrant.{table} t SET {taken_over} FROM before.{table} b WHERE t.{key} = b.{key}")

    def value(self, table: str, column: str, where: str) -> bytes:
        [row] = self.house.sql(f"SELECT {column} AS value FROM evergrant.{table} WHERE {where}", self._asdict())
        return bytes(row["value"])


@pytest.fixture
def scene(database_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[Scene]:
    house = House(database_url, simulator, tmp_path, rotation="none")
    house.sql("SET synchronous_commit = off")  # some thousand changes, none of which must survive a crash
    umbra = house.vault.for_tenant("umbra")
    made = Scene(
        house, umbra,
        house.connect("olga", metadata={"of": "olga"}), house.connect("otto", metadata={"of": "otto"}),
        connect(umbra, "ursula"),
    )  # fmt: skip
    house.sql("CREATE SCHEMA before")
    for table in SNAPSHOTS:
        house.sql(f"CREATE TABLE before.{table} AS TABLE evergrant.{table}")
    yield made
    house.close()


def connect(vault: Vault, owner: str) -> UUID:
    start = vault.begin("acme", owner=owner, browser="their session", metadata={"of": owner})
    answer = consent(start.url)
    return vault.complete(state=answer["state"], code=answer["code"], browser="their session").id


def what_comes(act: Callable[[], object]) -> object:
    """What a door answers: a value, or one of the two errors that may come; any other error is raised."""
    try:
        return act()
    except (CannotOpen, KeyUnavailable) as error:
        return type(error)


def flips(value: bytes) -> Iterator[bytes]:
    for at, byte in enumerate(value):
        for bit in range(8):
            yield value[:at] + bytes([byte ^ (1 << bit)]) + value[at + 1 :]


def forget(vault: Vault) -> None:
    """As if the process had been started a moment ago: no key is in its cache."""
    vault._wiring.keys.keyring.forget()


def token(vault: Vault, connection_id: UUID) -> Callable[[], str]:
    return lambda: vault.get(connection_id).access_token.reveal()


# ----------------------------------------------------------------------------------------------------------- every bit


@pytest.mark.parametrize(
    ("table", "column", "where", "cached"),
    [
        ("oauth_grant", "access_envelope", "connection_id = %(olga)s", True),
        ("data_key", "wrapped", "owner = 'olga' AND purpose = 'grant'", False),
        ("tenant_key", "wrapped", "tenant = 'default'", False),
    ],
    ids=lambda each: each if isinstance(each, str) and "_" in each and "=" not in each else "",
)
def test_no_bit_of_what_guards_a_token_can_be_flipped(
    scene: Scene, table: str, column: str, where: str, cached: bool
) -> None:
    vault = scene.house.vault
    read = token(vault, scene.olga)
    right, stored = read(), scene.value(table, column, where)
    for damaged in flips(stored):
        scene.alter(f"UPDATE evergrant.{table} SET {column} = %(damaged)s WHERE {where}", damaged=damaged)
        if not cached:
            forget(vault)
        assert what_comes(read) in (CannotOpen, KeyUnavailable)
    scene.restore()
    forget(vault)
    assert read() == right


def test_no_bit_of_sealed_metadata_can_be_flipped(scene: Scene) -> None:
    vault, where = scene.house.vault, "connection_id = %(olga)s"
    for damaged in flips(scene.value("connection_metadata", "envelope", where)):
        scene.alter(f"UPDATE evergrant.connection_metadata SET envelope = %(damaged)s WHERE {where}", damaged=damaged)
        assert what_comes(lambda: vault.metadata(scene.olga)) is CannotOpen
    scene.restore()
    assert vault.metadata(scene.olga) == {"of": "olga"}


def test_no_bit_of_a_refresh_token_can_be_flipped(scene: Scene) -> None:
    """As the engine opens it, from what the database says at that moment."""
    sealer = scene.house.worker._wiring._tools.sealer
    where = "connection_id = %(olga)s"

    def read() -> str:
        claim = claim_of(scene, scene.olga)
        return sealer.refresh_token(claim, sealer.prepare(claim)).reveal()

    right = read()
    for damaged in flips(scene.value("oauth_grant", "refresh_envelope", where)):
        scene.alter(f"UPDATE evergrant.oauth_grant SET refresh_envelope = %(damaged)s WHERE {where}", damaged=damaged)
        assert what_comes(read) is CannotOpen
    scene.restore()
    assert read() == right


def test_a_worker_sends_nothing_that_did_not_open_and_declares_nothing_dead(scene: Scene) -> None:
    house, stored = scene.house, scene.value("oauth_grant", "refresh_envelope", "connection_id = %(olga)s")
    set_it = "UPDATE evergrant.oauth_grant SET refresh_envelope = %(damaged)s WHERE connection_id = %(olga)s"
    for part, at in PARTS.items():
        damaged = bytearray(stored)
        damaged[at] ^= 1
        scene.alter(set_it, damaged=bytes(damaged))
        house.make_due(scene.olga)
        attempts = house.row(scene.olga)["failures"]
        house.worker.refresh(scene.olga)
        assert house.row(scene.olga)["failures"] == attempts + 1, part
        assert house.arrivals(scene.olga) == 0, part
        assert house.row(scene.olga)["status"] == "active", part
    scene.alter(set_it, damaged=stored)
    house.make_due(scene.olga)
    assert house.worker.refresh(scene.olga).refreshed == 1


def claim_of(scene: Scene, connection_id: UUID) -> Claim:
    """A claim of the row as it is now, with nothing in it that opening does not look at."""
    [row] = scene.house.sql(
        "SELECT g.tenant, g.version, g.refresh_envelope, k.* FROM evergrant.oauth_grant g"
        " JOIN evergrant.data_key k ON k.id = g.data_key_id WHERE connection_id = %s",
        (connection_id,),
    )
    now = datetime.now(UTC)
    return Claim(
        connection_id, row["tenant"], row["owner"], row["provider"], "", "", 1, Status.ACTIVE, None, row["version"],
        None, bytes(row["refresh_envelope"]), now, now, None,
        DataKeyRecord(*(row[name] for name in DataKeyRecord._fields)),
        1, 1, 0, None, False, now, now, now, False,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- every other column

_SWAP = """
    UPDATE evergrant.{table} t SET {columns} FROM evergrant.{table} o
     WHERE (t.{key}, o.{key}) IN ((%(one)s, %(other)s), (%(other)s, %(one)s))"""


def swap(table: str, *columns: str, key: str = "connection_id") -> str:
    """A statement that exchanges columns between rows ``one`` and ``other``."""
    return _SWAP.format(table=table, key=key, columns=", ".join(f"{name} = o.{name}" for name in columns))


GRANT = "UPDATE evergrant.oauth_grant SET {} WHERE connection_id = %(olga)s"
KEY = "UPDATE evergrant.data_key SET {} WHERE owner = 'olga' AND tenant = 'default'"
TENANT = "UPDATE evergrant.tenant_key SET {} WHERE tenant = 'default'"
GRANT_COLUMNS = ("version", "data_key_id", "access_envelope", "refresh_envelope")

ALTERED: Mapping[str, str] = {
    "version + 1": GRANT.format("version = version + 1"),
    "version - 1": GRANT.format("version = version - 1"),
    "largest version": GRANT.format("version = 9223372036854775807"),
    "negative version": GRANT.format("version = -1"),
    "no bytes": GRANT.format("access_envelope = ''"),
    "half": GRANT.format("access_envelope = substr(access_envelope, 1, 100)"),
    "a byte more": GRANT.format("access_envelope = access_envelope || '\\x00'::bytea"),
    "refresh token as access token": GRANT.format("access_envelope = refresh_envelope"),
    "metadata as access token": GRANT.format(
        "access_envelope = (SELECT envelope FROM evergrant.connection_metadata WHERE connection_id = %(olga)s)"
    ),
    "wrapped key as access token": GRANT.format(
        "access_envelope = (SELECT wrapped || wrapped FROM evergrant.data_key WHERE owner = 'olga')"
    ),
    "key of another owner": KEY.format("owner = 'somebody'"),
    "key of another provider": KEY.format("provider = 'elsewhere'"),
    "key of another purpose": KEY.format("purpose = 'fingerprint', state = 'previous'"),
    "key of another tenant": KEY.format("tenant = 'umbra'"),
    "key under another tenant key": KEY.format(
        "tenant_key_id = (SELECT id FROM evergrant.tenant_key WHERE tenant = 'umbra')"
    ),
    "destroyed key": KEY.format("wrapped = ''"),
    "tenant key of another tenant": TENANT.format("tenant = 'somebody'"),
    "tenant key under a KEK nobody has": TENANT.format("kek_id = 'local:nobody#00000000'"),
    "tenant key of another algorithm": TENANT.format("algorithm = 'AES-128-GCM'"),
}


def test_what_a_token_is_bound_to_cannot_be_altered(scene: Scene) -> None:
    vault = scene.house.vault
    for what, statement in ALTERED.items():
        scene.alter(statement)
        forget(vault)
        assert what_comes(token(vault, scene.olga)) in (CannotOpen, KeyUnavailable), what
        scene.restore()
        forget(vault)
        assert token(vault, scene.olga)() == scene.house.newest_answer(scene.olga), what


def test_an_owners_tokens_cannot_be_exchanged_for_anothers(scene: Scene) -> None:
    """Whichever columns go along, in one tenant or across two: neither gets a token."""
    columns = (GRANT_COLUMNS[2:3], GRANT_COLUMNS[1:3], GRANT_COLUMNS, (*GRANT_COLUMNS, "tenant"))
    for other, exchanged in itertools.product((scene.otto, scene.ursula), columns):
        scene.alter(swap("oauth_grant", *exchanged), one=scene.olga, other=other)
        doors = {scene.olga: vault_of(scene, scene.olga), other: vault_of(scene, other)}
        if "tenant" in exchanged:
            doors = dict(zip(doors, reversed(doors.values()), strict=True))
        for connection_id, vault in doors.items():
            forget(vault)
            assert what_comes(token(fresh(scene, vault), connection_id)) is CannotOpen, exchanged
        scene.restore()


def test_data_keys_and_tenant_keys_cannot_be_exchanged(scene: Scene) -> None:
    found = scene.house.sql("SELECT * FROM evergrant.data_key WHERE purpose = 'grant'")
    olga, otto, ursula = (
        next(row["id"] for row in found if row["owner"] == name) for name in ("olga", "otto", "ursula")
    )
    tenants = {row["tenant"]: row["id"] for row in scene.house.sql("SELECT * FROM evergrant.tenant_key")}
    default, umbra = tenants["default"], tenants["umbra"]
    for table, columns, one, other, connection_id in (
        ("data_key", ("wrapped",), olga, otto, scene.otto),
        ("data_key", ("wrapped",), olga, ursula, scene.ursula),
        ("data_key", ("wrapped", "tenant_key_id"), olga, ursula, scene.ursula),
        ("tenant_key", ("wrapped",), default, umbra, scene.ursula),
        ("tenant_key", ("wrapped", "algorithm", "kek_id"), default, umbra, scene.ursula),
    ):
        scene.alter(swap(table, *columns, key="id"), one=one, other=other)
        for each in (scene.olga, connection_id):
            forget(vault_of(scene, each))
            assert what_comes(token(vault_of(scene, each), each)) is CannotOpen, columns
        scene.restore()


def test_a_row_given_to_another_tenant_opens_for_neither(scene: Scene) -> None:
    scene.alter(GRANT.format("tenant = 'umbra'"))
    scene.alter("UPDATE evergrant.connection SET tenant = 'umbra' WHERE id = %(olga)s")
    with pytest.raises(UnknownConnection):
        fresh(scene, scene.house.vault).get(scene.olga)
    assert what_comes(token(fresh(scene, scene.umbra), scene.olga)) is CannotOpen
    assert what_comes(lambda: fresh(scene, scene.umbra).metadata(scene.olga)) is CannotOpen


def test_an_old_token_cannot_come_back(scene: Scene) -> None:
    """What stood in the row before a refresh does not open in the row of after."""
    house, where = scene.house, "connection_id = %(olga)s"
    old = {name: scene.value("oauth_grant", name, where) for name in ("access_envelope", "refresh_envelope")}
    house.make_due(scene.olga)
    assert house.worker.refresh_scan().refreshed >= 1
    assert token(house.vault, scene.olga)() == house.newest_answer(scene.olga)
    for name, envelope in old.items():
        scene.alter(f"UPDATE evergrant.oauth_grant SET {name} = %(old)s WHERE {where}", old=envelope)
    assert what_comes(token(house.vault, scene.olga)) is CannotOpen
    sealer, claim = house.worker._wiring._tools.sealer, claim_of(scene, scene.olga)
    with pytest.raises(CannotOpen):
        sealer.refresh_token(claim, sealer.prepare(claim))


ONE_OR_OTHER = "connection_id IN (%(one)s, %(other)s)"
ALTERED_METADATA = (
    swap("connection_metadata", "envelope"),
    swap("connection_metadata", "envelope", "data_key_id"),
    swap("connection_metadata", "envelope", "data_key_id", "version"),
    swap("connection_metadata", "data_key_id"),
    f"UPDATE evergrant.connection_metadata SET version = version + 1 WHERE {ONE_OR_OTHER}",
    f"UPDATE evergrant.connection_metadata SET version = -1 WHERE {ONE_OR_OTHER}",
    f"UPDATE evergrant.connection_metadata SET envelope = '' WHERE {ONE_OR_OTHER}",
    "UPDATE evergrant.connection_metadata m SET envelope = access_envelope FROM evergrant.oauth_grant g"
    " WHERE m.connection_id = g.connection_id",
)


def test_what_metadata_is_bound_to_cannot_be_altered(scene: Scene) -> None:
    for statement, other in itertools.product(ALTERED_METADATA, (scene.otto, scene.ursula)):
        scene.alter(statement, one=scene.olga, other=other)
        for connection_id in (scene.olga, other):
            read = functools.partial(vault_of(scene, connection_id).metadata, connection_id)
            assert what_comes(read) is CannotOpen, statement
        scene.restore()


def vault_of(scene: Scene, connection_id: UUID) -> Vault:
    return scene.umbra if connection_id == scene.ursula else scene.house.vault


def fresh(scene: Scene, vault: Vault) -> Vault:
    """The same door, remembering nothing of any connection."""
    return scene.house.vault.for_tenant(vault.tenant)
