"""CSV with a header, and JSON lines: exports, as other systems write them and people have edited them.

Whatever is wrong with a line is that line's trouble. Text is UTF-8; bytes that are not make the field they are in
unreadable, and no other one.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from vault.errors import ConfigurationError, SourceUnavailable
from vault.migration import values
from vault.migration.columns import ColumnMap
from vault.migration.values import Unreadable
from vault.ports import SourceRow
from vault.sources.rows import broken, source_row

LONGEST_LINE = 1024 * 1024
"""Characters; the rest of a longer line is passed over unread."""
_WIDE = (b"\xff\xfe", b"\xfe\xff")


class _Record(NamedTuple):
    """One record: the line it begins in, what it says by column, or why it cannot be read."""

    line: int
    said: Mapping[str, object]
    problem: str | None = None


class FileSource:
    """``Source`` from a file."""

    def __init__(
        self,
        file: Path,
        format: str,  # noqa: A002  # what everybody calls it
        columns: ColumnMap,
        filters: Mapping[str, str],
        *,
        called: str | None,
        nothing: bool = False,
    ) -> None:
        """Nothing is opened yet.

        Args:
            file: Where it lies.
            format: ``csv`` or ``jsonl``.
            columns: Which column is what; without one for the key, the number of the line is the key.
            filters: The word a row must say, by field.
            called: The name of the source; None: where it lies, and what is read of it.
            nothing: No row can match, by what stands for every row.
        """
        self._file, self._format, self._columns = file, format, columns
        self._filters, self._nothing = filters, nothing
        self.name = called or f"file:{file.absolute()}#{'+'.join(columns.secrets.values())}"
        self._rows: Iterator[SourceRow] = iter(())
        self._at: str | None = None

    def check(self) -> None:
        """See ``Source.check``."""
        problems: list[str] = []
        try:
            with self._file.open("rb") as opened:
                if opened.read(2) in _WIDE:
                    problems.append(f"{self._file} is UTF-16: save it as UTF-8")
            if self._format == "csv" and not problems:
                problems += self._missing()
        except OSError as error:
            problems.append(f"{self._file} cannot be read ({error.strerror})")
        if problems:
            raise ConfigurationError(problems)

    def _missing(self) -> Iterator[str]:
        with self._open() as opened:
            try:
                header = next(csv.reader(_lines(opened)), [])
            except csv.Error:
                header = []
        names = ", ".join(name.strip()[:64] for name in header) or "nothing"
        wanted = self._columns.columns
        for field, column in wanted.items():
            if column not in header:
                yield f"{self._file} has no column {column[:64]!r} for {field}; its header has {names}"
        twice = sorted({column for column in wanted.values() if header.count(column) > 1})
        yield from (f"{self._file} has more than one column {column!r}" for column in twice)

    def count(self) -> int:
        """See ``Source.count``; reads the whole file."""
        return sum(1 for _ in self._all())

    def batch(self, after: str | None, limit: int) -> list[SourceRow]:
        """See ``Source.batch``."""
        if after is None or after != self._at:
            line = int(after or 0)
            self._rows = (row for row in self._all() if int(row.cursor) > line)
        rows = list(islice(self._rows, limit))
        self._at = rows[-1].cursor if rows else None
        return rows

    def clear(self, rows: Sequence[SourceRow]) -> frozenset[str]:  # noqa: ARG002  # the port's
        """See ``Source.clear``; a plan that asks for it is refused."""
        raise ConfigurationError(["a file is not cleared: delete it and its copies yourself"])

    def close(self) -> None:
        """See ``Source.close``."""
        self._rows = iter(())

    def _all(self) -> Iterator[SourceRow]:
        seen: set[bytes] = set()
        if self._nothing:
            return
        try:
            with self._open() as opened:
                for record in _csv(opened) if self._format == "csv" else _json_lines(opened):
                    if record.problem is not None or self._wanted(record.said):
                        yield self._row(record, seen)
        except OSError as error:
            raise SourceUnavailable(str(self._file), error.strerror or type(error).__name__) from None

    def _open(self) -> IO[str]:
        return self._file.open(encoding="utf-8-sig", errors="surrogateescape", newline="")

    def _wanted(self, said: Mapping[str, object]) -> bool:
        return all(str(said.get(self._columns.columns[field])) == word for field, word in self._filters.items())

    def _row(self, record: _Record, seen: set[bytes]) -> SourceRow:
        """Return a row; a key that was there before is not taken for the same row, whose owner it may not be."""
        line = str(record.line)
        if record.problem is not None:
            return broken(f"line {line}", line, record.problem)
        if self._columns.key is None:
            return source_row(self._columns, line, line, record.said, None)
        try:
            key = values.text(record.said.get(self._columns.key))
        except Unreadable:
            key = None
        if key is None:
            return broken(f"line {line}", line, "no_key")
        digest = blake2b(key.encode(), digest_size=16).digest()
        if digest in seen:
            return broken(f"line {line}", line, "duplicate_key")
        seen.add(digest)
        return source_row(self._columns, key, line, record.said, None)


class _lines:  # noqa: N801  # an iterator that remembers where it is
    """Lines of bounded length, with their ends, and the number of the last one."""

    def __init__(self, opened: IO[str]) -> None:
        self._opened = opened
        self.number = 0
        self.cut = False
        """A line was longer than is read."""

    def __iter__(self) -> _lines:
        return self

    def __next__(self) -> str:
        line = self._opened.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        rest = line
        while len(rest) >= LONGEST_LINE and not rest.endswith(("\n", "\r")):
            self.cut = True
            rest = self._opened.readline(LONGEST_LINE)
        return line if line.endswith(("\n", "\r")) else line + "\n"


def _csv(opened: IO[str]) -> Iterator[_Record]:
    lines = _lines(opened)
    reader = csv.reader(lines, strict=True)
    header = next(reader, [])
    while True:
        begins, lines.cut = lines.number + 1, False
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:  # a quote that is not closed, text behind a closed one, a field of over 128 KB
            yield _Record(begins, {}, "too_long" if lines.cut else "unreadable_row")
            continue
        if lines.cut or len(cells) != len(header):
            if cells:
                yield _Record(begins, {}, "too_long" if lines.cut else "unreadable_row")
            continue
        yield _Record(begins, dict(zip(header, cells, strict=True)))


def _json_lines(opened: IO[str]) -> Iterator[_Record]:
    lines = _lines(opened)
    for line in lines:
        if lines.cut:
            lines.cut = False
            yield _Record(lines.number, {}, "too_long")
        elif line.strip():
            yield _json_record(lines.number, line)


def _json_record(number: int, line: str) -> _Record:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    return _Record(number, said) if isinstance(said, dict) else _Record(number, {}, "unreadable_row")
