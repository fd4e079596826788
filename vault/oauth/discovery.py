"""A provider's addresses, asked of its issuer (RFC 8414; OpenID Connect Discovery 1.0)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from vault.egress.once import Http, Sent

FIELDS: Final[Mapping[str, str]] = {
    "authorize_uri": "authorization_endpoint",
    "token_uri": "token_endpoint",
    "revoke_uri": "revocation_endpoint",
    "introspect_uri": "introspection_endpoint",
}
"""Our fields, and what the document calls them."""
KEPT_FOR: Final = timedelta(days=1)
TRY_AGAIN: Final = timedelta(seconds=30)
LONGEST_REST: Final = timedelta(minutes=5)
"""Between two questions to an issuer that does not answer; each rest is twice as long as the one before."""
_SUFFIXES: Final = ("openid-configuration", "oauth-authorization-server")


class Undiscovered(Exception):
    """An issuer does not tell its addresses; the message says why."""


def discover(http: Http, issuer: str) -> dict[str, Any]:
    """Ask an issuer about itself, once in each of the two places.

    Returns:
        Its document; ``issuer`` in it is the one that was asked (RFC 8414, section 3.3).

    Raises:
        Undiscovered: There is none, or it is somebody else's.
    """
    trouble = "no document"
    for uri in _places(issuer):
        heard = http.send(Sent("GET", uri, ("Accept: application/json", "User-Agent: evergrant"), None))
        if heard.status == 0:  # nor will it in the other place, and others wait for us
            raise Undiscovered(heard.failure)
        if heard.status != 200:
            trouble = heard.failure or f"http_{heard.status}"
            continue
        try:
            found = json.loads(heard.body)
        except (ValueError, RecursionError):
            trouble = "unreadable"
            continue
        if not isinstance(found, dict) or found.get("issuer") != issuer:
            raise Undiscovered("the document is of another issuer")
        return found
    raise Undiscovered(trouble)


def _places(issuer: str) -> list[str]:
    """OpenID Connect appends its path; RFC 8414 puts it before the issuer's own."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    openid = f"{path}/.well-known/{_SUFFIXES[0]}"
    server = f"/.well-known/{_SUFFIXES[1]}{path}"
    return [urlunsplit((parts.scheme, parts.netloc, each, "", "")) for each in (openid, server)]


def addresses(document: Mapping[str, Any]) -> dict[str, str]:
    """Return what a document says of our fields; every address must be one."""
    found = {ours: document.get(theirs) for ours, theirs in FIELDS.items()}
    return {name: uri for name, uri in found.items() if isinstance(uri, str) and uri.isprintable() and "{" not in uri}


class Discovery:
    """What issuers said, for a day; while one does not answer, what it said before. Of one thread at a time."""

    def __init__(self, http: Http, monotonic: Callable[[], float]) -> None:
        self._http, self._monotonic = http, monotonic
        self._known: dict[str, dict[str, str]] = {}
        self._ask_at: dict[str, float] = {}
        self._rests: dict[str, timedelta] = {}

    def known(self, issuer: str) -> Mapping[str, str]:
        """Return an issuer's addresses as they are known, without asking."""
        return self._known.get(issuer, {})

    def look(self, issuer: str) -> str:
        """Ask when it is time; returns what is wrong, or nothing."""
        now = self._monotonic()
        if now < self._ask_at.get(issuer, now):
            return ""
        try:
            self._known[issuer] = addresses(discover(self._http, issuer))
        except Undiscovered as error:
            rest = self._rests[issuer] = min(LONGEST_REST, self._rests.get(issuer, TRY_AGAIN / 2) * 2)
            self._ask_at[issuer] = self._monotonic() + rest.total_seconds()
            return str(error)
        self._rests.pop(issuer, None)
        self._ask_at[issuer] = now + KEPT_FOR.total_seconds()
        return ""
