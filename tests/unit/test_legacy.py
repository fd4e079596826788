"""The formats of before: told apart by shape, opened by the tag, and never guessed."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Sequence

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import second
from vault import legacy
from vault.encodings import decodings, parse_encryption_key
from vault.envelope import DataKey, context, open_envelope, seal
from vault.errors import CannotOpen
from vault.legacy import (
    kind,
    open_v1,
    open_v2_foreign,
    pack_string,
    string_key_id,
    unpack_foreign,
    unpack_string,
)
from vault.ports import WrappedKey

KEY = b"\x07" * 32
IV, LONG_IV = b"iv of twelve", b"an iv of sixteen"
WRAPPED = WrappedKey("kek-1", "fake", b"wrapped")
WRAPPED_ID = string_key_id(WRAPPED)
ENVELOPE = seal(DataKey(WRAPPED_ID, KEY), b"a token", context("acme", WRAPPED_ID, "string"), 0)
TEXT = pack_string(WRAPPED, ENVELOPE)

WRITERS: dict[str, Callable[[bytes], str]] = {
    "hex": lambda part: part.hex(),
    "HEX": lambda part: part.hex().upper(),
    "base64": lambda part: base64.b64encode(part).decode(),
    "base64 without padding": lambda part: base64.b64encode(part).decode().rstrip("="),
    "base64url": lambda part: base64.urlsafe_b64encode(part).decode(),
    "base64url without padding": lambda part: base64.urlsafe_b64encode(part).decode().rstrip("="),
}
ORDERS = ("iv:tag:data", "iv:data:tag")


def v1(
    plaintext: bytes, iv: bytes = IV, order: str = ORDERS[0], encodings: Sequence[str] = ("hex", "hex", "hex")
) -> str:
    """A v1 text; ``encodings`` of iv, tag and data."""
    sealed = AESGCM(KEY).encrypt(iv, plaintext, None)
    parts = {"iv": iv, "tag": sealed[-16:], "data": sealed[:-16]}
    written = {name: WRITERS[encoding](parts[name]) for name, encoding in zip(parts, encodings, strict=True)}
    return ":".join(written[name] for name in order.split(":"))


# ---------------------------------------------------------------------------------------------------------------- shape


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "v0"),
        ("an access token", "v0"),
        ("a:b:c", "v0"),
        ("a:b:c:d", "v0"),
        (":" * 2, "v0"),
        ("iv:authTag:data", "v0"),
        (f"{'0' * 24}:{'0' * 30}:00", "v0"),
        (f"{'0' * 23}:{'0' * 32}:00", "v0"),
        (f"{'0' * 24}:{'0' * 32}", "v0"),
        (f"{'0' * 24}:{'0' * 32}:00:00", "v0"),
        (f"{'0' * 24}:{'0' * 32}:00", "v1"),
        (f"{'0' * 32}:{'0' * 32}:", "v1"),
        (f"{'0' * 32}:00:{'0' * 32}", "v1"),
        (f"{'0' * 32}::{'0' * 32}", "v1"),
        (f"{'A' * 16}:{'A' * 22}==:AAAA", "v1"),
        (f"{'A' * 16}:{'A' * 22}:whatever else!", "v1"),
        (f"\n {'-' * 16}:{'_' * 22}:AAAA \n", "v1"),
        ("kms:", "v2-foreign"),
        ("kms:v1:x", "v2-foreign"),
        ("kms:v2:AQIDAHg=:AAAA", "v2-foreign"),
        ("kms:v3:AQIDAHg=:AAAA", "v2-foreign"),
        (TEXT, "v2"),
        (f"  {TEXT}\n", "v2"),
        (TEXT[:20], "v2"),
        (TEXT.replace("kms:v2", "kms:v3"), "v2-foreign"),
        (ENVELOPE.hex(), "envelope"),
        (base64.b64encode(ENVELOPE).decode(), "envelope"),
        (base64.urlsafe_b64encode(ENVELOPE).decode().rstrip("="), "envelope"),
        (ENVELOPE[:95].hex(), "v0"),
        (ENVELOPE.hex()[:-1], "v0"),
    ],
)
def test_a_format_is_told_by_its_shape(text: str, expected: str) -> None:
    assert kind(text) == expected


def test_every_size_of_iv_and_tag_reads_in_one_way_only() -> None:
    """No number of characters is an iv, or a tag, both in hex and in base64: so at most four readings are tried."""
    for sizes in ((12, 16), (16,)):
        for length in range(70):
            readings = {len(found) for found in decodings("A" * length)}
            assert len(readings & set(sizes)) <= 1


# ------------------------------------------------------------------------------------------------------------------- v1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("iv", [IV, LONG_IV], ids=["iv of 12", "iv of 16"])
def test_v1_opens_in_every_encoding_of_every_part(iv: bytes, order: str) -> None:
    for encodings in itertools.product(WRITERS, repeat=3):
        for plaintext in (b"", b"x", b"sixteen letters!", b"a longer token of thirty-odd letters"):
            text = v1(plaintext, iv, order, encodings)
            assert kind(text) == "v1"
            assert open_v1(KEY, text) == open_v1(KEY, f"\t{text}\r\n") == plaintext


@pytest.mark.parametrize("data", ["deadbeefcafe0123", "00", "0123456789abcdef0123456789abcdef"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_data_that_could_be_hex_or_base64_opens_as_what_it_is(data: str, encoding: str) -> None:
    """Whatever the data part looks like, the tag knows what was written."""
    ciphertext = bytes.fromhex(data) if encoding == "hex" else base64.b64decode(data + "=" * (-len(data) % 4))
    keystream = AESGCM(KEY).encrypt(IV, bytes(len(ciphertext)), None)
    plaintext = bytes(a ^ b for a, b in zip(ciphertext, keystream, strict=False))
    text = v1(plaintext, encodings=("base64", "base64", encoding))
    assert open_v1(KEY, f"{text.rpartition(':')[0]}:{data}") == plaintext


@given(
    plaintext=st.binary(max_size=200),
    order=st.sampled_from(ORDERS),
    encodings=st.tuples(*[st.sampled_from(list(WRITERS))] * 3),
)
@settings(deadline=None)
def test_v1_of_any_bytes_opens(plaintext: bytes, order: str, encodings: tuple[str, str, str]) -> None:
    assert open_v1(KEY, v1(plaintext, IV, order, encodings)) == plaintext


def test_no_altered_v1_gives_anything_but_its_own_plaintext() -> None:
    """Every character of every text replaced: it opens to what was sealed (hex in capitals, say), or not at all."""
    for order, encoding in itertools.product(ORDERS, WRITERS):
        text = v1(b"sixteen letters!", IV, order, [encoding] * 3)
        for at, letter in itertools.product(range(len(text)), "0aA:=-+\n~"):
            assert opened_v1(text[:at] + letter + text[at + 1 :]) in (None, b"sixteen letters!")
        for at in range(len(text)):
            assert opened_v1(text[:at]) is None or text[at:] in ("=", "==")


def opened_v1(text: str) -> bytes | None:
    try:
        return open_v1(KEY, text)
    except CannotOpen:
        return None


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33])
def test_a_key_of_another_size_opens_nothing(size: int) -> None:
    """AES has keys of 16 and 24 bytes too; this format has not."""
    with pytest.raises(CannotOpen):
        open_v1(bytes(size), v1(b"x"))
    with pytest.raises(CannotOpen):
        open_v2_foreign(bytes(size), second.encrypt(bytes(16), IV, b"x"))


def test_another_key_does_not_open_v1() -> None:
    with pytest.raises(CannotOpen):
        open_v1(b"\x08" * 32, v1(b"x"))


@pytest.mark.parametrize("text", ["", "plain", "a:b:c", ":::", "kms:v2:AAAA:AAAA", f"{'0' * 24}:{'0' * 32}:é"])
def test_what_is_no_v1_does_not_open_as_v1(text: str) -> None:
    with pytest.raises(CannotOpen):
        open_v1(KEY, text)


# ------------------------------------------------------------------------------------------------------- encryption key


@pytest.mark.parametrize("writer", WRITERS)
def test_an_encryption_key_reads_in_every_encoding(writer: str) -> None:
    key = bytes(range(0xE0, 0x100))
    assert parse_encryption_key(WRITERS[writer](key)) == key
    assert parse_encryption_key(f" {WRITERS[writer](key)}\n") == key


def test_thirty_two_characters_are_a_key_as_they_are() -> None:
    for text in ("an encryption key of 32 letters!", "0123456789abcdef0123456789abcdef", " " * 32):
        assert parse_encryption_key(text) == text.encode()
    assert parse_encryption_key("an encryption key of 32 letters!\n") == b"an encryption key of 32 letters!"


NO_KEYS = ["", "secret", "0" * 31, "0" * 33, "0" * 63, "0" * 65, "g" * 64, "A" * 42, "A" * 44, "é" * 32, "é" * 16]
NEARLY = ["secret, with 31 letters in it..\n", "secret, with 31 letters in it..\x7f", "A" * 43 + "==", "\x00" * 32]


@pytest.mark.parametrize("text", [*NO_KEYS, *NEARLY])
def test_anything_else_is_no_key_and_is_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits") as refusal:
        parse_encryption_key(text)
    assert "secret" not in repr(refusal.value)
    assert refusal.value.__cause__ is None


# ------------------------------------------------------------------------------------------------------------------- v2


@given(
    kek_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80),
    algorithm=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    ciphertext=st.binary(min_size=1, max_size=300),
)
@settings(deadline=None)
def test_a_text_comes_apart_as_it_was_put_together(kek_id: str, algorithm: str, ciphertext: bytes) -> None:
    wrapped = WrappedKey(kek_id, algorithm, ciphertext)
    key_id = string_key_id(wrapped)
    envelope = seal(DataKey(key_id, KEY), b"a token", b"", 0)
    text = pack_string(wrapped, envelope)
    assert unpack_string(text) == (wrapped, key_id, envelope)
    assert unpack_string(f"\n{text} ") == (wrapped, key_id, envelope)
    assert kind(text) == "v2"


def test_the_id_of_a_data_key_follows_from_all_of_its_wrapping() -> None:
    others = [WRAPPED._replace(**{name: getattr(WRAPPED, name)[:-1]}) for name in WrappedKey._fields]
    shifted = WrappedKey("kek-1f", "ake", b"wrapped")
    assert len({string_key_id(each) for each in (WRAPPED, *others, shifted)}) == 5
    for other in (*others, shifted):
        with pytest.raises(CannotOpen):
            unpack_string(pack_string(other, ENVELOPE))


def opened(text: str) -> bytes:
    sealed = unpack_string(text)
    return open_envelope(DataKey(sealed.key_id, KEY), sealed.envelope, context("acme", sealed.key_id, "string"), 0)


def test_a_text_opens_in_one_way_of_writing_only() -> None:
    """Every bit of every character flipped, every character left out and every one doubled."""
    assert opened(TEXT) == b"a token"
    for at, letter in enumerate(TEXT):
        flipped = [TEXT[:at] + chr(ord(letter) ^ (1 << bit)) + TEXT[at + 1 :] for bit in range(8)]
        for altered in (*flipped, TEXT[:at] + TEXT[at + 1 :], TEXT[:at] + letter + TEXT[at:], TEXT[:at]):
            with pytest.raises(CannotOpen):
                opened(altered)
    for altered in (f"{TEXT}=", f"{TEXT}:", f"{TEXT}AAAA", f"x{TEXT}", TEXT.replace("A", "é"), TEXT.rstrip("=")):
        if altered != TEXT:
            with pytest.raises(CannotOpen):
                opened(altered)


def text_of(written: bytes) -> str:
    """A text whose halves fit, whatever the wrapped key is."""
    envelope = b"EG\x01\x01" + legacy._id_of(written).bytes + bytes(76)
    return f"kms:v2:{base64.b64encode(written).decode()}:{base64.b64encode(envelope).decode()}"


GOOD = b"EW\x01" + b"\x00\x01k" + b"\x00\x01a" + b"\x00\x01c"


@pytest.mark.parametrize(
    "written",
    [
        *(GOOD[:length] for length in range(len(GOOD))),
        GOOD + b"\x00",
        GOOD + b"\x00\x01x",
        b"EW\x02" + GOOD[3:],
        b"EX\x01" + GOOD[3:],
        GOOD.replace(b"\x01k", b"\x00"),
        GOOD.replace(b"\x01a", b"\x00"),
        GOOD.replace(b"\x01c", b"\x00"),
        GOOD.replace(b"\x01c", b"\x02c"),
        GOOD.replace(b"k", b"\xff"),
        GOOD.replace(b"a", b"\xff"),
    ],
    ids=lambda written: repr(bytes(written)),
)
def test_a_wrapped_key_is_read_strictly(written: bytes) -> None:
    assert unpack_string(text_of(GOOD)).wrapped == WrappedKey("k", "a", b"c")
    with pytest.raises(CannotOpen):
        unpack_string(text_of(written))


@given(st.binary(max_size=120))
@settings(deadline=None)
def test_a_wrapped_key_can_be_written_in_one_way_only(rest: bytes) -> None:
    """Whatever stands behind the magic is refused, or is exactly what would be written."""
    text = text_of(b"EW\x01" + rest)
    try:
        sealed = unpack_string(text)
    except CannotOpen:
        return
    assert pack_string(sealed.wrapped, sealed.envelope) == text


@pytest.mark.parametrize("wrong", [{"kek_id": ""}, {"algorithm": ""}, {"ciphertext": b""}, {"kek_id": "x" * 65_536}])
def test_a_wrapped_key_with_a_part_that_cannot_be_is_not_written(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"65,535"):
        pack_string(WRAPPED._replace(**wrong), ENVELOPE)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- v2, foreign


@given(st.binary(max_size=100), st.sampled_from([IV, LONG_IV]), st.booleans())
@settings(deadline=None)
def test_another_systems_ciphertext_opens_in_both_layouts(plaintext: bytes, iv: bytes, tag_first: bool) -> None:
    sealed = second.encrypt(KEY, iv, plaintext)
    ciphertext = iv + (sealed[-16:] + sealed[:-16] if tag_first else sealed)
    text = f"kms:v2:{base64.b64encode(b'blob').decode()}:{base64.b64encode(ciphertext).decode()}"
    assert kind(text) == "v2-foreign"
    blob, found = unpack_foreign(text)
    assert blob == b"blob"
    assert open_v2_foreign(KEY, found) == plaintext


def test_no_bit_of_another_systems_ciphertext_can_be_flipped() -> None:
    sealed = second.encrypt(KEY, IV, b"sixteen letters!")
    for ciphertext in (IV + sealed, IV + sealed[-16:] + sealed[:-16]):
        assert open_v2_foreign(KEY, ciphertext) == b"sixteen letters!"
        number = int.from_bytes(ciphertext, "big")
        flipped = [(number ^ (1 << bit)).to_bytes(len(ciphertext), "big") for bit in range(8 * len(ciphertext))]
        for damaged in (*flipped, *(ciphertext[:n] for n in range(len(ciphertext))), ciphertext + b"\x00"):
            with pytest.raises(CannotOpen):
                open_v2_foreign(KEY, damaged)


HALF = ["", "kms:v2:", "kms:v2::", "kms:v2:AAAA", "kms:v2:AAAA:", "kms:v2::AAAA", "kms:v2:A:AAAA", "kms:v2:é:AAAA"]
WRONG = ["kms:v2:AAAA:AAAA:AAAA", "kms:v1:AAAA:AAAA", "xkms:v2:AAAA:AAAA", "kms:v2:AA=A:AAAA", "kms:v2:AAAA=:AAAA"]


@pytest.mark.parametrize("text", [*HALF, *WRONG])
def test_what_is_no_v2_comes_apart_in_no_way(text: str) -> None:
    for unpack in (unpack_foreign, unpack_string):
        with pytest.raises(CannotOpen):
            unpack(text)


# -------------------------------------------------------------------------------------------------------------- hostile


@given(st.one_of(st.text(max_size=200), st.from_regex(r"(kms:v2:)?[0-9a-zA-Z+/=_:-]{0,200}")))
@settings(deadline=None)
def test_whatever_the_text_only_the_documented_error_comes_out(text: str) -> None:
    assert kind(text) in ("v0", "v1", "v2", "v2-foreign", "envelope")
    with pytest.raises(CannotOpen):
        open_v1(KEY, text)
    with pytest.raises(CannotOpen):
        unpack_string(text)
    try:
        blob, ciphertext = unpack_foreign(text)
    except CannotOpen:
        return
    assert blob
    with pytest.raises(CannotOpen):
        open_v2_foreign(KEY, ciphertext)
