"""The formats of before, told apart and read; and text that carries its own wrapped key. Nothing here asks anybody.

    v0           the value itself
    v1           ``iv:authTag:data`` (seldom ``iv:data:authTag``), each part in hex or base64: AES-256-GCM under the one
                 key of the installation, ``ENCRYPTION_KEY``, without associated data
    v2           ``kms:v2:<wrapped data key>:<envelope>``, both in base64: ours, and the only one that is still written
    v2-foreign   ``kms:v2:<CiphertextBlob>:<ciphertext>``, as written by systems that Evergrant replaces: AES-256-GCM
                 under the data key in the blob, without associated data
    envelope     an envelope (``vault.envelope``) in hex or base64, taken out of its row

The wrapped data key of a v2 text is what a KMS gave and needs, each part after its length in two bytes:

    magic ``EW`` · version 1 · KEK id · algorithm · ciphertext

The data key's id is the beginning of the SHA-256 of these bytes, and stands in the envelope: neither half of a text can
be put beside another half. KMS and text are enough to open it.

Where a text can be read in more than one way, GCM's tag decides, over at most four readings; nothing that was not
authenticated is ever given back. Surrounding white space, which files and columns add, is not part of a text.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterable, Iterator
from hashlib import sha256
from struct import Struct
from typing import Final, Literal, NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.encodings import decodings, from_base64
from vault.envelope import KEY_SIZE, key_id
from vault.errors import CannotOpen
from vault.ports import WrappedKey

Kind = Literal["v0", "v1", "v2", "v2-foreign", "envelope"]

_PREFIX = "kms:v2:"
_MAGIC = b"EW\x01"
_OURS = _PREFIX + b64encode(_MAGIC).decode()  # three bytes are four letters, whatever follows
_IV_SIZES: Final = (12, 16)
_TAG_SIZE = 16
_LONGEST_PART = 0xFFFF
_length = Struct(">H")


class SealedString(NamedTuple):
    """A v2 text of ours, taken apart."""

    wrapped: WrappedKey
    key_id: UUID
    """Of the data key in ``wrapped``; the envelope names it too."""
    envelope: bytes


def kind(text: str) -> Kind:
    """Tell a text's format by its shape alone; nothing is proven by it.

    A text whose parts have v1's number and sizes is v1, though a plain text may look so by accident: were it handed out
    as plain text when it does not open, damage would go unseen. For the same reason ``kms:`` begins no plain text.
    """
    text = text.strip()
    if text.startswith("kms:"):
        return "v2" if text.startswith(_OURS) else "v2-foreign"
    if any(True for _ in _v1_orders(text)):
        return "v1"
    return "envelope" if any(map(_is_envelope, decodings(text))) else "v0"


def open_v1(key: bytes, text: str) -> bytes:
    """Open a v1 text, in the documented order of its fields or the other.

    Args:
        key: From ``parse_encryption_key()``, 32 bytes.
        text: Three parts; the first is 12 or 16 bytes, the second or the third 16.

    Raises:
        CannotOpen: Whatever the cause.
    """
    orders = _v1_orders(text.strip())
    return _open_first(key, ((iv, data, tag) for iv, tag, part in orders for data in decodings(part)))


def open_v2_foreign(dek: bytes, ciphertext: bytes) -> bytes:
    """Open what stands in a v2 text of another system: ``iv ‖ tag ‖ data``, or ``iv ‖ data ‖ tag``.

    Args:
        dek: The data key, as its KMS gave it back.
        ciphertext: Its iv has 12 or 16 bytes, its tag 16.

    Raises:
        CannotOpen: Whatever the cause.
    """
    sizes = [size for size in _IV_SIZES if len(ciphertext) >= size + _TAG_SIZE]
    tag_first = [(ciphertext[:n], ciphertext[n + _TAG_SIZE :], ciphertext[n : n + _TAG_SIZE]) for n in sizes]
    tag_last = [(ciphertext[:n], ciphertext[n:-_TAG_SIZE], ciphertext[-_TAG_SIZE:]) for n in sizes]
    return _open_first(dek, tag_first + tag_last)


def unpack_foreign(text: str) -> tuple[bytes, bytes]:
    """Take a v2 text of another system apart: what its KMS gave, and the ciphertext. Raises ``CannotOpen``."""
    blob, ciphertext = map(from_base64, _halves(text))
    if not blob or not ciphertext:
        raise CannotOpen
    return blob, ciphertext


def string_key_id(wrapped: WrappedKey) -> UUID:
    """Return the id of the data key in a v2 text; it follows from the wrapping. Raises ``ValueError`` as pack does."""
    return _id_of(_written(wrapped))


def pack_string(wrapped: WrappedKey, envelope: bytes) -> str:
    """Write a v2 text.

    Args:
        wrapped: The data key, as a KMS gave it.
        envelope: Sealed under that key, whose id is ``string_key_id(wrapped)``.

    Raises:
        ValueError: A part of the wrapped key is empty or longer than 65,535 bytes.
    """
    return f"{_PREFIX}{b64encode(_written(wrapped)).decode()}:{b64encode(envelope).decode()}"


def unpack_string(text: str) -> SealedString:
    """Take a v2 text of ours apart; there is exactly one way to write it.

    Raises:
        CannotOpen: It is not one, or its halves do not belong together.
    """
    written, envelope = map(_from_strict_base64, _halves(text))
    wrapped, of_wrapped = _read(written), _id_of(written)
    if key_id(envelope) != of_wrapped:
        raise CannotOpen
    return SealedString(wrapped, of_wrapped, envelope)


# --------------------------------------------------------------------------------------------------------- wrapped keys


def _written(wrapped: WrappedKey) -> bytes:
    parts = (wrapped.kek_id.encode(), wrapped.algorithm.encode(), wrapped.ciphertext)
    if not all(0 < len(part) <= _LONGEST_PART for part in parts):
        raise ValueError("a part of a wrapped key is empty or longer than 65,535 bytes")
    return _MAGIC + b"".join(_length.pack(len(part)) + part for part in parts)


def _read(written: bytes) -> WrappedKey:
    parts, at = [], len(_MAGIC)
    if not written.startswith(_MAGIC):
        raise CannotOpen
    for _ in WrappedKey._fields:
        begin = at + _length.size
        if len(written) < begin:
            raise CannotOpen
        at = begin + _length.unpack_from(written, at)[0]
        parts.append(written[begin:at])
    if at != len(written) or not all(parts):
        raise CannotOpen
    try:
        return WrappedKey(parts[0].decode(), parts[1].decode(), parts[2])
    except UnicodeDecodeError:
        raise CannotOpen from None


def _id_of(written: bytes) -> UUID:
    return UUID(bytes=sha256(written).digest()[:16])


# --------------------------------------------------------------------------------------------------------------- shapes


def _v1_orders(text: str) -> Iterator[tuple[bytes, bytes, str]]:
    """What a text of v1's shape may mean: iv, tag, and the part that is data; the documented order first.

    Sizes leave one way to read an iv and a tag: no number of characters is 12 or 16 bytes both in hex and in base64.
    """
    parts = text.split(":")
    if len(parts) != 3:
        return
    first, second, third = parts
    for iv in decodings(first):
        for tag_part, data_part in ((second, third), (third, second)):
            for tag in decodings(tag_part):
                if len(iv) in _IV_SIZES and len(tag) == _TAG_SIZE:
                    yield iv, tag, data_part


def _halves(text: str) -> tuple[str, str]:
    text = text.strip()
    parts = text.removeprefix(_PREFIX).split(":")
    if not text.startswith(_PREFIX) or len(parts) != 2:
        raise CannotOpen
    return parts[0], parts[1]


def _from_strict_base64(part: str) -> bytes:
    try:
        decoded = b64decode(part, validate=True)
    except (NotBase64, ValueError):  # ValueError: letters no alphabet has
        raise CannotOpen from None
    if b64encode(decoded).decode() != part:
        raise CannotOpen
    return decoded


def _is_envelope(decoded: bytes) -> bool:
    try:
        key_id(decoded)
    except CannotOpen:
        return False
    return True


def _open_first(key: bytes, readings: Iterable[tuple[bytes, bytes, bytes]]) -> bytes:
    """Open the first reading (iv, data, tag) whose tag is right."""
    if len(key) != KEY_SIZE:
        raise CannotOpen
    aead = AESGCM(key)
    for iv, data, tag in readings:
        try:
            return aead.decrypt(iv, data + tag, None)
        except InvalidTag:
            continue
    raise CannotOpen
