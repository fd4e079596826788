"""All formats at rest once more, on another cryptographic library: PyCryptodome, which shares no code with OpenSSL.

Written from the formats' description. Nothing of ``vault`` and nothing of ``cryptography`` is imported here, so that
what both sides agree on is not one library's idea of it. Whatever cannot be opened is ``Refused``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import struct
from uuid import UUID

from Crypto.Cipher import AES
from Crypto.Hash import HMAC, SHA256, SHA512

LABEL = b"evergrant envelope 1.1 record key"


class Refused(Exception):
    """It does not open."""


def encrypt(key: bytes, iv: bytes, plaintext: bytes, associated: bytes = b"") -> bytes:
    """AES-GCM; returns ciphertext ‖ tag."""
    cipher = AES.new(key, AES.MODE_GCM, nonce=iv, mac_len=16)
    cipher.update(associated)
    ciphertext, tag = cipher.encrypt_and_digest(plaintext)
    return bytes(ciphertext + tag)


def decrypt(key: bytes, iv: bytes, sealed: bytes, associated: bytes = b"") -> bytes:
    """AES-GCM of ciphertext ‖ tag."""
    if len(sealed) < 16 or not iv:
        raise Refused
    cipher = AES.new(key, AES.MODE_GCM, nonce=iv, mac_len=16)
    cipher.update(associated)
    try:
        return bytes(cipher.decrypt_and_verify(sealed[:-16], sealed[-16:]))
    except ValueError:
        raise Refused from None


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-512, RFC 5869, section 2.3."""
    blocks = [b""]
    for number in range(1, -(-length // 64) + 1):
        blocks.append(HMAC.new(key, blocks[-1] + info + bytes([number]), SHA512).digest())
    return b"".join(blocks)[:length]


# ------------------------------------------------------------------------------------------------------------ envelopes


def context(tenant: str, subject: UUID, field: str) -> bytes:
    """What a value is bound to."""
    parts = (tenant.encode(), subject.bytes, field.encode())
    return b"".join(struct.pack(">H", len(part)) + part for part in parts)


def seal(key_id: UUID, key: bytes, plaintext: bytes, bound_to: bytes, version: int, salt: bytes, nonce: bytes) -> bytes:
    """An envelope, version 1."""
    header = b"EG\x01\x01" + key_id.bytes
    block = expand(key, LABEL + salt + bound_to, 64)
    sealed = encrypt(block[:32], nonce, plaintext, header + bound_to + struct.pack(">Q", version))
    return header + salt + block[32:] + nonce + sealed


def open_envelope(key_id: UUID, key: bytes, envelope: bytes, bound_to: bytes, version: int) -> bytes:
    """What stands in an envelope, version 1."""
    if len(envelope) < 96 or not 0 <= version < 2**64:
        raise Refused
    header, salt, commitment, nonce = envelope[:20], envelope[20:36], envelope[36:68], envelope[68:80]
    block = expand(key, LABEL + salt + bound_to, 64)
    if header != b"EG\x01\x01" + key_id.bytes or not hmac.compare_digest(block[32:], commitment):
        raise Refused
    return decrypt(block[:32], nonce, envelope[80:], header + bound_to + struct.pack(">Q", version))


# ----------------------------------------------------------------------------------------------------------------- keys


def unwrap_data_key(tenant_key: bytes, wrapped: bytes, facts: list[str]) -> bytes:
    """A data key under a tenant key; ``facts``: tenant, owner, provider, purpose, data key id."""
    if wrapped[:4] != b"EK\x01\x01" or len(wrapped) != 64:
        raise Refused
    return decrypt(tenant_key, wrapped[4:16], wrapped[16:], wrapped[:4] + _long(["evergrant", *facts]))


def wrap_data_key(tenant_key: bytes, raw: bytes, facts: list[str], nonce: bytes) -> bytes:
    """The other way."""
    return b"EK\x01\x01" + nonce + encrypt(tenant_key, nonce, raw, b"EK\x01\x01" + _long(["evergrant", *facts]))


def local_unwrap(kek_id: str, kek: bytes, wrapped: bytes, bound_to: dict[str, str]) -> bytes:
    """A key under a KEK of a keyring file."""
    parts = [kek_id, *itertools.chain.from_iterable(sorted(bound_to.items()))]
    return decrypt(kek, wrapped[:12], wrapped[12:], b"evergrant local wrap 1" + _long(parts))


def fingerprint(key: bytes, tenant: str, subject: UUID, text: str) -> bytes:
    """Sixteen bytes that tell whether two texts are equal."""
    return HMAC.new(key, context(tenant, subject, "fingerprint") + text.encode(), SHA256).digest()[:16]


def _long(parts: list[str]) -> bytes:
    return b"".join(struct.pack(">I", len(part.encode())) + part.encode() for part in parts)


# ----------------------------------------------------------------------------------------------------------------- text


def open_v1(key: bytes, text: str, *, encoding: str, order: str) -> bytes:
    """A v1 text, of which the encoding and the order are known: this side does not guess."""
    parts = dict(zip(order.split(":"), text.split(":"), strict=True))
    iv, data, tag = (_decoded(parts[name], encoding) for name in ("iv", "data", "authTag"))
    return decrypt(key, iv, data + tag)


def open_foreign(dek: bytes, text: str, *, layout: str, iv_size: int) -> bytes:
    """What stands in a v2 text of another system; ``layout``: ``iv tag data`` or ``iv data tag``."""
    ciphertext = base64.b64decode(text.split(":")[3])
    iv, rest = ciphertext[:iv_size], ciphertext[iv_size:]
    return decrypt(dek, iv, rest[16:] + rest[:16] if layout == "iv tag data" else rest)


def open_string(kek: bytes, tenant: str, text: str) -> bytes:
    """A v2 text of ours whose data key stands under a KEK of a keyring file."""
    wrapped, envelope = (base64.b64decode(part) for part in text.removeprefix("kms:v2:").split(":"))
    if wrapped[:3] != b"EW\x01":
        raise Refused
    kek_id, algorithm, ciphertext = _short(wrapped[3:])
    if algorithm != b"AES-256-GCM":
        raise Refused
    key_id = UUID(bytes=hashlib.sha256(wrapped).digest()[:16])
    bound_to = {"app": "evergrant", "tenant": tenant, "purpose": "string"}
    dek = local_unwrap(kek_id.decode(), kek, ciphertext, bound_to)
    return open_envelope(key_id, dek, envelope, context(tenant, key_id, "string"), 0)


def _decoded(part: str, encoding: str) -> bytes:
    if encoding == "hex":
        return bytes.fromhex(part)
    return base64.b64decode(part.replace("-", "+").replace("_", "/") + "=" * (-len(part) % 4))


def _short(packed: bytes) -> list[bytes]:
    parts = []
    while packed:
        (length,) = struct.unpack_from(">H", packed)
        parts.append(packed[2 : 2 + length])
        packed = packed[2 + length :]
    return parts
