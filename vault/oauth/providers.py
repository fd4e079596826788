"""The registry: providers read from data files, ours first, then the user's, which may override any field."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import ValidationError

from vault.errors import ConfigurationError, UnknownProvider
from vault.oauth.rows import TABLES, Row
from vault.provider import Client, Provider

BUILT_IN = Path(__file__).with_name("providers.toml")
LIKE = "like"
"""Names a provider whose fields are this one's too, where it says nothing else."""


class _Table(NamedTuple):
    """A provider as files have it, and which file has what."""

    fields: dict[str, Any]
    origins: dict[str, Path]


class FileProviders:
    """Providers from TOML files, with the registrations that the environment names."""

    def __init__(
        self, files: Sequence[Path], clients: Mapping[str, Client], certificates: Mapping[str, UUID] | None = None
    ) -> None:
        certificates = certificates or {}
        tables: dict[str, _Table] = {}
        problems: list[str] = []
        for file in (BUILT_IN, *files):
            for name, fields in _tables(file, problems).items():
                _merge(tables.setdefault(name, _Table({}, {})), fields, file)
        self._tables = tables
        self._providers: dict[str, Provider] = {}
        for name in tables:
            if (row := _row(name, tables, problems)) is not None:
                self._providers[name] = row.provider(name, clients.get(name), certificates.get(name))
        problems.extend(
            f"VAULT_CLIENT_{name.upper()}_ID names no known provider" for name in clients if name not in tables
        )
        problems.extend(
            f"VAULT_CLIENT_{name.upper()}_CERTIFICATE names no known provider"
            for name in certificates
            if name not in tables
        )
        if problems:
            raise ConfigurationError(problems)

    def get(self, name: str) -> Provider:
        """See ``Providers.get``."""
        try:
            return self._providers[name]
        except KeyError:
            raise UnknownProvider(name, tuple(self._providers)) from None

    def fields(self, name: str) -> dict[str, Any]:
        """Return what files say of a provider, taken together. Raises ``UnknownProvider``."""
        self.get(name)
        found = _inherited(name, self._tables, [], ())
        assert found is not None  # or there would be no such provider
        return found.fields

    @property
    def certificates(self) -> frozenset[UUID]:
        """Credentials whose certificates requests are made with."""
        return frozenset(each.certificate for each in self._providers.values() if each.certificate is not None)

    def every(self) -> Sequence[Provider]:
        """Return every provider, by name, with a registration of ours or without."""
        return [provider for _, provider in sorted(self._providers.items())]


@lru_cache(maxsize=4)
def _parsed(text: str) -> dict[str, Any]:
    """Read TOML; what comes is shared, and nobody's to change."""
    return tomllib.loads(text)


def _tables(file: Path, problems: list[str]) -> dict[str, dict[str, Any]]:
    try:
        tables = _parsed(file.read_text())
    except OSError as error:
        problems.append(f"provider file {file}: cannot be read ({error.strerror})")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"provider file {file}: is not TOML ({error})")
        return {}
    wrong = [name for name, fields in tables.items() if not isinstance(fields, dict)]
    problems.extend(f"provider file {file}: {name} is not a table" for name in wrong)
    return {name: fields for name, fields in tables.items() if name not in wrong}


def _merge(table: _Table, fields: Mapping[str, Any], file: Path) -> None:
    """Put what a file says over what earlier ones said: field by field, in groups as well."""
    table.origins[""] = file
    for name, value in fields.items():
        known = table.fields.get(name)
        if name in TABLES and isinstance(value, dict):
            before = known if isinstance(known, dict) else {}
            if name in ("variables", "grants"):
                value = {key: _over(before.get(key), each) for key, each in value.items()}
            table.fields[name] = {**before, **value}
            table.origins.update({f"{name}.{each}": file for each in value})
        else:
            table.fields[name] = value
        table.origins[name] = file


def _over(known: object, value: object) -> object:
    return {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value


def _row(name: str, tables: Mapping[str, _Table], problems: list[str]) -> Row | None:
    found = _inherited(name, tables, problems, ())
    if found is None or (LIKE in tables[name].fields and _row(tables[name].fields[LIKE], tables, []) is None):
        return None  # what is wrong with the other is told where it stands
    fields, origins = found
    if isinstance(fields.get("request"), dict) and isinstance(fields.get("refresh"), dict):
        fields["refresh"] = {**fields["request"], **fields["refresh"]}
    try:
        return Row.model_validate(fields)
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_url=False):
            path = [str(part) for part in detail["loc"]]
            file = origins.get(".".join(path[:2]), origins.get(path[0] if path else "", origins[""]))
            where = ": ".join([name, ".".join(path)] if path else [name])
            problems.append(f"provider file {file}: {where}: {detail['msg'].removeprefix('Value error, ')}")
        return None


def _inherited(name: str, tables: Mapping[str, _Table], problems: list[str], below: tuple[str, ...]) -> _Table | None:
    """Return a provider's fields over those of the one it is like."""
    own = tables[name]
    like = own.fields.get(LIKE)
    if like is None:
        return _Table(dict(own.fields), dict(own.origins))
    if not isinstance(like, str) or like not in tables or like in (name, *below):
        trouble = "is like itself" if like in (name, *below) else "is like a provider that is not known"
        problems.append(f"provider file {own.origins[LIKE]}: {name}: {LIKE}: {trouble}")
        return None
    found = _inherited(like, tables, problems, (name, *below))
    if found is None:
        return None
    for key, value in own.fields.items():
        if key != LIKE:
            _merge(found, {key: value}, own.origins[key])
    found.origins[""] = own.origins[""]
    return found
