"""Answers on their way to the database, on a local disk.

Between a provider's answer and our commit a process can be killed; what it has written here by then is found by the
next scan of any process on this machine (S8). ``write()`` into a file survives SIGKILL; ``fsync`` in groups adds the
loss of power. Records hold sealed envelopes only.

A file belongs to one process, which holds a lock on it; a file whose lock can be had belongs to a process that died.
Each record is framed as length, CRC-32 and body, so that a torn tail is told from a record and cut off.
"""

from __future__ import annotations

import fcntl
import os
import struct
import uuid
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from vault.claims import Kept

_FRAME = struct.Struct("<II")
_HEAD = struct.Struct("<16s16sqiqqqqq")
_PART = struct.Struct("<I")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_INSTANT = -(2**63)
_KEPT = b"K"
_DONE = b"D"
LONGEST_RECORD = 4 * 1024 * 1024
TRIM_AT = 8 * 1024 * 1024
"""Bytes after which a file with nothing waiting is emptied."""


def encode(kept: Kept) -> bytes:
    """Return a record's body; instants as microseconds since 1970, other fields length-prefixed."""
    head = _HEAD.pack(
        kept.connection_id.bytes,
        kept.data_key_id.bytes,
        kept.epoch,
        kept.consent,
        kept.parent_version,
        _micros(kept.sent_at),
        _micros(kept.expires_at),
        _micros(kept.next_at),
        _micros(kept.grant_ends_at),
    )
    parts = (
        kept.tenant.encode(),
        kept.parent_fp,
        kept.refresh_fp,
        kept.access_envelope,
        kept.refresh_envelope,
        kept.token_type.encode(),
        b"" if kept.scopes is None else b"=" + kept.scopes.encode(),
    )
    return head + b"".join([_PART.pack(len(part)) + part for part in parts])


def decode(body: bytes) -> Kept:
    """Read a record's body back. Raises ``ValueError`` when it is not one."""
    try:
        connection, key, epoch, consent, version, sent, expires, due, ends = _HEAD.unpack_from(body)
        parts, offset = [], _HEAD.size
        for _ in range(7):
            (size,) = _PART.unpack_from(body, offset)
            offset += _PART.size + size
            parts.append(body[offset - size : offset])
    except struct.error as error:
        raise ValueError("not a spool record") from error
    if offset != len(body):
        raise ValueError("not a spool record")
    tenant, parent_fp, refresh_fp, access, refresh, token_type, scopes = parts
    sent_at, expires_at, next_at = (_instant(value) or _EPOCH for value in (sent, expires, due))
    return Kept(
        uuid.UUID(bytes=connection),
        tenant.decode(),
        epoch,
        consent,
        parent_fp,
        version,
        refresh_fp,
        uuid.UUID(bytes=key),
        access,
        refresh,
        token_type.decode(),
        scopes[1:].decode() if scopes else None,
        sent_at,
        expires_at,
        next_at,
        _instant(ends),
    )


def _micros(instant: datetime | None) -> int:
    return _NO_INSTANT if instant is None else (instant - _EPOCH) // _MICROSECOND


def _instant(micros: int) -> datetime | None:
    return None if micros == _NO_INSTANT else _EPOCH + micros * _MICROSECOND


def _key(kept: Kept) -> bytes:
    return kept.connection_id.bytes + kept.refresh_fp


def _frames(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, body) of every whole record; stops at the first torn one, after which nothing can be trusted."""
    offset = 0
    while offset + _FRAME.size <= len(data):
        size, checksum = _FRAME.unpack_from(data, offset)
        start = offset + _FRAME.size
        record = data[start : start + size]
        if size > LONGEST_RECORD or len(record) < size or zlib.crc32(record) != checksum:
            return
        yield record[:1], record[1:]
        offset = start + size


def _frame(kind: bytes, body: bytes) -> bytes:
    record = kind + body
    return _FRAME.pack(len(record), zlib.crc32(record)) + record


def waiting(data: bytes) -> dict[bytes, Kept]:
    """Return the records in a file's bytes that were not marked done, in the order they were written."""
    kept: dict[bytes, Kept] = {}
    for kind, body in _frames(data):
        if kind == _DONE:
            kept.pop(body, None)
            continue
        try:
            record = decode(body)
        except ValueError:
            continue
        kept[_key(record)] = record
    return kept


class FileSpool:
    """The spool of one process, and the way to those that dead processes left beside it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None
        self._name = ""
        self._pid = 0
        self._open: set[bytes] = set()
        self._size = 0
        self._unsynced = False

    def check(self) -> None:
        """See ``Spool.check``: opens our file, and tries a write, which is where a full disk shows."""
        self._size += os.write(self._file(), _frame(_DONE, b""))

    def append(self, kept: Kept) -> None:
        """See ``Spool.append``. Raises ``OSError`` when the disk takes no more."""
        record = _frame(_KEPT, encode(kept))
        descriptor = self._file()
        written = os.write(descriptor, record)
        if written != len(record):
            raise OSError(f"only {written} of {len(record)} bytes could be written to the spool")
        self._open.add(_key(kept))
        self._size += len(record)
        self._unsynced = True

    def sync(self) -> None:
        """See ``Spool.sync``."""
        if self._unsynced and self._descriptor is not None:
            os.fsync(self._descriptor)
            self._unsynced = False

    def done(self, records: Sequence[Kept]) -> None:
        """See ``Spool.done``."""
        descriptor = self._file()
        marks = []
        for kept in records:
            key = _key(kept)
            if key in self._open:
                self._open.discard(key)
                marks.append(_frame(_DONE, key))
        if not self._open and self._size > TRIM_AT:
            os.ftruncate(descriptor, 0)
            self._size = 0
        elif marks:
            os.write(descriptor, b"".join(marks))

    def holds(self, connection_id: uuid.UUID) -> bool:
        """See ``Spool.holds``."""
        wanted = connection_id.bytes
        if any(key[:16] == wanted for key in self._open):
            return True
        files = self._directory.glob("*.spool") if self._directory.is_dir() else ()
        return any(key[:16] == wanted for path in files if path != self._path() for key in waiting(path.read_bytes()))

    def orphans(self) -> Iterator[OrphanFile]:
        """See ``Spool.orphans``: files whose lock can be had, each locked by us while it is looked at."""
        if not self._directory.is_dir():
            return
        for path in sorted(self._directory.glob("*.spool")):
            if self._descriptor is not None and path == self._path():
                continue
            try:
                descriptor = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            yield OrphanFile(path, descriptor)

    def _path(self) -> Path:
        return self._directory / self._name

    def _file(self) -> int:
        """Open our file on first use, and a new one after a fork: a child never shares its parent's."""
        if self._descriptor is None or self._pid != os.getpid():
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._pid = os.getpid()
            self._name = f"{self._pid}-{uuid.uuid4().hex[:8]}.spool"
            self._open, self._size, self._unsynced = set(), 0, False
            self._descriptor = _create_locked(self._path())
        return self._descriptor

    def release(self) -> None:
        """See ``Spool.release``; a file in which nothing waits is removed."""
        if self._descriptor is not None and self._pid == os.getpid():
            if not self._open:
                self._path().unlink(missing_ok=True)
            os.close(self._descriptor)
        self._descriptor = None


def _create_locked(path: Path) -> int:
    """Create a file that is locked from its first visible moment, so that no scan takes it for an orphan."""
    hidden = path.with_suffix(".new")
    descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    hidden.rename(path)
    return descriptor


class OrphanFile:
    """What one dead process left; locked by us until ``finish``."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        with os.fdopen(os.dup(descriptor), "rb") as file:
            self.records: Sequence[Kept] = tuple(waiting(file.read()).values())

    def finish(self, remaining: Sequence[Kept]) -> None:
        """See ``Orphan.finish``: what remains is written anew beside the file, which is replaced in one step."""
        try:
            if not remaining:
                self._path.unlink(missing_ok=True)
            elif len(remaining) < len(self.records):
                rest = self._path.with_suffix(".rest")
                with rest.open("wb") as file:
                    file.write(b"".join(_frame(_KEPT, encode(kept)) for kept in remaining))
                    file.flush()
                    os.fsync(file.fileno())
                rest.replace(self._path)
        finally:
            os.close(self._descriptor)
