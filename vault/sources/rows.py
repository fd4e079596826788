"""Turning what a source says in a row into one of our shape."""

from __future__ import annotations

from collections.abc import Mapping

from vault.migration import values
from vault.migration.columns import SECRETS, ColumnMap
from vault.migration.values import Unreadable
from vault.ports import SourceRow
from vault.secret import Secret

LONGEST_KEY = 1_000
"""Bytes: the record of what was moved is indexed by it."""


def source_row(columns: ColumnMap, key: str, cursor: str, said: Mapping[str, object], read: object) -> SourceRow:
    """Return a row.

    Args:
        columns: Which column is what.
        key: Of the row.
        cursor: Where reading goes on after it.
        said: Value by column.
        read: What the source wants to know again when it clears the row.
    """
    fields, tokens = {}, {}
    try:
        if "\0" in key or len(key.encode()) > LONGEST_KEY:
            raise Unreadable("no_key")
        for field, column in columns.columns.items():
            if field in SECRETS:
                if (token := values.text(said.get(column))) is not None:
                    tokens[field] = Secret(token)
            else:
                fields[field] = said.get(column)
    except (Unreadable, UnicodeEncodeError) as error:
        return broken(key, cursor, error.reason if isinstance(error, Unreadable) else "no_key")
    return SourceRow(key, cursor, fields, tokens, read)


def broken(key: str, cursor: str, problem: str) -> SourceRow:
    """Return a row that cannot be used, under a name that can be printed."""
    return SourceRow(key.encode(errors="backslashreplace").decode().replace("\0", "\\0")[:200], cursor, problem=problem)
