"""Frozen texts and envelopes, and a second implementation: each opens what the other made, yesterday's and fresh."""

from __future__ import annotations

import ast
import base64
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import second
from tests.support.fake_keys import Clock, FakeKeks
from tests.support.second import Refused
from tests.vectors import make, make_legacy
from vault.claims import DataKeyRecord
from vault.encodings import parse_encryption_key
from vault.envelope import DataKey, TenantKey, context, key_id, open_envelope, seal, seal_from_parts
from vault.errors import CannotOpen
from vault.keyring import _fingerprint
from vault.kms.local import LocalKms
from vault.legacy import kind, open_v1, open_v2_foreign, unpack_foreign, unpack_string
from vault.services.strings import Strings

HERE = Path(make.__file__).parent
KEYS: dict[str, Any] = json.loads((HERE / "keys_v1.json").read_text("utf-8"))
LEGACY: dict[str, Any] = json.loads((HERE / "legacy.json").read_text("utf-8"))
KEK, DEK = bytes.fromhex(LEGACY["v2"]["kek"]), bytes.fromhex(LEGACY["v2"]["dek"])
BLOB = bytes.fromhex(LEGACY["v2-foreign"]["blob"])
TENANT: str = LEGACY["v2"]["texts"][0]["tenant"]
ENCRYPTION_KEY = bytes.fromhex(LEGACY["v1"]["encryption_key"]["hex"])

DATA_KEY, TENANT_KEY = b"\x01" * 32, b"\x06" * 32
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
versions = st.integers(0, 2**64 - 1)
opaque = settings(deadline=None)


@pytest.fixture
def strings(tmp_path: Path) -> Strings:
    """Strings over a keyring file with the frozen KEK: KMS and text are enough."""
    file = tmp_path / "keyring.json"
    by_name = {LEGACY["v2"]["kek_name"]: base64.b64encode(KEK).decode()}
    file.touch(0o600)
    file.write_text(json.dumps({"evergrant_keyring": 1, "current": LEGACY["v2"]["kek_name"], "keys": by_name}))
    foreign = {BLOB: DEK}.__getitem__
    return Strings(
        TENANT, FakeKeks(LocalKms(file)), monotonic=Clock(), random=bytes, legacy_key=ENCRYPTION_KEY, foreign=foreign
    )


# ------------------------------------------------------------------------------------------------------------ frozen


def test_the_frozen_texts_are_what_their_maker_makes() -> None:
    assert make_legacy.vectors() == LEGACY


def test_the_second_implementation_shares_no_code_with_ours() -> None:
    """Neither ours nor the library ours stands on."""
    imported = set()
    for node in ast.walk(ast.parse(Path(second.__file__).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert "Crypto" in imported
    assert not imported & {"vault", "cryptography", "tests"}


@pytest.mark.parametrize("text", LEGACY["v0"])
def test_a_frozen_v0_is_plain_text(text: str, strings: Strings) -> None:
    assert kind(text) == "v0"
    with pytest.raises(CannotOpen):
        strings.decrypt(text)


@pytest.mark.parametrize("written", LEGACY["v1"]["encryption_key"].values(), ids=LEGACY["v1"]["encryption_key"])
def test_the_frozen_encryption_key_reads_alike_in_every_encoding(written: str) -> None:
    assert parse_encryption_key(written) == ENCRYPTION_KEY


def test_every_frozen_v1_opens_on_both_sides(strings: Strings) -> None:
    for case in LEGACY["v1"]["texts"]:
        text, plaintext = case["text"], case["plaintext"].encode()
        encoding = "hex" if case["encoding"] == "hex" else "base64"
        assert kind(text) == "v1"
        assert open_v1(ENCRYPTION_KEY, text) == plaintext
        assert second.open_v1(ENCRYPTION_KEY, text, encoding=encoding, order=case["order"]) == plaintext
        assert strings.decrypt(text) == case["plaintext"]


def test_the_frozen_v1_texts_are_of_every_sort() -> None:
    cases = {(case["iv_size"], case["order"], case["encoding"]) for case in LEGACY["v1"]["texts"]}
    assert len(cases) == 2 * 2 * 4


@pytest.mark.parametrize("case", LEGACY["v2"]["texts"], ids=lambda case: repr(case["plaintext"][:20]))
def test_a_frozen_v2_opens_on_both_sides(case: dict[str, str], strings: Strings) -> None:
    text = case["text"]
    assert kind(text) == "v2"
    sealed = unpack_string(text)
    place = context(case["tenant"], sealed.key_id, "string")
    assert str(sealed.key_id) == case["key_id"]
    assert open_envelope(DataKey(sealed.key_id, DEK), sealed.envelope, place, 0).decode() == case["plaintext"]
    assert strings.decrypt(text) == case["plaintext"]
    assert second.open_string(KEK, case["tenant"], text).decode() == case["plaintext"]
    with pytest.raises(Refused):
        second.open_string(KEK, "umbra", text)


def test_every_frozen_v2_of_another_system_opens_on_both_sides(strings: Strings) -> None:
    for case in LEGACY["v2-foreign"]["texts"]:
        text, plaintext = case["text"], case["plaintext"].encode()
        assert kind(text) == "v2-foreign"
        blob, ciphertext = unpack_foreign(text)
        assert blob == BLOB
        assert open_v2_foreign(DEK, ciphertext) == plaintext
        assert second.open_foreign(DEK, text, layout=case["layout"], iv_size=case["iv_size"]) == plaintext
        assert strings.decrypt(text) == case["plaintext"]


@pytest.mark.parametrize("case", KEYS["envelopes"], ids=lambda case: f"{case['tenant']}-{case['field']}")
def test_a_frozen_envelope_opens_on_the_other_side_too(case: dict[str, Any]) -> None:
    data_key_id, data_key = UUID(case["data_key_id"]), bytes.fromhex(case["data_key"])
    place = second.context(case["tenant"], UUID(case["subject"]), case["field"])
    envelope, plaintext = bytes.fromhex(case["envelope"]), bytes.fromhex(case["plaintext"])
    assert second.open_envelope(data_key_id, data_key, envelope, place, case["version"]) == plaintext


def test_frozen_wrapped_keys_and_fingerprints_are_the_same_on_the_other_side() -> None:
    data, local, mark = KEYS["data_key"], KEYS["local_wrap"], KEYS["fingerprint"]
    tenant_key, wrapped = bytes.fromhex(data["tenant_key"]), bytes.fromhex(data["wrapped"])
    assert second.unwrap_data_key(tenant_key, wrapped, data["facts"]).hex() == data["raw"]
    ciphertext = bytes.fromhex(local["ciphertext"])
    unwrapped = second.local_unwrap(local["kek_id"], bytes.fromhex(local["kek"]), ciphertext, local["context"])
    assert unwrapped.hex() == local["key"]
    found = second.fingerprint(bytes.fromhex(mark["key"]), mark["tenant"], UUID(mark["subject"]), mark["text"])
    assert found.hex() == mark["fingerprint"]


# ----------------------------------------------------------------------------------------------------- fresh, both ways


@given(
    raw=st.binary(min_size=32, max_size=32),
    key=st.uuids(),
    tenant=names,
    subject=st.uuids(),
    field=names,
    plaintext=st.binary(max_size=3000),
    version=versions,
)
@opaque
def test_what_we_seal_opens_on_the_other_side(
    raw: bytes, key: UUID, tenant: str, subject: UUID, field: str, plaintext: bytes, version: int
) -> None:
    envelope = seal(DataKey(key, raw), plaintext, context(tenant, subject, field), version)
    assert second.open_envelope(key, raw, envelope, second.context(tenant, subject, field), version) == plaintext


@given(
    raw=st.binary(min_size=32, max_size=32),
    key=st.uuids(),
    tenant=names,
    subject=st.uuids(),
    field=names,
    plaintext=st.binary(max_size=3000),
    version=versions,
    random=st.binary(min_size=28, max_size=28),
)
@opaque
def test_what_the_other_side_seals_opens_here_and_is_the_very_same(
    raw: bytes, key: UUID, tenant: str, subject: UUID, field: str, plaintext: bytes, version: int, random: bytes
) -> None:
    salt, nonce, place = random[:16], random[16:], context(tenant, subject, field)
    envelope = second.seal(key, raw, plaintext, second.context(tenant, subject, field), version, salt, nonce)
    assert open_envelope(DataKey(key, raw), envelope, place, version) == plaintext
    assert seal_from_parts(DataKey(key, raw), plaintext, place, version, salt, nonce) == envelope
    assert key_id(envelope) == key


@given(raw=st.binary(min_size=32, max_size=32), salt=st.binary(max_size=40), place=st.binary(max_size=200))
@opaque
def test_both_sides_derive_the_same_keys(raw: bytes, salt: bytes, place: bytes) -> None:
    block = second.expand(raw, second.LABEL + salt + place, 64)
    assert DataKey(UUID(int=1), raw).derive(salt, place) == (block[:32], block[32:])


@given(
    facts=st.tuples(names, names, names, names),
    key=st.uuids(),
    raw=st.binary(min_size=32, max_size=32),
    nonce=st.binary(min_size=12, max_size=12),
)
@opaque
def test_data_keys_wrapped_on_one_side_unwrap_on_the_other(
    facts: tuple[str, str, str, str], key: UUID, raw: bytes, nonce: bytes
) -> None:
    tenant, owner, provider, purpose = facts
    record = DataKeyRecord(key, tenant, owner, provider, purpose, "current", UUID(int=2), b"")
    ours = TenantKey(UUID(int=2), TENANT_KEY).wrap(raw, record, nonce)
    assert ours == second.wrap_data_key(TENANT_KEY, raw, [*facts, str(key)], nonce)
    assert second.unwrap_data_key(TENANT_KEY, ours, [*facts, str(key)]) == raw
    assert TenantKey(UUID(int=2), TENANT_KEY).unwrap(record._replace(wrapped=ours)) == raw


@given(tenant=names, subject=st.uuids(), text=names)
@opaque
def test_fingerprints_are_the_same_on_both_sides(tenant: str, subject: UUID, text: str) -> None:
    ours = _fingerprint(HMAC(DATA_KEY, SHA256()), tenant, subject, text)
    assert ours == second.fingerprint(DATA_KEY, tenant, subject, text)


@given(text=names)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_fresh_string_opens_on_the_other_side(strings: Strings, text: str) -> None:
    assert second.open_string(KEK, TENANT, strings.encrypt(text)).decode() == text


@given(at=st.integers(0, 8 * 104 - 1))
@opaque
def test_both_sides_refuse_the_same(at: int) -> None:
    key, place = UUID(int=1), context("acme", UUID(int=7), "access_token")
    envelope = bytearray(seal(DataKey(key, DATA_KEY), b"a token!", place, 3))
    envelope[at // 8] ^= 1 << at % 8
    with pytest.raises(CannotOpen):
        open_envelope(DataKey(key, DATA_KEY), bytes(envelope), place, 3)
    with pytest.raises(Refused):
        second.open_envelope(key, DATA_KEY, bytes(envelope), place, 3)
