"""The registry: providers read from data files, ours first, then the user's, who may override any field."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vault.errors import ConfigurationError, UnknownProvider
from vault.provider import Client, ClientAuth, Provider, Rotation

BUILT_IN = Path(__file__).with_name("providers.toml")
LONGEST_S = 100 * 366 * 24 * 3600


class _Row(BaseModel):
    """One table of a provider file; durations in seconds, as their names say."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, defer_build=True)

    authorize_uri: str
    token_uri: str
    issuer: str | None = None
    revoke_uri: str | None = None
    refresh_uri: str | None = None
    introspect_uri: str | None = None
    rotation: Rotation = Rotation.STRICT
    replay_window_s: float = Field(default=0, ge=0, le=LONGEST_S)
    client_auth: ClientAuth = ClientAuth.BASIC
    scopes: tuple[str, ...] = ()
    scope_separator: str = Field(default=" ", min_length=1)
    scope_on_refresh: bool = False
    authorize_parameters: Mapping[str, str] = Field(default_factory=dict)
    default_life_s: float = Field(default=3600, gt=0, le=LONGEST_S)
    earliest_refresh_s: float = Field(default=0, ge=0, le=LONGEST_S)
    grant_life_s: float | None = Field(default=None, gt=0, le=LONGEST_S)
    account_member: str | None = None
    kept_members: tuple[str, ...] = ()
    dead_grant_codes: tuple[str, ...] = ("invalid_grant",)
    max_in_flight: int = Field(default=512, ge=1)
    rate_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    def provider(self, name: str, client: Client | None, certificate: UUID | None) -> Provider:
        """Turn the row into a provider; this is where seconds become durations."""
        values = self.model_dump()
        for field in ("replay_window", "default_life", "earliest_refresh", "grant_life"):
            seconds = values.pop(f"{field}_s")
            values[field] = None if seconds is None else timedelta(seconds=seconds)
        return Provider(name=name, client=client, certificate=certificate, **values)


class FileProviders:
    """Providers from TOML files, with the registrations that the environment names."""

    def __init__(
        self, files: Sequence[Path], clients: Mapping[str, Client], certificates: Mapping[str, UUID] | None = None
    ) -> None:
        certificates = certificates or {}
        rows: dict[str, dict[str, Any]] = {}
        origins: dict[str, dict[str, Path]] = {}
        problems: list[str] = []
        for file in (BUILT_IN, *files):
            for name, fields in _tables(file, problems).items():
                rows.setdefault(name, {}).update(fields)
                origins.setdefault(name, {}).update(dict.fromkeys(["", *fields], file))
        self._providers = {}
        for name, fields in rows.items():
            if (row := _row(name, fields, origins[name], problems)) is not None:
                self._providers[name] = row.provider(name, clients.get(name), certificates.get(name))
        problems.extend(
            f"VAULT_CLIENT_{name.upper()}_ID names no known provider" for name in clients if name not in rows
        )
        problems.extend(
            f"VAULT_CLIENT_{name.upper()}_CERTIFICATE names no known provider"
            for name in certificates
            if name not in rows
        )
        if problems:
            raise ConfigurationError(problems)

    def get(self, name: str) -> Provider:
        """See ``Providers.get``."""
        try:
            return self._providers[name]
        except KeyError:
            raise UnknownProvider(name, tuple(self._providers)) from None

    @property
    def certificates(self) -> frozenset[UUID]:
        """Credentials whose certificates requests are made with."""
        return frozenset(each.certificate for each in self._providers.values() if each.certificate is not None)

    def every(self) -> Sequence[Provider]:
        """Return every provider, by name, with a registration of ours or without."""
        return [provider for _, provider in sorted(self._providers.items())]


def _tables(file: Path, problems: list[str]) -> dict[str, dict[str, Any]]:
    try:
        tables = tomllib.loads(file.read_text())
    except OSError as error:
        problems.append(f"provider file {file}: cannot be read ({error.strerror})")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"provider file {file}: is not TOML ({error})")
        return {}
    wrong = [name for name, fields in tables.items() if not isinstance(fields, dict)]
    problems.extend(f"provider file {file}: {name} is not a table" for name in wrong)
    return {name: fields for name, fields in tables.items() if name not in wrong}


def _row(name: str, fields: Mapping[str, Any], origins: Mapping[str, Path], problems: list[str]) -> _Row | None:
    try:
        return _Row.model_validate(fields)
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_url=False):
            where = ".".join(str(part) for part in detail["loc"])
            file = origins.get(str(detail["loc"][0]), origins[""])
            problems.append(f"provider file {file}: {name}: {where}: {detail['msg']}")
        return None
