"""Where requests of this process may go."""

from __future__ import annotations

from datetime import timedelta

from vault.egress.once import Http
from vault.egress.rules import Egress
from vault.oauth.discovery import Discovery
from vault.oauth.transport import MAX_BODY
from vault.settings import Settings
from vault.wiring.clock import monotonic


def egress(settings: Settings) -> Egress:
    """Return what the settings say."""
    return Egress(settings.insecure_hosts, settings.private_networks, settings.ca_file)


def to_issuers(settings: Settings) -> Http:
    """Return what issuers are asked about themselves by: as bounded as token requests are."""
    return Http(egress(settings), timedelta(seconds=settings.request_deadline_s), MAX_BODY)


def discovery(settings: Settings) -> Discovery:
    """Return how issuers are asked about themselves."""
    return Discovery(to_issuers(settings), monotonic)
