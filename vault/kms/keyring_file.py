"""A keyring file: several named KEKs in JSON, readable by nobody but us, changed in one step or not at all.

    {"evergrant_keyring": 1, "current": "2026", "keys": {"2025": "<32 bytes, base64>", "2026": "…"}}

Writers of one file wait for each other by a lock on its directory, and put a complete new file in the place of the old:
no reader ever sees half a file, and no key is lost between two writers.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import stat
from binascii import Error as NotBase64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

FORMAT: Final = 1
KEY_SIZE: Final = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SIZE_LIMIT = 1 << 20  # a larger file is not a keyring: some thousand keys fit


class Unusable(Exception):
    """The file cannot be used; the message says why and what to do, and never what is in it."""


class Keys(NamedTuple):
    """What a keyring file holds."""

    current: str
    by_name: Mapping[str, bytes]

    def by_id(self) -> dict[str, bytes]:
        """Return every key by its full id."""
        return {kek_id(name, key): key for name, key in self.by_name.items()}

    def __repr__(self) -> str:
        return f"Keys(current={self.current!r}, by_name={sorted(self.by_name)})"


class Stamp(NamedTuple):
    """Differs when the file was replaced or changed."""

    inode: int
    mtime_ns: int
    ctime_ns: int
    size: int


def kek_id(name: str, key: bytes) -> str:
    """Name a key in full: its name and eight hex digits of its digest, which tell it from one that replaced it."""
    return f"local:{name}#{hashlib.sha256(b'evergrant local kek id' + key).hexdigest()[:8]}"


def stamp(path: Path) -> Stamp | None:
    """Look at the file without opening it; None when it cannot be seen."""
    try:
        return _stamp(path.stat())
    except OSError:
        return None


def read(path: Path) -> tuple[Keys, Stamp]:
    """Read a keyring file and the stamp of exactly what was read. Raises ``Unusable``."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            _refuse_open_door(path, status)
            content = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise Unusable(f"keyring file {path} cannot be read: {error.strerror}") from error
    return _parse(path, content), _stamp(status)


def create(path: Path, name: str, key: bytes) -> None:
    """Make a keyring file with one key, unless there is a file. Raises ``Unusable``."""
    _check_name(name)
    with _writing(path) as real:
        if not real.exists():
            _write(real, Keys(name, {name: key}))


def add(path: Path, name: str, key: bytes) -> None:
    """Add a key, which wraps nothing until it is made current. Raises ``Unusable``."""
    _check_name(name)
    with _writing(path) as real:
        keys, _ = read(real)
        if name in keys.by_name:
            raise Unusable(f"keyring file {path} already holds a key {name!r}: choose another name")
        _write(real, Keys(keys.current, {**keys.by_name, name: key}))


def set_current(path: Path, name: str) -> None:
    """Let this key wrap from now on. Raises ``Unusable``."""
    with _writing(path) as real:
        keys, _ = read(real)
        if name not in keys.by_name:
            raise Unusable(f"keyring file {path} holds no key {name!r}; it holds: {', '.join(sorted(keys.by_name))}")
        _write(real, keys._replace(current=name))


def remove(path: Path, name: str) -> None:
    """Remove a key that does not wrap. Raises ``Unusable``."""
    with _writing(path) as real:
        keys, _ = read(real)
        if name not in keys.by_name:
            raise Unusable(f"keyring file {path} holds no key {name!r}; it holds: {', '.join(sorted(keys.by_name))}")
        if name == keys.current:
            raise Unusable(f"key {name!r} of keyring file {path} is the one in use: let another one wrap first")
        _write(real, Keys(keys.current, {kept: key for kept, key in keys.by_name.items() if kept != name}))


def copy(path: Path, target: Path) -> None:
    """Write what the file holds to a new file. Raises ``Unusable``."""
    keys, _ = read(path)
    with _writing(target) as real:
        if real.exists():
            raise Unusable(f"{target} exists: a backup takes the place of nothing")
        _write(real, keys)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Be the only writer; gives the file behind the path, so that a link stays a link."""
    try:
        real = path.resolve()
        real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(real.parent, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)  # ends with the descriptor, also when we are killed
            yield real
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise Unusable(f"keyring file {path} cannot be written: {error.strerror}") from error


def _write(path: Path, keys: Keys) -> None:
    """Put a new file in the place of the old; only called with the lock held."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # what a killed writer left
    by_name = {name: base64.b64encode(key).decode() for name, key in keys.by_name.items()}
    content = json.dumps({"evergrant_keyring": FORMAT, "current": keys.current, "keys": by_name}, indent=2) + "\n"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _parse(path: Path, content: bytes) -> Keys:
    try:
        document = json.loads(content)
        if document["evergrant_keyring"] != FORMAT:
            raise ValueError
        by_name = {_checked(name): base64.b64decode(key, validate=True) for name, key in document["keys"].items()}
        if document["current"] not in by_name or any(len(key) != KEY_SIZE for key in by_name.values()):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, NotBase64, RecursionError):
        # From None: the text of a JSON error shows a piece of the file.
        raise Unusable(
            f"keyring file {path} is damaged or no keyring: it was left as it is; restore it from a backup"
        ) from None
    return Keys(document["current"], by_name)


def _refuse_open_door(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Unusable(f"keyring file {path} is not a regular file")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise Unusable(f"keyring file {path} is open to other users (mode {mode:04o}): run chmod 600 {path}")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Unusable("a key name has 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first")


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError
    return name


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
