"""Evidence in numbers: whole tables of swaps, every edit of one step, and hostile bytes against every opener.

``test_envelope.py`` says what an envelope promises, one case each; here each promise is tried wherever it could break.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.fake_keys import Rig
from vault.claims import DataKeyRecord
from vault.envelope import OVERHEAD, DataKey, TenantKey, context, key_id, open_envelope, seal, seal_from_parts
from vault.errors import CannotOpen, KeyUnavailable

ROW = UUID(int=7)
KEY = DataKey(UUID(int=1), b"\x01" * 32)
BOUND_TO = context("acme", ROW, "access_token")
SEALED = seal_from_parts(KEY, b"a token", BOUND_TO, 3, b"s" * 16, b"n" * 12)
TENANT_KEY = TenantKey(UUID(int=6), b"\x06" * 32)
RECORD = DataKeyRecord(UUID(int=5), "acme", "olga", "spotify", "grant", "current", TENANT_KEY.id, b"")
WRAPPED = RECORD._replace(wrapped=TENANT_KEY.wrap(b"\x05" * 32, RECORD, b"n" * 12))

EDGES = [b"", SEALED, SEALED[:20], SEALED[:OVERHEAD], SEALED[:OVERHEAD] * 2, b"EG\x01\x01", b"EK\x01\x01" * 16]


def edits(sealed: bytes) -> Iterator[bytes]:
    """Everything one step away: a bit flipped, a byte lost, doubled, put in or set, a piece lost at either end."""
    for at in range(len(sealed)):
        for bit in range(8):
            yield sealed[:at] + bytes([sealed[at] ^ (1 << bit)]) + sealed[at + 1 :]
        yield sealed[:at] + sealed[at + 1 :]
        yield sealed[:at]
        yield sealed[at + 1 :]
        for put_in in (sealed[at], 0, 0xFF):
            yield sealed[:at] + bytes([put_in]) + sealed[at:]
    for more in range(1, 65):
        yield sealed + bytes(more)
        yield sealed + sealed[-more:]
        yield bytes(more) + sealed
        yield sealed[:more] + sealed


def test_nothing_one_step_away_from_an_envelope_opens() -> None:
    for altered in edits(SEALED):
        with pytest.raises(CannotOpen):
            open_envelope(KEY, altered, BOUND_TO, 3)


def test_nothing_one_step_away_from_a_wrapped_key_unwraps() -> None:
    for altered in edits(WRAPPED.wrapped):
        with pytest.raises(CannotOpen):
            TENANT_KEY.unwrap(WRAPPED._replace(wrapped=altered))


def test_no_two_bytes_of_an_envelope_can_change_places() -> None:
    for one, other in itertools.combinations(range(len(SEALED)), 2):
        if SEALED[one] != SEALED[other]:
            swapped = bytearray(SEALED)
            swapped[one], swapped[other] = swapped[other], swapped[one]
            with pytest.raises(CannotOpen):
                open_envelope(KEY, bytes(swapped), BOUND_TO, 3)


# ---------------------------------------------------------------------------------------------------------------- swaps


class Place(NamedTuple):
    """Where a value can stand: every difference that must matter."""

    key: DataKey
    tenant: str
    row: UUID
    field: str
    version: int

    @property
    def bound_to(self) -> bytes:
        return context(self.tenant, self.row, self.field)


KEYS = [DataKey(UUID(int=n), bytes([n]) * 32) for n in (1, 2)]
KEYS += [DataKey(KEYS[0].id, b"\x02" * 32), DataKey(KEYS[1].id, b"\x01" * 32)]
PLACES = [
    Place(*each)
    for each in itertools.product(
        KEYS, ("acme", "umbra", ""), (ROW, UUID(int=8)), ("access_token", "refresh_token", "metadata"), (1, 2, 2**63)
    )
]


def test_of_all_places_a_value_opens_in_its_own_alone() -> None:
    """216 values, each tried in all 216 places: two keys of two ids, tenants, rows, fields and versions."""
    assert len(PLACES) == 216
    sealed = [seal(p.key, b"value %d" % n, p.bound_to, p.version) for n, p in enumerate(PLACES)]
    for (n, envelope), (where, place) in itertools.product(enumerate(sealed), enumerate(PLACES)):
        assert opened(place, envelope) == (b"value %d" % n if n == where else None)


def opened(place: Place, envelope: bytes) -> bytes | None:
    try:
        return open_envelope(place.key, envelope, place.bound_to, place.version)
    except CannotOpen:
        return None


def test_no_mixture_of_two_envelopes_opens_in_either_place() -> None:
    """Cut at every boundary of a part and put together crosswise, over every kind of neighbour."""
    boundaries = (0, 2, 3, 4, 20, 36, 68, 80, -16)
    home = PLACES[0]
    ours = seal(home.key, b"our value", home.bound_to, home.version)
    for place in PLACES[1:]:
        other = seal(place.key, b"other one", place.bound_to, place.version)
        for begin, end in itertools.combinations([*boundaries, len(ours)], 2):
            for inside, outside in ((ours, other), (other, ours)):
                mixed = outside[:begin] + inside[begin:end] + (outside[end:] if end != len(ours) else b"")
                for where in (home, place):
                    assert mixed in (ours, other) or opened(where, mixed) is None


def test_every_member_of_a_context_is_a_member_of_what_is_authenticated() -> None:
    """Every byte of the context changed, lost or doubled."""
    for altered in edits(BOUND_TO):
        with pytest.raises(CannotOpen):
            open_envelope(KEY, SEALED, altered, 3)


def test_every_bit_of_a_version_matters() -> None:
    for bit in range(64):
        with pytest.raises(CannotOpen):
            open_envelope(KEY, SEALED, BOUND_TO, 3 ^ (1 << bit))


def test_every_bit_of_a_data_key_and_of_its_id_matters() -> None:
    for bit in range(256):
        raw = (int.from_bytes(b"\x01" * 32, "big") ^ (1 << bit)).to_bytes(32, "big")
        with pytest.raises(CannotOpen):
            open_envelope(DataKey(KEY.id, raw), SEALED, BOUND_TO, 3)
    for bit in range(128):
        with pytest.raises(CannotOpen):
            open_envelope(DataKey(UUID(int=1 ^ (1 << bit)), b"\x01" * 32), SEALED, BOUND_TO, 3)


# ----------------------------------------------------------------------------------------------------- data-key records

OTHERWISE: dict[str, Any] = {
    "id": UUID(int=99),
    "tenant": "umbra",
    "owner": "otto",
    "provider": "tidal",
    "purpose": "fingerprint",
    "wrapped": bytes(64),
}
UNBOUND = {
    "state": "current, previous and retired change in place; an old key is to open, so this protects nothing",
    "tenant_key_id": "says which tenant key to take: with another one nothing unwraps",
}


def test_every_member_of_a_record_is_accounted_for() -> None:
    """A new column of a data key must be bound, or it must say here why not."""
    assert {*OTHERWISE, *UNBOUND} == {*DataKeyRecord._fields}


@pytest.mark.parametrize("member", OTHERWISE)
def test_a_record_with_another_member_does_not_unwrap(member: str) -> None:
    with pytest.raises(CannotOpen):
        TENANT_KEY.unwrap(WRAPPED._replace(**{member: OTHERWISE[member]}))


@pytest.mark.parametrize("member", ["tenant", "owner", "provider", "purpose"])
def test_every_bit_of_what_a_record_says_matters(member: str) -> None:
    text = getattr(WRAPPED, member)
    for at, bit in itertools.product(range(len(text)), range(7)):
        altered = text[:at] + chr(ord(text[at]) ^ (1 << bit)) + text[at + 1 :]
        with pytest.raises(CannotOpen):
            TENANT_KEY.unwrap(WRAPPED._replace(**{member: altered}))


def test_of_all_records_a_wrapped_key_unwraps_in_its_own_alone() -> None:
    """Also where one name ends and the next begins: the parts of two records may join to the same text."""
    names = ("", "a", "aa", "ab", "b")
    records = [
        DataKeyRecord(UUID(int=n), tenant, owner, provider, "grant", "current", TENANT_KEY.id, b"")
        for n, tenant, owner, provider in itertools.product((1, 2), names, names, names)
    ]
    wrapped = [TENANT_KEY.wrap(bytes([n]) * 32, record, b"n" * 12) for n, record in enumerate(records)]
    for (n, one), (where, record) in itertools.product(enumerate(wrapped), enumerate(records)):
        try:
            found = bytes(TENANT_KEY.unwrap(record._replace(wrapped=one)))
        except CannotOpen:
            found = b""
        assert found == (bytes([n]) * 32 if n == where else b"")


def test_two_tenants_cannot_swap_their_tenant_keys_or_data_keys() -> None:
    """In the store everything may be moved about; the keyring takes nothing that is not where it was made for."""
    rig = Rig()
    for tenant in ("acme", "umbra"):
        rig.keyring.sealing_key(tenant, "olga", "spotify")
    [acme, umbra] = rig.keys.tenant_keys.values()
    of_acme, of_umbra = rig.keys.data_keys.values()
    original = dict(rig.keys.tenant_keys)
    for mine, other in ((acme, umbra), (umbra, acme)):
        for altered in (mine._replace(tenant=other.tenant), mine._replace(wrapped=other.wrapped)):
            rig.keys.tenant_keys = {**original, mine.id: altered}
            assert refused(rig, of_acme if mine is acme else of_umbra)
    rig.keys.tenant_keys = original
    for mine_, other_ in ((of_acme, of_umbra), (of_umbra, of_acme)):
        for member in ("id", "tenant", "wrapped", "tenant_key_id"):
            assert refused(rig, mine_._replace(**{member: getattr(other_, member)}))
        assert not refused(rig, mine_._replace(state="previous"))
        assert refused(rig, mine_._replace(tenant_key_id=UUID(int=404)))


def refused(rig: Rig, record: DataKeyRecord) -> bool:
    try:
        rig.another_process().key(record)
    except (CannotOpen, KeyUnavailable):
        return True
    return False


# -------------------------------------------------------------------------------------------------------------- hostile

hostile = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=300).map(lambda rest: b"EG\x01\x01" + KEY.id.bytes + rest),
    st.binary(max_size=100).map(lambda rest: b"EK\x01\x01" + rest),
    st.tuples(st.integers(0, len(SEALED)), st.binary(max_size=40)).map(lambda at: SEALED[: at[0]] + at[1]),
    st.tuples(st.integers(0, len(SEALED)), st.binary(max_size=40), st.integers(0, len(SEALED))).map(
        lambda at: SEALED[: at[0]] + at[1] + SEALED[at[2] :]
    ),
)


@given(envelope=hostile, bound_to=st.one_of(st.just(BOUND_TO), st.binary(max_size=60)), version=st.integers())
@settings(deadline=None, max_examples=1000)
@example(envelope=SEALED, bound_to=BOUND_TO, version=3)
def test_hostile_bytes_end_in_the_one_documented_error(envelope: bytes, bound_to: bytes, version: int) -> None:
    genuine = (envelope, bound_to, version) == (SEALED, BOUND_TO, 3)
    if genuine:
        assert open_envelope(KEY, envelope, bound_to, version) == b"a token"
    else:
        with pytest.raises(CannotOpen):
            open_envelope(KEY, envelope, bound_to, version)


@given(wrapped=hostile, change=st.sampled_from([{}, *({name: value} for name, value in OTHERWISE.items())]))
@settings(deadline=None, max_examples=500)
def test_hostile_wrapped_keys_end_in_the_one_documented_error(wrapped: bytes, change: dict[str, Any]) -> None:
    with pytest.raises(CannotOpen):
        TENANT_KEY.unwrap(RECORD._replace(**{"wrapped": wrapped, **change}))


@given(envelope=hostile)
@settings(deadline=None)
def test_whatever_names_a_key_begins_like_an_envelope(envelope: bytes) -> None:
    try:
        found = key_id(envelope)
    except CannotOpen:
        assert len(envelope) < OVERHEAD or not envelope.startswith(b"EG\x01\x01")
    else:
        assert envelope[4:20] == found.bytes


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: f"{len(edge)} bytes")
def test_edges_open_to_nothing_else(edge: bytes) -> None:
    for key, version in itertools.product(KEYS, (0, 3, 2**64 - 1)):
        if (edge, key, version) != (SEALED, KEYS[0], 3):
            assert opened(Place(key, "acme", ROW, "access_token", version), edge) is None
