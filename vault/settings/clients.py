"""Our registrations at providers, as the environment names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from uuid import UUID

from vault.provider import Client
from vault.secret import Secret

PREFIX = "VAULT_"
_CLIENT = re.compile(rf"{PREFIX}CLIENT_(?P<provider>[A-Z0-9_]+)_(?P<part>ID|SECRET|SECRET_FORMER|CERTIFICATE)")


def read_clients(values: Mapping[str, str], problems: list[str]) -> tuple[dict[str, Client], dict[str, UUID]]:
    """Return registrations, and credentials whose certificates are shown, by provider.

    Args:
        values: Our part of the environment.
        problems: Where what is wrong is told.
    """
    parts: dict[str, dict[str, str]] = {}
    for name, value in values.items():
        if match := _CLIENT.fullmatch(name):
            parts.setdefault(match["provider"].lower(), {})[match["part"]] = value
    clients: dict[str, Client] = {}
    certificates: dict[str, UUID] = {}
    for provider, given in parts.items():
        if certificate := given.pop("CERTIFICATE", ""):
            try:
                certificates[provider] = UUID(certificate)
            except ValueError:
                problems.append(f"{PREFIX}CLIENT_{provider.upper()}_CERTIFICATE: must be the id of a credential")
        if not given:
            continue
        if not given.get("ID"):
            problems.append(f"{PREFIX}CLIENT_{provider.upper()}_ID: is required beside its SECRET")
            continue
        secret, former = (Secret(given[part]) if given.get(part) else None for part in ("SECRET", "SECRET_FORMER"))
        if former and not secret:
            problems.append(f"{PREFIX}CLIENT_{provider.upper()}_SECRET: is required beside SECRET_FORMER")
        clients[provider] = Client(given["ID"], secret, former)
    return clients, certificates
