"""Which column of the other system is which of our fields, and what stands for fields that have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vault.errors import ConfigurationError

SECRETS = ("refresh_token", "access_token")
FIELDS = ("key", "tenant", "owner", "provider", "account", *SECRETS, "expires_at", "scopes", "connected_at", "labels")
SETTABLE = ("tenant", "owner", "provider", "account", "scopes")
"""Fields that one word may stand for in every row."""


class ColumnMap(NamedTuple):
    """A map that can work; make it with ``column_map``."""

    columns: Mapping[str, str]
    """Column by field."""
    constants: Mapping[str, str]
    """What stands for a field in every row."""

    @property
    def key(self) -> str | None:
        """The column that tells rows apart; None: the source knows one by itself."""
        return self.columns.get("key")

    @property
    def secrets(self) -> Mapping[str, str]:
        """The columns that hold tokens, by field."""
        return {name: self.columns[name] for name in SECRETS if name in self.columns}


def column_map(columns: Mapping[str, str], constants: Mapping[str, str]) -> ColumnMap:
    """Make a map.

    Args:
        columns: Column by field.
        constants: A word by field that has no column; tenant and provider mostly.

    Raises:
        ConfigurationError: With every problem at once.
    """
    problems = list(_problems(columns, constants))
    if problems:
        raise ConfigurationError(problems)
    return ColumnMap(dict(columns), dict(constants))


def _problems(columns: Mapping[str, str], constants: Mapping[str, str]) -> Sequence[str]:
    known = ", ".join(FIELDS)
    found = [f"map: there is no field {name[:64]!r}; known: {known}" for name in columns if name not in FIELDS]
    found += [f"map: {name} names no column" for name, column in columns.items() if not column.strip()]
    for name, word in constants.items():
        if name not in SETTABLE:
            found.append(f"set: {name[:64]!r} cannot be one word for every row; {', '.join(SETTABLE)} can")
        elif not word.strip() or "\0" in word:
            found.append(f"set: {name} has no value")
        if name in columns:
            found.append(f"{name} is given twice, by map and by set")
    if not any(name in columns for name in SECRETS):
        found.append("map: name the column of refresh_token, of access_token, or of both")
    found += [f"{name} is missing: map it to a column, or set it" for name in ("owner", "provider")
              if name not in columns and name not in constants]  # fmt: skip
    tokens = [columns[name] for name in SECRETS if name in columns]
    others = [name for name, column in columns.items() if name not in SECRETS and column in tokens]
    if len(set(tokens)) < len(tokens):
        found.append("map: refresh_token and access_token are the same column")
    # What is shown and stored in the clear must not be a token by a slip of the pen.
    found += [f"map: {name} is the column of a token" for name in others]
    return found
