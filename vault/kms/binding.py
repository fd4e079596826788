"""An encryption context for a KMS that has none, and a place for keys that are too long for it.

The KMS wraps a secret of our own making, fresh for every key. The key is wrapped under what HKDF derives from that
secret and the context, so whoever gives another context, or moves a wrapping elsewhere, gets nothing:

    EB 1 1 · length of the KMS's ciphertext, 2 bytes · that ciphertext · nonce, 12 bytes · key and tag, 48 bytes

    info = label · KEK · context
    AES-256-GCM( HKDF-SHA-256(secret, info), nonce, key, associated data = info · everything before the nonce )
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vault.errors import CannotOpen
from vault.kms.contexts import canonical

KEY_SIZE: Final = 32
SECRET_SIZE: Final = 32

_LABEL = b"evergrant bound wrap 1"
_MAGIC = b"EB\x01\x01"  # format 1, suite 1
_LENGTH_SIZE, _NONCE_SIZE, _TAG_SIZE = 2, 12, 16
_START = len(_MAGIC) + _LENGTH_SIZE
_END = _NONCE_SIZE + KEY_SIZE + _TAG_SIZE


def bind(
    key: bytes,
    context: Mapping[str, str],
    wrap_secret: Callable[[bytes], tuple[str, bytes]],
    random: Callable[[int], bytes] = os.urandom,
) -> tuple[str, bytes]:
    """Wrap a key, bound to ``context``; returns the KEK it is under, in full, and the ciphertext.

    Args:
        key: 32 bytes.
        context: What must be given again to get the key back.
        wrap_secret: Has the KMS wrap 32 bytes; returns the KEK it used, in full, and its ciphertext.
        random: Gives that many unpredictable bytes; asked for the secret first, then for the nonce.
    """
    if len(key) != KEY_SIZE:
        raise ValueError(f"a key has {KEY_SIZE} bytes")
    secret = random(SECRET_SIZE)
    kek_id, of_kms = wrap_secret(secret)
    head = _MAGIC + len(of_kms).to_bytes(_LENGTH_SIZE, "big") + of_kms
    info, nonce = canonical(_LABEL, kek_id, context), random(_NONCE_SIZE)
    return kek_id, head + nonce + _cipher(secret, info).encrypt(nonce, key, info + head)


def unbind(
    ciphertext: bytes, kek_id: str, context: Mapping[str, str], unwrap_secret: Callable[[bytes], bytes]
) -> bytes:
    """Give a key back.

    Args:
        ciphertext: What ``bind`` returned.
        kek_id: The KEK ``bind`` returned.
        context: What ``bind`` was given.
        unwrap_secret: Has the KMS unwrap what it wrapped.

    Raises:
        CannotOpen: Anything is not what it was.
    """
    parts = _parse(ciphertext)
    info = canonical(_LABEL, kek_id, context)
    secret = unwrap_secret(parts.of_kms)
    if len(secret) != SECRET_SIZE:
        raise CannotOpen
    try:
        return _cipher(secret, info).decrypt(parts.nonce, parts.sealed, info + parts.head)
    except InvalidTag:
        raise CannotOpen from None


class _Parts(NamedTuple):
    head: bytes
    of_kms: bytes
    nonce: bytes
    sealed: bytes


def _parse(ciphertext: bytes) -> _Parts:
    """Take the parts out, if there are exactly these."""
    start = _START + int.from_bytes(ciphertext[len(_MAGIC) : _START], "big")
    if ciphertext[: len(_MAGIC)] != _MAGIC or start == _START or len(ciphertext) != start + _END:
        raise CannotOpen
    nonce_end = start + _NONCE_SIZE
    return _Parts(
        ciphertext[:start], ciphertext[_START:start], ciphertext[start:nonce_end], ciphertext[nonce_end:]
    )  # fmt: skip


def _cipher(secret: bytes, info: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=None, info=info).derive(secret))
