"""What operators see of the registry of providers; neither database nor queue is needed for it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from vault import settings as settings_module
from vault.errors import ConfigurationError
from vault.provider import Provider
from vault.settings import Settings
from vault.wiring.registry import asked_issuer, registry

NOWHERE = {"VAULT_DATABASE_URL": "postgresql:///", "VAULT_REDIS_URL": "redis://"}
"""What settings want and the registry does not."""


class ProviderRow(NamedTuple):
    """A provider of the registry, in short."""

    name: str
    strategy: str
    rotation: str
    client_id: str | None
    """Of the registration in the environment; one may stand in the store instead."""
    token_uri: str


class Registry:
    """The providers that come with Evergrant, and those of ``VAULT_PROVIDERS``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Read the ``VAULT_*`` environment, which need not name any server. Raises ``ConfigurationError``."""
        source = os.environ if environ is None else environ
        return cls(settings_module.load({**NOWHERE, **source}, **overrides))

    def list(self) -> list[ProviderRow]:
        """List every provider, by name. Raises ``ConfigurationError``: a file is wrong."""
        return [
            ProviderRow(each.name, each.strategy, each.rotation, _client_id(each), each.token_uri)
            for each in registry(self._settings).every()
        ]

    def show(self, name: str) -> dict[str, Any]:
        """Return the fields of a provider as a file would have them: all files taken together, no defaults.

        Raises ``UnknownProvider``, ``ConfigurationError``.
        """
        return registry(self._settings).fields(name)

    def check(self, files: Sequence[Path] = ()) -> tuple[str, ...]:
        """Return every problem of the files in ``VAULT_PROVIDERS`` and of further ones; none: they will do."""
        try:
            registry(self._settings, files)
        except ConfigurationError as error:
            return error.problems
        return ()

    def discover(self, issuer: str) -> dict[str, str]:
        """Ask an issuer for its addresses (RFC 8414), by the names of our fields. Raises ``ConnectRefused``."""
        return {"issuer": issuer, **asked_issuer(self._settings, issuer)}


def _client_id(provider: Provider) -> str | None:
    return provider.client.client_id if provider.client else None
