"""Project Wycheproof's vectors and the RFC's, through our wrappers where these leave room for them.

What an envelope and a wrapped key authenticate begins with bytes of their own, so no vector can be driven through them
whole; ``tests/vectors/README.md`` says what is covered how.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.support import second
from tests.support.second import Refused
from tests.vectors import cut_wycheproof
from vault import envelope
from vault.claims import DataKeyRecord
from vault.envelope import DataKey, TenantKey
from vault.errors import CannotOpen
from vault.legacy import open_v1, open_v2_foreign

HERE = Path(cut_wycheproof.__file__).parent
Case = dict[str, Any]


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / name).read_text())
    return found


def raw(case: Case, *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


AEAD: list[Case] = read("wycheproof/aes_gcm.json")["tests"]
LEGACY = [case for case in AEAD if not case["aad"]]
"""The old formats have no associated data."""
SEALING = [case for case in AEAD if len(case["iv"]) == 24]
HKDF_512: list[Case] = read("wycheproof/hkdf_sha512.json")["tests"]
HKDF_256: list[Case] = read("wycheproof/hkdf_sha256.json")["tests"]
RFC_4231: list[Case] = read("hmac_rfc4231.json")["tests"]


def numbered(case: Case) -> str:
    return f"case {case.get('tcId', case.get('case'))}"


@pytest.mark.parametrize("name", cut_wycheproof.SOURCES)
def test_the_vectors_say_where_they_are_from(name: str) -> None:
    found = read(f"wycheproof/{name}.json")
    path, commit = cut_wycheproof.SOURCES[name]
    assert (found["file"], found["package"]) == (path, cut_wycheproof.PACKAGE)
    assert found["upstream"].endswith(commit)
    assert len(found["sha256"]) == 64


def test_no_group_was_lost() -> None:
    assert [len(each) for each in (AEAD, LEGACY, SEALING, HKDF_512, HKDF_256, RFC_4231)] == [85, 67, 66, 83, 86, 7]
    assert {case["result"] for case in LEGACY} == {"valid", "invalid"}


# -------------------------------------------------------------------------------------------------------------- AES-GCM


@pytest.mark.parametrize("case", LEGACY, ids=numbered)
def test_the_openers_of_old_formats_agree(case: Case) -> None:
    key, iv, message, ciphertext, tag = raw(case, "key", "iv", "msg", "ct", "tag")
    attempts = [
        (open_v1, ":".join(part.hex() for part in (iv, tag, ciphertext))),
        (open_v1, ":".join(base64.b64encode(part).decode() for part in (iv, ciphertext, tag))),
        (open_v2_foreign, iv + tag + ciphertext),
        (open_v2_foreign, iv + ciphertext + tag),
    ]
    for opener, sealed in attempts:
        if case["result"] == "valid":
            assert opener(key, sealed) == message  # type: ignore[operator]
        else:
            with pytest.raises(CannotOpen):
                opener(key, sealed)  # type: ignore[operator]


@pytest.mark.parametrize("case", AEAD, ids=numbered)
def test_aes_gcm_as_envelopes_call_it_agrees(case: Case) -> None:
    key, iv, associated, message, ciphertext, tag = raw(case, "key", "iv", "aad", "msg", "ct", "tag")
    if case["result"] == "valid":
        assert AESGCM(key).encrypt(iv, message, associated) == ciphertext + tag
        assert AESGCM(key).decrypt(iv, ciphertext + tag, associated) == message
    else:
        with pytest.raises(InvalidTag):
            AESGCM(key).decrypt(iv, ciphertext + tag, associated)


@pytest.mark.parametrize("case", SEALING, ids=numbered)
def test_unwrapping_data_keys_agrees(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it binds to and what it carries replaced by the vector's: the rest is the code that unwraps keys."""
    key, iv, associated, message, ciphertext, tag = raw(case, "key", "iv", "aad", "msg", "ct", "tag")
    wrapped = b"EK\x01\x01" + iv + ciphertext + tag
    monkeypatch.setattr(envelope, "_binding", lambda record: associated)
    monkeypatch.setattr(envelope, "_WRAPPED_SIZE", len(wrapped))
    monkeypatch.setattr(envelope, "KEY_SIZE", len(message))
    record = DataKeyRecord(UUID(int=1), "", "", "", "", "", UUID(int=2), wrapped)
    tenant_key = object.__new__(TenantKey)
    tenant_key._aead = AESGCM(key)
    if case["result"] == "valid":
        assert tenant_key.unwrap(record) == message
        assert tenant_key.wrap(message, record, iv) == wrapped
    else:
        with pytest.raises(CannotOpen):
            tenant_key.unwrap(record)


@pytest.mark.parametrize("case", AEAD, ids=numbered)
def test_the_second_implementation_agrees_on_aes_gcm(case: Case) -> None:
    key, iv, associated, message, ciphertext, tag = raw(case, "key", "iv", "aad", "msg", "ct", "tag")
    if case["result"] == "valid":
        assert second.encrypt(key, iv, message, associated) == ciphertext + tag
        assert second.decrypt(key, iv, ciphertext + tag, associated) == message
    else:
        with pytest.raises(Refused):
            second.decrypt(key, iv, ciphertext + tag, associated)


# ------------------------------------------------------------------------------------------------------- HKDF and HMAC


def mac(key: bytes, message: bytes, algorithm: HashAlgorithm) -> bytes:
    """HMAC the way keys here use it: the key taken in once, then a copy for each message."""
    prekeyed = HMAC(key, algorithm)
    copy = prekeyed.copy()
    copy.update(message)
    return copy.finalize()


@pytest.mark.parametrize("case", HKDF_512, ids=numbered)
def test_deriving_record_keys_agrees_with_the_first_block(case: Case) -> None:
    """A data key without its label derives what HKDF-Expand gives first, however info is cut into salt and context."""
    if case["result"] != "valid":
        return  # too many blocks: a data key derives one
    ikm, salt, info, okm = raw(case, "ikm", "salt", "info", "okm")
    key = DataKey(UUID(int=1), bytes(32))
    key._expand = HMAC(mac(salt, ikm, SHA512()), SHA512())
    for cut in {0, len(info) // 2, len(info)}:
        block = b"".join(key.derive(info[:cut], info[cut:]))
        assert block[: len(okm)] == okm[:64]


@pytest.mark.parametrize("case", HKDF_512, ids=numbered)
def test_the_second_implementation_agrees_on_hkdf(case: Case) -> None:
    if case["result"] != "valid":
        return  # it has no limit of its own
    ikm, salt, info, okm = raw(case, "ikm", "salt", "info", "okm")
    assert second.expand(mac(salt, ikm, SHA512()), info, case["size"]) == okm


@pytest.mark.parametrize(
    ("algorithm", "case"),
    [(SHA512(), case) for case in HKDF_512] + [(SHA256(), case) for case in HKDF_256],
    ids=lambda each: each.name if isinstance(each, HashAlgorithm) else str(each["tcId"]),
)
def test_the_librarys_hkdf_agrees(algorithm: HashAlgorithm, case: Case) -> None:
    """What our reference expands with, and what binds a context where a KMS has no notion of one."""
    ikm, salt, info, okm = raw(case, "ikm", "salt", "info", "okm")
    if case["result"] == "valid":
        assert HKDF(algorithm, case["size"], salt, info).derive(ikm) == okm
    else:
        with pytest.raises(ValueError, match="larger than"):
            HKDF(algorithm, case["size"], salt, info)


@pytest.mark.parametrize("case", HKDF_256, ids=numbered)
def test_hmac_sha_256_as_fingerprints_call_it_agrees_with_the_first_block(case: Case) -> None:
    ikm, salt, info, okm = raw(case, "ikm", "salt", "info", "okm")
    block = mac(mac(salt, ikm, SHA256()), info + b"\x01", SHA256())
    assert block[: len(okm)] == okm[:32]


@pytest.mark.parametrize("case", RFC_4231, ids=numbered)
def test_hmac_agrees_with_the_rfc(case: Case) -> None:
    key, message, short, long = raw(case, "key", "msg", "sha256", "sha512")
    assert mac(key, message, SHA256())[: len(short)] == short
    assert mac(key, message, SHA512())[: len(long)] == long
