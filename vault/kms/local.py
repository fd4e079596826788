"""A KMS in a file: the embedded default, and the one for machines that have no other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.errors import CannotOpen, ConfigurationError, KeyUnavailable
from vault.kms import keyring_file
from vault.kms.contexts import canonical
from vault.kms.keyring_file import KEY_SIZE, Stamp, Unusable, kek_id
from vault.ports import WrappedKey

ALGORITHM: Final = "AES-256-GCM"
DEFAULT_NAME: Final = "primary"
"""Name of the key a new keyring file starts with, when the URI names none."""
_LABEL = b"evergrant local wrap 1"
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
        self._path = path.absolute()  # a daemon changes its working directory
        self._key_name, self._random = key_name, random
        try:
            if keyring_file.stamp(self._path) is None:
                keyring_file.create(self._path, key_name or DEFAULT_NAME, random(KEY_SIZE))
            self._seen = self._read()
        except Unusable as error:
            raise ConfigurationError([str(error)]) from error

    def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        """Wrap 32 bytes under the KEK in use, bound to ``context``. Raises ``KeyUnavailable``."""
        seen = self._look()
        nonce = self._random(_NONCE_SIZE)
        ciphertext = AESGCM(seen.by_id[seen.in_use]).encrypt(nonce, key, canonical(_LABEL, seen.in_use, context))
        return WrappedKey(seen.in_use, ALGORITHM, nonce + ciphertext)

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        """Give the key back.

        Raises:
            KeyUnavailable: The KEK is not in the file, or the file cannot be used any more.
            CannotOpen: The context is another one, or the ciphertext is damaged.
        """
        kek = self._look().by_id.get(wrapped.kek_id)
        if kek is None:
            raise KeyUnavailable(wrapped.kek_id, f"not in keyring file {self._path}", transient=False)
        if wrapped.algorithm != ALGORITHM or len(wrapped.ciphertext) < _NONCE_SIZE:
            raise CannotOpen
        nonce, ciphertext = wrapped.ciphertext[:_NONCE_SIZE], wrapped.ciphertext[_NONCE_SIZE:]
        try:
            return AESGCM(kek).decrypt(nonce, ciphertext, canonical(_LABEL, wrapped.kek_id, context))
        except InvalidTag:
            raise CannotOpen from None

    def describe(self) -> str:
        """Name the KEK new keys are wrapped under, in full, without any secret. Raises ``KeyUnavailable``."""
        return self._look().in_use

    def holds(self, kek_id: str) -> bool:
        """Whether this KEK is in the file."""
        return kek_id in self._look().by_id

    def add_key(self, name: str) -> None:
        """Add a fresh key to the file; it wraps nothing until it is made current. Raises ``ConfigurationError``."""
        self._change(partial(keyring_file.add, self._path, name, self._random(KEY_SIZE)))

    def set_current(self, name: str) -> None:
        """Let this key of the file wrap, here and in every process whose URI names none.

        Raises:
            ConfigurationError: The file holds no such key, or cannot be written.
        """
        self._change(partial(keyring_file.set_current, self._path, name))

    def remove_key(self, name: str) -> None:
        """Remove a key from the file: what is wrapped under it cannot be unwrapped any more.

        Raises:
            ConfigurationError: The file holds no such key, the key is the current one, or the file cannot be written.
        """
        self._change(partial(keyring_file.remove, self._path, name))

    def names(self) -> dict[str, bool]:
        """Name the keys in the file, and whether each is the one that wraps. Raises ``KeyUnavailable``."""
        seen = self._look()
        return {_name(known): known == seen.in_use for known in sorted(seen.by_id)}

    def full_name(self, name: str) -> str:
        """Return the full id of a key by its name. Raises ``ConfigurationError``, ``KeyUnavailable``."""
        for known in self._look().by_id:
            if _name(known) == name:
                return known
        raise ConfigurationError([f"keyring file {self._path} holds no key {name!r}"])

    def backup(self, file: Path) -> None:
        """Copy the keyring to a new file, for us alone to read.

        Raises:
            ConfigurationError: The file exists, or cannot be written.
        """
        self._change(partial(keyring_file.copy, self._path, file.absolute()))

    def _change(self, change: Callable[[], None]) -> None:
        try:
            change()
        except Unusable as error:
            raise ConfigurationError([str(error)]) from error

    def _look(self) -> _Seen:
        """What the file says now, read again only when it was changed."""
        if keyring_file.stamp(self._path) != self._seen.stamp:
            try:
                self._seen = self._read()
            except Unusable as error:
                raise KeyUnavailable("local:", str(error), transient=False) from error
        return self._seen

    def _read(self) -> _Seen:
        keys, stamp = keyring_file.read(self._path)
        name = self._key_name or keys.current
        if name not in keys.by_name:
            known = ", ".join(sorted(keys.by_name))
            raise Unusable(f"keyring file {self._path} holds no key {name!r}; it holds: {known}")
        return _Seen(kek_id(name, keys.by_name[name]), keys.by_id(), stamp)


class _Seen(NamedTuple):
    in_use: str
    by_id: Mapping[str, bytes]
    stamp: Stamp

    def __repr__(self) -> str:
        return f"_Seen(in_use={self.in_use!r})"


def _name(full: str) -> str:
    return full.removeprefix("local:").rpartition("#")[0]
