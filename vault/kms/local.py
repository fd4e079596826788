"""A KMS in a file: the embedded default, and the one for machines that have no other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.errors import CannotOpen, ConfigurationError, KeyUnavailable
from vault.kms import keyring_file
from vault.kms.keyring_file import KEY_SIZE, Unusable, kek_id
from vault.ports import WrappedKey

ALGORITHM: Final = "AES-256-GCM"
DEFAULT_NAME: Final = "primary"
"""Name of the key a new keyring file starts with, when the URI names none."""
_NONCE_SIZE = 12


class LocalKms:
    """Wraps keys under KEKs in a keyring file, which is made when it does not exist.

    Every key in the file unwraps. The one that wraps is the one the URI names, or else the one the file calls current.
    A change of the file is noticed at the next call. Thread-safe; several processes may share the file.
    """

    def __init__(self, path: Path, key_name: str | None = None, *, random: Callable[[int], bytes] = os.urandom) -> None:
        """Open the keyring file, or make it.

        Args:
            path: The file. A missing directory is made for us alone; an existing one is left as it is.
            key_name: The key that wraps; None leaves it to the file.
            random: Gives that many unpredictable bytes.

        Raises:
            ConfigurationError: The file is damaged, open to other users or not to us, or holds no such key.
        """
        self._path, self._key_name, self._random = path, key_name, random
        self._lock = Lock()
        try:
            if not path.exists():
                keyring_file.create(path, key_name or DEFAULT_NAME, random(KEY_SIZE))
            self._keys, self._stamp = keyring_file.read(path)
            if key_name is not None and key_name not in self._keys.by_name:
                known = ", ".join(sorted(self._keys.by_name))
                raise Unusable(f"keyring file {path} holds no key {key_name!r}; it holds: {known}")
        except Unusable as error:
            raise ConfigurationError([str(error)]) from error

    def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        """Wrap 32 bytes under the KEK in use, bound to ``context``. Raises ``KeyUnavailable``."""
        kek_id, kek = self._in_use()
        nonce = self._random(_NONCE_SIZE)
        return WrappedKey(kek_id, ALGORITHM, nonce + AESGCM(kek).encrypt(nonce, key, _associated(kek_id, context)))

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        """Give the key back.

        Raises:
            KeyUnavailable: The KEK is not in the file, or the file cannot be used any more.
            CannotOpen: The context is another one, or the ciphertext is damaged.
        """
        kek = self._by_id().get(wrapped.kek_id)
        if kek is None:
            raise KeyUnavailable(wrapped.kek_id, f"not in keyring file {self._path}", transient=False)
        if wrapped.algorithm != ALGORITHM or len(wrapped.ciphertext) < _NONCE_SIZE:
            raise CannotOpen
        nonce, ciphertext = wrapped.ciphertext[:_NONCE_SIZE], wrapped.ciphertext[_NONCE_SIZE:]
        try:
            return AESGCM(kek).decrypt(nonce, ciphertext, _associated(wrapped.kek_id, context))
        except InvalidTag:
            raise CannotOpen from None

    def describe(self) -> str:
        """Name the KEK new keys are wrapped under, in full, without any secret. Raises ``KeyUnavailable``."""
        return self._in_use()[0]
