"""How values and data keys look at rest, and the only verbs that make and read them. Nothing here asks anybody.

A value stands in an envelope, version 1:

    magic ``EG`` · version 1 · suite 1 · data key id 16 · salt 16 · commitment 32 · nonce 12 · ciphertext · tag 16

Suite 1: the record key and the commitment are the two halves of one 64-byte block of HKDF-Expand with SHA-512
(RFC 5869, section 2.3) under the data key, with ``label ‖ salt ‖ context`` as its info. The value is sealed with
AES-256-GCM (NIST SP 800-38D) under the record key; its associated data is ``header ‖ context ‖ row version``, where
the header is the first 20 bytes.

Why each part is there: a key of its own for every value lifts GCM's limit of 2³² random nonces a key. The commitment
keeps anyone from crafting one envelope that opens under two keys, which GCM alone allows. Context and row version pin a
value to its tenant, row, field and generation, so that whoever can write to the database can neither move a value nor
bring an old one back.

A data key stands wrapped under its tenant key with AES-256-GCM, bound to everything its record says:

    magic ``EK`` · version 1 · suite 1 · nonce 12 · wrapped key 32 · tag 16
"""

from __future__ import annotations

import os
from hmac import compare_digest
from struct import Struct
from typing import Any, Final, NoReturn
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.hmac import HMAC

from vault.claims import DataKeyRecord
from vault.errors import CannotOpen

KEY_SIZE: Final = 32
"""Bytes of a data key, and of every record key made from it."""

SALT_SIZE: Final = 16
NONCE_SIZE: Final = 12

OVERHEAD: Final = 96
"""Bytes an envelope is longer than what it seals; also the length of the shortest envelope."""

_SUITE = b"EG\x01\x01"
_LABEL = b"evergrant envelope 1.1 record key"
_HEADER_END = 20
_COMMITMENT_END = 68
_NONCE_END = 80
_pack_length = Struct(">H").pack

_WRAPPED = b"EK\x01\x01"
_WRAPPED_NONCE_END = len(_WRAPPED) + NONCE_SIZE
_WRAPPED_SIZE = _WRAPPED_NONCE_END + KEY_SIZE + 16


class DataKey:
    """A data key, ready for use: 32 bytes that have become an HMAC with its key already taken in.

    The raw bytes are not kept. What is left lives in OpenSSL's memory, which OpenSSL overwrites when the last user lets
    go; so dropping a key is wiping it, and nobody has a key wiped under their hands.
    """

    __slots__ = ("__weakref__", "_expand", "_last", "header", "id")

    def __init__(self, key_id: UUID, raw: bytes | bytearray) -> None:
        """Take in ``raw``, 32 bytes; a caller that passes a ``bytearray`` may overwrite it right after.

        Raises:
            ValueError: ``raw`` is not 32 bytes.
        """
        if len(raw) != KEY_SIZE:
            raise ValueError(f"a data key has {KEY_SIZE} bytes, not {len(raw)}")
        self.id = key_id
        self.header = _SUITE + key_id.bytes
        self._expand = HMAC(raw, SHA512())
        self._expand.update(_LABEL)
        self._last: tuple[bytes, bytes, AESGCM] | None = None

    def derive(self, salt: bytes, context: bytes) -> tuple[bytes, bytes]:
        """Return the record key and the commitment, 32 bytes each: T(1) of HKDF-Expand, halved."""
        block = self._expand.copy()
        block.update(salt + context + b"\x01")
        halves = block.finalize()
        return halves[:32], halves[32:]

    def opener(self, salt_and_commitment: bytes, context: bytes) -> AESGCM:
        """Return the record key of an envelope, ready to open it.

        The last one is remembered, no longer than the data key itself: a key of one owner at one provider mostly opens
        one envelope again and again, and deriving costs as much as opening.

        Raises:
            CannotOpen: The commitment is not that of this data key.
        """
        last = self._last  # read once: another thread may be putting its own there
        if last is not None and salt_and_commitment == last[0] and context == last[1]:
            return last[2]
        record_key, commitment = self.derive(salt_and_commitment[:SALT_SIZE], context)
        if not compare_digest(commitment, salt_and_commitment[SALT_SIZE:]):
            raise CannotOpen
        opener = AESGCM(record_key)
        self._last = salt_and_commitment, context, opener
        return opener

    def __repr__(self) -> str:
        return f"DataKey({self.id}, ***)"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a DataKey refuses to be pickled or copied: pass its id and ask the keyring where it is needed")


class TenantKey:
    """A tenant key, ready to wrap and unwrap the data keys of its tenant."""

    __slots__ = ("_aead", "id")

    def __init__(self, key_id: UUID, raw: bytes) -> None:
        if len(raw) != KEY_SIZE:
            raise CannotOpen
        self.id, self._aead = key_id, AESGCM(raw)

    def wrap(self, raw: bytes | bytearray, record: DataKeyRecord, nonce: bytes) -> bytes:
        """Wrap a data key, bound to everything its record says about it. ``nonce``: 12 bytes, never used before."""
        return _WRAPPED + nonce + self._aead.encrypt(nonce, raw, _binding(record))

    def unwrap(self, record: DataKeyRecord) -> bytearray:
        """Give the data key back, for the caller to overwrite.

        Raises:
            CannotOpen: The record was damaged, moved or wrapped under another key.
        """
        wrapped = record.wrapped
        if len(wrapped) != _WRAPPED_SIZE or not wrapped.startswith(_WRAPPED):
            raise CannotOpen
        nonce, ciphertext = wrapped[len(_WRAPPED) : _WRAPPED_NONCE_END], wrapped[_WRAPPED_NONCE_END:]
        raw = bytearray(KEY_SIZE)
        try:
            self._aead.decrypt_into(nonce, ciphertext, _binding(record), raw)
        except InvalidTag:
            raise CannotOpen from None
        return raw

    def __repr__(self) -> str:
        return f"TenantKey({self.id}, ***)"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a TenantKey refuses to be pickled or copied")


def context(tenant: str, subject: UUID, field: str) -> bytes:
    """Return what a value is bound to, in the one form both sides agree on: each part after its length in two bytes.

    Args:
        tenant: Whose value it is.
        subject: The row: a connection id, or the id of another credential.
        field: The column, such as ``access_token``.

    Raises:
        ValueError: ``tenant`` or ``field`` is longer than 65,535 bytes of UTF-8.
    """
    of_tenant, of_field = tenant.encode(), field.encode()
    if len(of_tenant) > 0xFFFF or len(of_field) > 0xFFFF:
        raise ValueError("a tenant or field name is longer than 65,535 bytes")
    return b"".join(
        (_pack_length(len(of_tenant)), of_tenant, b"\x00\x10", subject.bytes, _pack_length(len(of_field)), of_field)
    )


def seal(key: DataKey, plaintext: bytes, context: bytes, version: int) -> bytes:
    """Seal a value for one row, field and version. Sealing twice gives two different envelopes.

    Args:
        key: The data key of the value's owner and provider.
        plaintext: Any bytes, none included.
        context: From ``context()``.
        version: The version of the row the envelope will stand in, 0 to 2⁶⁴ - 1.

    Returns:
        The envelope, ``OVERHEAD`` bytes longer than the value.
    """
    randomness = os.urandom(SALT_SIZE + NONCE_SIZE)
    return seal_from_parts(key, plaintext, context, version, randomness[:SALT_SIZE], randomness[SALT_SIZE:])


def seal_from_parts(key: DataKey, plaintext: bytes, context: bytes, version: int, salt: bytes, nonce: bytes) -> bytes:
    """Seal with given randomness, 16 and 12 bytes: for vectors. The same pair twice under one key gives values away."""
    if len(salt) != SALT_SIZE or len(nonce) != NONCE_SIZE:
        raise ValueError(f"salt and nonce have {SALT_SIZE} and {NONCE_SIZE} bytes")
    associated = key.header + context + version.to_bytes(8, "big")
    record_key, commitment = key.derive(salt, context)
    return b"".join((key.header, salt, commitment, nonce, AESGCM(record_key).encrypt(nonce, plaintext, associated)))


def open_envelope(key: DataKey, envelope: bytes, context: bytes, version: int) -> bytes:
    """Open a value that stands in the row, field and version it was sealed for.

    Raises:
        CannotOpen: Whatever the cause.
    """
    if len(envelope) < OVERHEAD or envelope[:_HEADER_END] != key.header:
        raise CannotOpen
    opener = key.opener(envelope[_HEADER_END:_COMMITMENT_END], context)
    try:
        associated = key.header + context + version.to_bytes(8, "big")
        return opener.decrypt(envelope[_COMMITMENT_END:_NONCE_END], envelope[_NONCE_END:], associated)
    except (InvalidTag, OverflowError):  # overflow: a version no row can have
        raise CannotOpen from None


def method(head: bytes) -> tuple[str, str]:
    """Name what begins with these four bytes, as method and version; for counting, nothing is proven by it."""
    if len(head) < 4 or head[:2] not in (_SUITE[:2], _WRAPPED[:2]):
        return "unknown", head.hex()
    return "AES-256-GCM", f"{head[2]}.{head[3]}"


def key_id(envelope: bytes) -> UUID:
    """Read which data key an envelope stands under. Nothing is proven until it is opened.

    Raises:
        CannotOpen: It is not an envelope of this version.
    """
    if len(envelope) < OVERHEAD or not envelope.startswith(_SUITE):
        raise CannotOpen
    return UUID(bytes=envelope[4:_HEADER_END])


def _binding(record: DataKeyRecord) -> bytes:
    facts = ("evergrant", record.tenant, record.owner, record.provider, record.purpose, str(record.id))
    return _WRAPPED + b"".join(len(fact).to_bytes(4, "big") + fact for fact in map(str.encode, facts))
