"""Envelopes: what goes in comes out in its own place, and nowhere else."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vectors import make
from vault.claims import DataKeyRecord
from vault.envelope import (
    OVERHEAD,
    DataKey,
    TenantKey,
    context,
    key_id,
    method,
    open_envelope,
    seal,
    seal_from_parts,
)
from vault.errors import CannotOpen

VECTORS: dict[str, Any] = json.loads(Path(make.__file__).with_name("keys_v1.json").read_text("utf-8"))

KEY = DataKey(UUID(int=1), b"\x01" * 32)
ROW = UUID(int=7)
BOUND_TO = context("acme", ROW, "access_token")
SEALED = seal_from_parts(KEY, b"a token", BOUND_TO, 3, b"s" * 16, b"n" * 12)
RECORD = DataKeyRecord(UUID(int=5), "acme", "owner", "spotify", "grant", "current", UUID(int=6), b"")


# --------------------------------------------------------------------------------------------------------- pinned bytes


def test_the_second_implementation_still_makes_the_pinned_bytes() -> None:
    assert make.vectors() == VECTORS


@pytest.mark.parametrize("case", VECTORS["envelopes"], ids=lambda case: f"{case['tenant']}-{case['field']}")
def test_an_envelope_has_exactly_the_pinned_bytes(case: dict[str, Any]) -> None:
    key = DataKey(UUID(case["data_key_id"]), bytes.fromhex(case["data_key"]))
    bound_to = context(case["tenant"], UUID(case["subject"]), case["field"])
    plaintext, envelope = bytes.fromhex(case["plaintext"]), bytes.fromhex(case["envelope"])
    salt, nonce = bytes.fromhex(case["salt"]), bytes.fromhex(case["nonce"])

    assert bound_to.hex() == case["context"]
    assert seal_from_parts(key, plaintext, bound_to, case["version"], salt, nonce) == envelope
    assert open_envelope(key, envelope, bound_to, case["version"]) == plaintext
    assert key_id(envelope) == key.id


def test_a_wrapped_data_key_has_exactly_the_pinned_bytes() -> None:
    case = VECTORS["data_key"]
    tenant, owner, provider, purpose, data_key_id = case["facts"]
    record = DataKeyRecord(UUID(data_key_id), tenant, owner, provider, purpose, "current", UUID(int=2), b"")
    tenant_key = TenantKey(UUID(int=2), bytes.fromhex(case["tenant_key"]))
    wrapped = tenant_key.wrap(bytes.fromhex(case["raw"]), record, bytes.fromhex(case["nonce"]))
    assert wrapped.hex() == case["wrapped"]
    assert tenant_key.unwrap(record._replace(wrapped=wrapped)).hex() == case["raw"]


# ----------------------------------------------------------------------------------------------------------- round trip


@given(
    plaintext=st.binary(max_size=5000),
    tenant=st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    subject=st.uuids(),
    field=st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    version=st.integers(0, 2**64 - 1),
)
@settings(deadline=None)
def test_whatever_is_sealed_opens_again(plaintext: bytes, tenant: str, subject: UUID, field: str, version: int) -> None:
    bound_to = context(tenant, subject, field)
    envelope = seal(KEY, plaintext, bound_to, version)
    assert len(envelope) == len(plaintext) + OVERHEAD
    assert open_envelope(KEY, envelope, bound_to, version) == plaintext


def test_sealing_twice_gives_envelopes_without_anything_random_in_common() -> None:
    first, second = seal(KEY, b"a token", BOUND_TO, 3), seal(KEY, b"a token", BOUND_TO, 3)
    assert first[20:36] != second[20:36], "salt"
    assert first[36:68] != second[36:68], "commitment"
    assert first[68:80] != second[68:80], "nonce"


@given(
    a=st.tuples(st.text("ab", max_size=3), st.text("ab", max_size=3)),
    b=st.tuples(st.text("ab", max_size=3), st.text("ab", max_size=3)),
)
def test_no_two_places_have_the_same_context(a: tuple[str, str], b: tuple[str, str]) -> None:
    assert (context(a[0], ROW, a[1]) == context(b[0], ROW, b[1])) == (a == b)


# -------------------------------------------------------------------------------------------------------------- refusal


@pytest.mark.parametrize("byte", range(len(SEALED)))
def test_no_bit_of_an_envelope_can_be_flipped(byte: int) -> None:
    for bit in range(8):
        damaged = bytearray(SEALED)
        damaged[byte] ^= 1 << bit
        with pytest.raises(CannotOpen):
            open_envelope(KEY, bytes(damaged), BOUND_TO, 3)


@pytest.mark.parametrize(
    "elsewhere",
    [
        context("acme2", ROW, "access_token"),
        context("acme", UUID(int=8), "access_token"),
        context("acme", ROW, "refresh_token"),
        context("", ROW, "access_token"),
        b"",
    ],
    ids=["tenant", "row", "field", "no tenant", "nothing"],
)
def test_a_value_moved_elsewhere_does_not_open(elsewhere: bytes) -> None:
    with pytest.raises(CannotOpen):
        open_envelope(KEY, SEALED, elsewhere, 3)


@pytest.mark.parametrize("version", [2, 4, 0, 2**63, 2**64, -1])
def test_a_value_of_another_version_does_not_open(version: int) -> None:
    with pytest.raises(CannotOpen):
        open_envelope(KEY, SEALED, BOUND_TO, version)


@pytest.mark.parametrize(
    "key",
    [DataKey(KEY.id, b"\x02" * 32), DataKey(UUID(int=2), b"\x01" * 32), DataKey(UUID(int=2), b"\x02" * 32)],
    ids=["other bytes under the same id", "same bytes under another id", "another key"],
)
def test_another_key_does_not_open(key: DataKey) -> None:
    with pytest.raises(CannotOpen):
        open_envelope(key, SEALED, BOUND_TO, 3)


@pytest.mark.parametrize("length", range(len(SEALED)))
def test_a_truncated_envelope_does_not_open(length: int) -> None:
    with pytest.raises(CannotOpen):
        open_envelope(KEY, SEALED[:length], BOUND_TO, 3)


def test_an_extended_envelope_does_not_open() -> None:
    for longer in (SEALED + b"\x00", SEALED + SEALED, b"\x00" + SEALED):
        with pytest.raises(CannotOpen):
            open_envelope(KEY, longer, BOUND_TO, 3)


def test_the_commitment_is_checked_and_not_only_carried() -> None:
    """GCM alone would open this: everything it sees is right, only the commitment is another key's."""
    forged = SEALED[:36] + seal_from_parts(KEY, b"", BOUND_TO, 3, b"t" * 16, b"n" * 12)[36:68] + SEALED[68:]
    with pytest.raises(CannotOpen):
        open_envelope(KEY, forged, BOUND_TO, 3)


def test_what_was_opened_a_moment_ago_opens_nothing_else() -> None:
    """A data key remembers the record key it derived last: that must not be a way around any check."""
    key, other_row = DataKey(KEY.id, b"\x01" * 32), context("acme", UUID(int=77), "access_token")
    for _ in range(2):
        assert open_envelope(key, SEALED, BOUND_TO, 3) == open_envelope(KEY, SEALED, BOUND_TO, 3)
    for byte in range(len(SEALED)):
        damaged = bytearray(SEALED)
        damaged[byte] ^= 1
        with pytest.raises(CannotOpen):
            open_envelope(key, bytes(damaged), BOUND_TO, 3)
    for bound_to, version in ((other_row, 3), (BOUND_TO, 2), (BOUND_TO, 4)):
        with pytest.raises(CannotOpen):
            open_envelope(key, SEALED, bound_to, version)
    newer = seal(key, b"newer", BOUND_TO, 3)
    assert [open_envelope(key, each, BOUND_TO, 3) for each in (newer, SEALED, newer)][::2] == [b"newer", b"newer"]


def test_every_refusal_is_the_same_error() -> None:
    refusals = set()
    for envelope in (b"", SEALED[:-1], b"XX" + SEALED[2:], SEALED[:40] + b"!" + SEALED[41:], SEALED[:-1] + b"!"):
        with pytest.raises(CannotOpen) as refusal:
            open_envelope(KEY, envelope, BOUND_TO, 3)
        refusals.add((str(refusal.value), refusal.value.__cause__, refusal.value.__suppress_context__ or None))
    assert len({text for text, _, _ in refusals}) == 1
    assert {cause for _, cause, _ in refusals} == {None}


@pytest.mark.parametrize("not_one", [b"", b"EG", SEALED[:95], b"EG\x02\x01" + SEALED[4:], b"EG\x01\x02" + SEALED[4:]])
def test_what_is_no_envelope_names_no_key(not_one: bytes) -> None:
    with pytest.raises(CannotOpen):
        key_id(not_one)


def test_randomness_of_a_wrong_size_is_refused_when_sealing() -> None:
    for salt, nonce in ((b"s" * 15, b"n" * 12), (b"s" * 16, b"n" * 13)):
        with pytest.raises(ValueError, match="16 and 12"):
            seal_from_parts(KEY, b"", BOUND_TO, 3, salt, nonce)


def test_a_name_too_long_for_its_length_prefix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"65,535"):
        context("x" * 65_536, ROW, "access_token")


# ---------------------------------------------------------------------------------------------------- wrapped data keys


@pytest.mark.parametrize(
    "moved",
    [
        {"id": UUID(int=9)},
        {"tenant": "other"},
        {"owner": "other"},
        {"provider": "other"},
        {"purpose": "fingerprint"},
        {"owner": "ownerspotify", "provider": ""},
    ],
    ids=lambda change: ",".join(change),
)
def test_a_data_key_moved_to_another_record_does_not_unwrap(moved: dict[str, Any]) -> None:
    tenant_key = TenantKey(UUID(int=6), b"\x06" * 32)
    record = RECORD._replace(wrapped=tenant_key.wrap(b"\x05" * 32, RECORD, b"n" * 12))
    assert tenant_key.unwrap(record) == b"\x05" * 32
    with pytest.raises(CannotOpen):
        tenant_key.unwrap(record._replace(**moved))


def test_no_bit_of_a_wrapped_data_key_can_be_flipped_and_no_byte_cut() -> None:
    tenant_key = TenantKey(UUID(int=6), b"\x06" * 32)
    wrapped = tenant_key.wrap(b"\x05" * 32, RECORD, b"n" * 12)
    flipped = [(int.from_bytes(wrapped, "big") ^ (1 << bit)).to_bytes(64, "big") for bit in range(512)]
    for damaged in [*flipped, wrapped[:-1], wrapped + b"\x00", b""]:
        with pytest.raises(CannotOpen):
            tenant_key.unwrap(RECORD._replace(wrapped=damaged))


# ---------------------------------------------------------------------------------------------------- keeping to itself


@pytest.mark.parametrize("key", [DataKey(ROW, b"\x0a" * 32), TenantKey(ROW, b"\x0a" * 32)], ids=["data", "tenant"])
def test_a_key_shows_its_id_only_and_cannot_be_carried_away(key: DataKey | TenantKey) -> None:
    for shown in (repr(key), str(key), f"{key}"):
        assert "\\n" not in shown
        assert "0a0a" not in shown
        assert str(ROW) in shown
    for carry in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="refuses"):
            carry(key)


def test_the_caller_may_overwrite_the_bytes_a_key_was_made_of() -> None:
    raw = bytearray(b"\x01" * 32)
    key = DataKey(KEY.id, raw)
    raw[:] = bytes(32)
    assert open_envelope(key, SEALED, BOUND_TO, 3) == b"a token"


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_a_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey(ROW, bytes(size))
    with pytest.raises(CannotOpen):
        TenantKey(ROW, bytes(size))


def test_method_and_version_are_told_by_the_first_four_bytes() -> None:
    key = DataKey(UUID(int=1), bytes(32))
    assert method(seal(key, b"", b"", 0)[:4]) == ("AES-256-GCM", "1.1")
    assert method(b"EG\x02\x01") == ("AES-256-GCM", "2.1")
    for head in (b"", b"EG\x01", b"acce"):
        assert method(head) == ("unknown", head.hex())
