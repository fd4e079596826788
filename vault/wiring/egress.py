"""Where requests of this process may go."""

from __future__ import annotations

from vault.egress.rules import Egress
from vault.settings import Settings


def egress(settings: Settings) -> Egress:
    """Return what the settings say."""
    return Egress(settings.insecure_hosts, settings.private_networks, settings.ca_file)
