"""A migration as a value: where the rows lie, which column is what; from a command's words or from a file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from vault.errors import ConfigurationError
from vault.migration.columns import ColumnMap, column_map
from vault.secret import Secret

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
_NOT_CLEARED = "a file is not cleared: check that all was moved, then delete it and its copies yourself"
MEMBERS = ("url_file", "url_env", "file", "format", "table", "map", "set", "clear", "as")


class Migration(NamedTuple):
    """Rows of one table or file that are to become connections; made with ``planned``."""

    columns: ColumnMap
    url: Secret | None = None
    """Of a database; it may hold a password."""
    table: str | None = None
    """``table`` or ``schema.table`` in it."""
    file: Path | None = None
    """Or else a file."""
    format: str | None = None
    """``csv`` or ``jsonl``."""
    called: str | None = None
    """What this source is called in the record of what was moved; None: where it lies."""
    clear: bool = False
    """Empty the secret columns of rows that were moved and verified."""

    def clearing(self) -> Self:
        """Return the same, with the source being cleared. Raises ``ConfigurationError`` for a file."""
        if self.file is not None:
            raise ConfigurationError([_NOT_CLEARED])
        return self._replace(clear=True)

    @classmethod
    def planned(
        cls,
        *,
        columns: Mapping[str, str],
        constants: Mapping[str, str],
        url: Secret | None = None,
        table: str | None = None,
        file: Path | None = None,
        format: str | None = None,  # noqa: A002  # what everybody calls it
        called: str | None = None,
        clear: bool = False,
    ) -> Self:
        """Make a migration.

        Args:
            columns: Column by field: ``key``, ``tenant``, ``owner``, ``provider``, ``account``, ``refresh_token``,
                ``access_token``, ``expires_at``, ``scopes``, ``connected_at``, ``labels``.
            constants: A word by field, for what has no column.
            url: Of a database, with the ``table``; or else a ``file``.
            table: ``table`` or ``schema.table``.
            file: CSV with a header, or JSON lines.
            format: ``csv`` or ``jsonl``, where the file's name does not say.
            called: What the source is called in the record of what was moved; default: where it lies.
            clear: Empty the secret columns of rows that were moved and verified; not for files.

        Raises:
            ConfigurationError: With every problem at once.
        """
        problems: list[str] = []
        if (url is None) == (file is None):
            problems.append("name one source: a database's URL, or a file")
        if url is not None and not table:
            problems.append("a database needs the name of a table")
        if file is not None:
            if table:
                problems.append("a file has no table")
            if clear:
                problems.append(_NOT_CLEARED)
            format = format or FORMATS.get(file.suffix.lower())  # noqa: A001  # as above
            if format not in FORMATS.values():
                problems.append(f"the format of {file.name} is not known from its name: say csv or jsonl")
        if called is not None and ("\0" in called or not 0 < len(called.encode()) <= 200):
            problems.append("the name of a source has 1 to 200 bytes")
        try:
            found = column_map(columns, constants)
        except ConfigurationError as error:
            raise ConfigurationError([*problems, *error.problems]) from None
        if problems:
            raise ConfigurationError(problems)
        return cls(found, url, table, file, format, called, clear)


def configured(files: Sequence[Path], name: str, environ: Mapping[str, str]) -> Migration:
    """Return the migration of a name from files of VAULT_MIGRATIONS.

    Args:
        files: TOML, with a table for each migration.
        name: Of the table.
        environ: Where ``url_env`` is looked up.

    Raises:
        ConfigurationError: With every problem at once.
    """
    problems: list[str] = []
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for file in files:
        found.update({each: (file, row) for each, row in _tables(file, problems).items()})
    if problems:
        raise ConfigurationError(problems)
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ConfigurationError([f"no migration {name[:64]!r} in the files of VAULT_MIGRATIONS; known: {known}"])
    file, row = found[name]
    try:
        return _migration(row, file, environ)
    except ConfigurationError as error:
        raise ConfigurationError([f"{file}: {name}: {problem}" for problem in error.problems]) from None


def _migration(row: Mapping[str, Any], file: Path, environ: Mapping[str, str]) -> Migration:
    problems = [f"there is no {member[:64]!r}; known: {', '.join(MEMBERS)}" for member in row if member not in MEMBERS]
    tables = {member: row.get(member, {}) for member in ("map", "set")}
    texts = {member: row.get(member) for member in ("url_file", "url_env", "file", "format", "table", "as")}
    problems += [f"{m} is not a table of words" for m, value in tables.items() if not _is_words(value)]
    problems += [f"{m} is not text" for m, value in texts.items() if value is not None and not isinstance(value, str)]
    if not isinstance(row.get("clear", False), bool):
        problems.append("clear is true or false")
    if problems:
        raise ConfigurationError(problems)
    source = texts["file"]
    return Migration.planned(
        columns=tables["map"],
        constants=tables["set"],
        url=_url(texts["url_file"], texts["url_env"], file.parent, environ),
        table=texts["table"],
        file=None if source is None else file.parent / source,
        format=texts["format"],
        called=texts["as"],
        clear=row.get("clear", False),
    )


def _is_words(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(word, str) for word in value.values())


def _url(file: str | None, variable: str | None, beside: Path, environ: Mapping[str, str]) -> Secret | None:
    if file is not None and variable is not None:
        raise ConfigurationError(["url_file and url_env: one of them is enough"])
    if variable is not None:
        if not environ.get(variable):
            raise ConfigurationError([f"url_env: {variable} is not set"])
        return Secret(environ[variable])
    return None if file is None else url_in(beside / file)


def url_in(file: Path) -> Secret:
    """Read a source's URL from a file. Raises ``ConfigurationError``."""
    try:
        return Secret(file.read_text().strip())
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError([f"the file of the source's URL, {file}, cannot be read ({cause})"]) from None


def _tables(file: Path, problems: list[str]) -> dict[str, dict[str, Any]]:
    try:
        tables = tomllib.loads(file.read_text())
    except OSError as error:
        problems.append(f"VAULT_MIGRATIONS: {file} cannot be read ({error.strerror})")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"VAULT_MIGRATIONS: {file} is not TOML ({error})")
        return {}
    wrong = [name for name, row in tables.items() if not isinstance(row, dict)]
    problems.extend(f"VAULT_MIGRATIONS: {file}: {name} is not a table" for name in wrong)
    return {name: row for name, row in tables.items() if name not in wrong}
