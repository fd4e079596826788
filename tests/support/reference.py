"""The formats at rest once more, from their description and with other building blocks: a second opinion.

Nothing of ``vault`` is imported here. Where the product expands with a prekeyed HMAC and cuts slices, this one calls
HKDFExpand and packs by ``struct``.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand


def context(tenant: str, subject: UUID, field: str) -> bytes:
    parts = [tenant.encode(), subject.bytes, field.encode()]
    return b"".join(struct.pack(f">H{len(part)}s", len(part), part) for part in parts)


def envelope(
    data_key_id: UUID, data_key: bytes, plaintext: bytes, bound_to: bytes, version: int, salt: bytes, nonce: bytes
) -> bytes:
    info = b"evergrant envelope 1.1 record key" + salt + bound_to
    block = HKDFExpand(algorithm=hashes.SHA512(), length=64, info=info).derive(data_key)
    header = struct.pack(">2sBB16s", b"EG", 1, 1, data_key_id.bytes)
    associated = header + bound_to + struct.pack(">Q", version)
    ciphertext = AESGCM(block[:32]).encrypt(nonce, plaintext, associated)
    return struct.pack(f">20s16s32s12s{len(ciphertext)}s", header, salt, block[32:], nonce, ciphertext)


def wrapped_data_key(tenant_key: bytes, data_key: bytes, facts: list[str], nonce: bytes) -> bytes:
    """``facts``: tenant, owner, provider, purpose, data key id."""
    magic = struct.pack(">2sBB", b"EK", 1, 1)
    return magic + nonce + AESGCM(tenant_key).encrypt(nonce, data_key, magic + _long(["evergrant", *facts]))


def local_kek_id(name: str, kek: bytes) -> str:
    return f"local:{name}#{hashlib.sha256(b'evergrant local kek id' + kek).digest()[:4].hex()}"


def local_wrap(name: str, kek: bytes, key: bytes, bound_to: dict[str, str], nonce: bytes) -> bytes:
    parts = [local_kek_id(name, kek)]
    for fact in sorted(bound_to):
        parts += [fact, bound_to[fact]]
    return nonce + AESGCM(kek).encrypt(nonce, key, b"evergrant local wrap 1" + _long(parts))


def fingerprint(fingerprint_key: bytes, tenant: str, subject: UUID, text: str) -> bytes:
    message = context(tenant, subject, "fingerprint") + text.encode()
    return hmac.new(fingerprint_key, message, hashlib.sha256).digest()[:16]


def _long(parts: list[str]) -> bytes:
    return b"".join(struct.pack(f">I{len(part.encode())}s", len(part.encode()), part.encode()) for part in parts)
