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
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock

from vault.claims import Kept
from vault.forks import in_children

_FRAME = struct.Struct("<II")
_PARTS = 9
_HEAD = struct.Struct(f"<16s16sqiqqqqq{_PARTS}I")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_INSTANT = -(2**63)
_KEPT = b"K"
_DONE = b"D"
LONGEST_RECORD = 4 * 1024 * 1024
TRIM_AT = 8 * 1024 * 1024
"""Bytes after which a file with nothing waiting is emptied."""


def encode(kept: Kept) -> bytes:
    """Return a record's body: what has a fixed size, instants as microseconds since 1970, then lengths, then texts."""
    parts = (
        kept.tenant.encode(),
        kept.parent_fp,
        kept.refresh_fp,
        kept.access_envelope,
        kept.refresh_envelope,
        kept.token_type.encode(),
        _optional(kept.scopes),
        b"1" if kept.fragile else b"",
        _optional(kept.recovered_from),
    )
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
        *map(len, parts),
    )
    return head + b"".join(parts)


def decode(body: bytes) -> Kept:
    """Read a record's body back. Raises ``ValueError`` when it is not one."""
    try:
        connection, key, epoch, consent, version, sent, expires, due, ends, *sizes = _HEAD.unpack_from(body)
    except struct.error as error:
        raise ValueError("not a spool record") from error
    parts, offset = [], _HEAD.size
    for size in sizes:
        offset += size
        parts.append(body[offset - size : offset])
    if offset != len(body):
        raise ValueError("not a spool record")
    tenant, parent_fp, refresh_fp, access, refresh, token_type, scopes, fragile, recovered_from = parts
    try:
        sent_at, expires_at, next_at = (_instant(value) or _EPOCH for value in (sent, expires, due))
        ends_at = _instant(ends)
    except OverflowError as error:
        raise ValueError("not a spool record") from error
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
        _text(scopes),
        sent_at,
        expires_at,
        next_at,
        ends_at,
        fragile == b"1",
        _text(recovered_from),
    )


def _optional(text: str | None) -> bytes:
    return b"" if text is None else b"=" + text.encode()


def _text(part: bytes) -> str | None:
    return part[1:].decode() if part else None


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
    """The spool of one process, and the way to those that dead processes left beside it. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None
        self._path = directory
        self._open: set[bytes] = set()
        self._size = 0
        self._unsynced = False
        self._lock = Lock()
        in_children(self.forked)

    def check(self) -> None:
        """See ``Spool.check``: opens our file, and tries a write, which is where a full disk shows."""
        with self._lock:
            self._write(_frame(_DONE, b""))

    def append(self, *records: Kept) -> None:
        """See ``Spool.append``. Raises ``OSError`` when the disk takes no more."""
        frames = b"".join([_frame(_KEPT, encode(kept)) for kept in records])
        with self._lock:
            self._write(frames)
            self._open.update(map(_key, records))
            self._unsynced = True

    def sync(self) -> None:
        """See ``Spool.sync``."""
        if self._unsynced and self._descriptor is not None:
            self._unsynced = False
            os.fsync(self._descriptor)

    def done(self, records: Sequence[Kept]) -> None:
        """See ``Spool.done``. A mark the disk does not take is not worth an error: the record is replayed one day."""
        with self._lock:
            keys = [key for key in map(_key, records) if key in self._open]
            self._open.difference_update(keys)
            try:
                if keys:
                    self._write(b"".join([_frame(_DONE, key) for key in keys]))
            except OSError:
                self._trim(0)
            else:
                self._trim(TRIM_AT)

    def holds(self, connection_id: uuid.UUID) -> bool:
        """See ``Spool.holds``."""
        wanted = connection_id.bytes
        with self._lock:
            if any(key[:16] == wanted for key in self._open):
                return True
        return bool(self.lying([connection_id]))

    def lying(self, connection_ids: Collection[uuid.UUID]) -> list[Kept]:
        """See ``Spool.lying``."""
        wanted = {connection_id.bytes for connection_id in connection_ids}
        files = (path for path in self._files() if path != self._path)
        return [kept for path in files for key, kept in waiting(_content(path)).items() if key[:16] in wanted]

    def orphans(self) -> Iterator[OrphanFile]:
        """See ``Spool.orphans``: files whose lock can be had, each locked by us while it is looked at."""
        for path in self._files():
            if path == self._path:
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

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob("*.spool")) if self._directory.is_dir() else []

    def _write(self, data: bytes) -> None:
        """Write all of it or nothing: what follows a torn record could not be read."""
        descriptor = self._file()
        written = os.write(descriptor, data)
        if written != len(data):
            os.ftruncate(descriptor, self._size)
            raise OSError(f"only {written} of {len(data)} bytes could be written to the spool")
        self._size += len(data)

    def _trim(self, size: int) -> None:
        """Empty our file if nothing waits in it and it has grown beyond ``size``."""
        if not self._open and self._size > size and self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            self._size = 0

    def _file(self) -> int:
        """Open our file on first use."""
        if self._descriptor is None:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self._directory / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.spool"
            self._descriptor = _create_locked(path)
            self._path, self._size = path, 0
        return self._descriptor

    def release(self) -> None:
        """See ``Spool.release``; a file in which nothing waits is removed."""
        with self._lock:
            if self._descriptor is not None and not self._open:
                self._path.unlink(missing_ok=True)
            self._let_go()

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._path = None, self._directory
        self._open, self._unsynced = set(), False

    def forked(self) -> None:
        """In a new child: leave the file to the parent, and the lock on it, which would outlive the parent with us."""
        self._lock = Lock()
        self._let_go()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # another process has just brought it home
        return b""


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
