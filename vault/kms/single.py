"""A KMS of one key that stands in the settings: ``ENCRYPTION_KEY``, for those who have nothing else yet."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vault.errors import CannotOpen, KeyUnavailable
from vault.kms.contexts import canonical
from vault.ports import WrappedKey

URI: Final = "env:ENCRYPTION_KEY"
ALGORITHM: Final = "AES-256-GCM"
_LABEL = b"evergrant env wrap 1"
_NONCE_SIZE = 12


class SingleKeyKms:
    """Wraps keys under a KEK that is derived from one key: the key itself goes on opening what was written with it."""

    def __init__(self, key: bytes, *, random: Callable[[int], bytes] = os.urandom) -> None:
        """Take in the key.

        Args:
            key: 32 bytes.
            random: Gives that many unpredictable bytes.
        """
        self._kek = AESGCM(HKDF(SHA256(), 32, salt=None, info=_LABEL).derive(key))
        digest = hashlib.sha256(b"evergrant env kek id" + key).hexdigest()[:8]
        self._kek_id, self._random = f"{URI}#{digest}", random

    def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        """See ``Kms.wrap``."""
        nonce = self._random(_NONCE_SIZE)
        sealed = self._kek.encrypt(nonce, key, canonical(_LABEL, self._kek_id, context))
        return WrappedKey(self._kek_id, ALGORITHM, nonce + sealed)

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        """See ``Kms.unwrap``."""
        if wrapped.kek_id != self._kek_id:
            raise KeyUnavailable(wrapped.kek_id, "ENCRYPTION_KEY is another one", transient=False)
        nonce, sealed = wrapped.ciphertext[:_NONCE_SIZE], wrapped.ciphertext[_NONCE_SIZE:]
        if wrapped.algorithm != ALGORITHM or len(nonce) < _NONCE_SIZE:
            raise CannotOpen
        try:
            return self._kek.decrypt(nonce, sealed, canonical(_LABEL, self._kek_id, context))
        except InvalidTag:
            raise CannotOpen from None

    def describe(self) -> str:
        """See ``Kms.describe``."""
        return self._kek_id

    def holds(self, kek_id: str) -> bool:
        """See ``Kms.holds``."""
        return kek_id == self._kek_id
