"""A context bound by us: what was wrapped opens as exactly what it was, and a second implementation agrees."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest
from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from vault.errors import CannotOpen, KeyUnavailable
from vault.kms.binding import bind, unbind

CONTEXT = {"app": "evergrant", "tenant": "acme", "purpose": "tenant-key", "key_id": "7"}
KEK_ID = "kms:master-key/1"
KEY = bytes(range(32))
SECRET = bytes(range(0x20, 0x40))
NONCE = bytes(range(0x90, 0x9C))
GOLDEN = (
    "4542010100246b6d733a3f3e3d3c3b3a393837363534333231302f2e2d2c2b2a29282726252423222120909192939495"
    "969798999a9b75be6c31d802af1006fe84dae423f4d2891fd2642f0bebcb8ff6209ee6b3b71d3c1166cd96b2e61bdcb4"
    "2f4a519f42e3"
)  # fmt: skip
"""A wrapping of ``KEY`` whose bytes must never change; made by ``second_opinion``, from counting bytes."""


class Reversing:
    """A KMS that gives the bytes back to front: enough to see that they pass through it."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def wrap(self, secret: bytes) -> tuple[str, bytes]:
        return KEK_ID, b"kms:" + secret[::-1]

    def unwrap(self, ciphertext: bytes) -> bytes:
        self.asked.append(ciphertext)
        return ciphertext[4:][::-1]


def counting(size: int) -> bytes:
    return {32: SECRET, 12: NONCE}[size]


@pytest.fixture(scope="module")
def wrapped() -> bytes:
    return bind(KEY, CONTEXT, Reversing().wrap, counting)[1]


def second_opinion(kek_id: str, context: Mapping[str, str], secret: bytes, of_kms: bytes, nonce: bytes) -> bytes:
    """The same by pycryptodome, from the description of the format."""
    info = b"evergrant bound wrap 1"
    for text in [kek_id, *(text for name in sorted(context) for text in (name, context[name]))]:
        info += struct.pack(f">I{len(text.encode())}s", len(text.encode()), text.encode())
    head = struct.pack(f">2sBBH{len(of_kms)}s", b"EB", 1, 1, len(of_kms), of_kms)
    cipher = AES.new(HKDF(secret, 32, b"", SHA256, context=info), AES.MODE_GCM, nonce=nonce)
    cipher.update(info + head)
    return head + nonce + b"".join(cipher.encrypt_and_digest(KEY))


def test_the_key_comes_back_and_the_kek_is_named() -> None:
    kms = Reversing()
    kek_id, ciphertext = bind(KEY, CONTEXT, kms.wrap)
    assert kek_id == KEK_ID
    assert unbind(ciphertext, kek_id, CONTEXT, kms.unwrap) == KEY


def test_wrapping_has_exactly_the_pinned_bytes(wrapped: bytes) -> None:
    assert wrapped.hex() == GOLDEN
    assert unbind(bytes.fromhex(GOLDEN), KEK_ID, CONTEXT, Reversing().unwrap) == KEY


@settings(deadline=None)
@given(
    kek_id=st.text(max_size=40),
    context=st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5),
    of_kms=st.binary(min_size=1, max_size=600),
)
def test_a_second_implementation_makes_the_same_bytes(kek_id: str, context: dict[str, str], of_kms: bytes) -> None:
    theirs = second_opinion(kek_id, context, SECRET, of_kms, NONCE)
    assert bind(KEY, context, lambda secret: (kek_id, of_kms), counting)[1] == theirs
    assert unbind(theirs, kek_id, context, lambda ciphertext: SECRET) == KEY


def test_the_secret_and_the_nonce_are_fresh_each_time() -> None:
    kms, secrets = Reversing(), set[bytes]()
    for _ in range(20):
        ciphertext = bind(KEY, CONTEXT, kms.wrap)[1]
        unbind(ciphertext, KEK_ID, CONTEXT, kms.unwrap)
        secrets.add(ciphertext[-60:-48])
    assert len(secrets) == len(set(kms.asked)) == 20


def test_every_flipped_bit_is_noticed(wrapped: bytes) -> None:
    for position in range(len(wrapped)):
        for bit in range(8):
            damaged = bytearray(wrapped)
            damaged[position] ^= 1 << bit
            with pytest.raises(CannotOpen):
                unbind(bytes(damaged), KEK_ID, CONTEXT, Reversing().unwrap)


def test_a_flip_that_the_kms_does_not_mind_is_noticed_too(wrapped: bytes) -> None:
    """Base64 in transit's ciphertexts has spare bits, and servers read two texts as one."""
    damaged = bytearray(wrapped)
    damaged[8] ^= 1  # within what the KMS made
    with pytest.raises(CannotOpen):
        unbind(bytes(damaged), KEK_ID, CONTEXT, lambda ciphertext: SECRET)


def test_every_truncation_and_every_addition_is_noticed(wrapped: bytes) -> None:
    for length in range(len(wrapped)):
        for cut in (wrapped[:length], wrapped[length + 1 :], wrapped[:length] + b"\0" + wrapped[length:]):
            with pytest.raises(CannotOpen):
                unbind(cut, KEK_ID, CONTEXT, Reversing().unwrap)


@settings(deadline=None)
@given(st.binary(max_size=200).filter(lambda text: text.hex() != GOLDEN))
def test_whatever_else_there_is_does_not_open(text: bytes) -> None:
    for malformed in (text, b"EB\x01\x01" + text):
        with pytest.raises(CannotOpen):
            unbind(malformed, KEK_ID, CONTEXT, Reversing().unwrap)


def test_what_cannot_be_read_never_reaches_the_kms(wrapped: bytes) -> None:
    kms = Reversing()
    nothing_of_the_kms = wrapped[:4] + b"\0\0" + wrapped[-60:]
    for malformed in (b"", wrapped[:-1], wrapped + b"\0", b"EB\x02\x01" + wrapped[4:], nothing_of_the_kms):
        with pytest.raises(CannotOpen):
            unbind(malformed, KEK_ID, CONTEXT, kms.unwrap)
    assert kms.asked == []


@pytest.mark.parametrize(
    "elsewhere",
    [
        {**CONTEXT, "tenant": "umbra"},
        {**CONTEXT, "more": ""},
        {name: value for name, value in CONTEXT.items() if name != "app"},
        {},
        {**CONTEXT, "app": "evergran", "key_id": "t7"},
        {**CONTEXT, "appevergrant": ""},
    ],
    ids=["other", "more", "less", "none", "shifted", "joined"],
)
def test_another_context_is_refused(wrapped: bytes, elsewhere: dict[str, str]) -> None:
    with pytest.raises(CannotOpen):
        unbind(wrapped, KEK_ID, elsewhere, Reversing().unwrap)


@pytest.mark.parametrize("kek_id", ["", "kms:master-key/2", KEK_ID + "\0"])
def test_another_kek_is_refused(wrapped: bytes, kek_id: str) -> None:
    with pytest.raises(CannotOpen):
        unbind(wrapped, kek_id, CONTEXT, Reversing().unwrap)


@pytest.mark.parametrize("secret", [bytes(32), SECRET[::-1]])
def test_another_secret_from_the_kms_is_refused(wrapped: bytes, secret: bytes) -> None:
    with pytest.raises(CannotOpen):
        unbind(wrapped, KEK_ID, CONTEXT, lambda ciphertext: secret)


@pytest.mark.parametrize("secret", [b"weak", SECRET[:-1], SECRET + b"\0"], ids=["weak", "short", "long"])
def test_a_secret_of_another_size_is_refused_though_all_fits(secret: bytes) -> None:
    """Whoever has the public half of an RSA key can wrap what they like."""
    forged = second_opinion(KEK_ID, CONTEXT, secret, b"kms", NONCE)
    with pytest.raises(CannotOpen):
        unbind(forged, KEK_ID, CONTEXT, lambda ciphertext: secret)


def test_parts_of_two_wrappings_do_not_make_a_third() -> None:
    """Another key, under another secret, with the same context: nothing can be exchanged between the two."""
    kms = Reversing()
    first, second = (bind(key, CONTEXT, kms.wrap)[1] for key in (KEY, KEY[::-1]))
    for mixed in (first[:-60] + second[-60:], first[:-48] + second[-48:]):
        with pytest.raises(CannotOpen):
            unbind(mixed, KEK_ID, CONTEXT, kms.unwrap)


def test_only_keys_of_32_bytes_are_wrapped() -> None:
    for size in (0, 16, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            bind(bytes(size), CONTEXT, Reversing().wrap)


def test_what_the_kms_refuses_stays_refused(wrapped: bytes) -> None:
    def refuse(_: bytes) -> bytes:
        raise KeyUnavailable(KEK_ID, "denied", transient=False)

    with pytest.raises(KeyUnavailable, match="denied"):
        unbind(wrapped, KEK_ID, CONTEXT, refuse)


def test_nothing_of_the_key_or_the_secret_is_in_the_open() -> None:
    seen: list[bytes] = []

    def sealing(secret: bytes) -> tuple[str, bytes]:
        seen.append(secret)
        return KEK_ID, AESGCM(bytes(32)).encrypt(bytes(12), secret, None)

    ciphertext = bind(KEY, CONTEXT, sealing)[1]
    assert KEY not in ciphertext
    assert seen[0] not in ciphertext
