"""The registry of providers by itself, for those who only want to look at it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vault.errors import ConnectRefused
from vault.oauth.discovery import Undiscovered, addresses, discover
from vault.oauth.providers import FileProviders
from vault.settings import Settings
from vault.wiring.egress import to_issuers


def registry(settings: Settings, files: Sequence[Path] = ()) -> FileProviders:
    """Return what is known with the files of the settings and further ones. Raises ``ConfigurationError``."""
    every = [*(Path(file) for file in settings.providers), *files]
    return FileProviders(every, settings.clients, settings.certificates)


def asked_issuer(settings: Settings, issuer: str) -> dict[str, str]:
    """Return the addresses an issuer tells, by the names of our fields. Raises ``ConnectRefused``."""
    try:
        return addresses(discover(to_issuers(settings), issuer))
    except Undiscovered as error:
        raise ConnectRefused("provider_unreachable", f"{issuer[:200]} does not tell its addresses: {error}") from None
