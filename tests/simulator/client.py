"""Plays the browser: follows an authorization URL by hand, as the person who always agrees."""

from __future__ import annotations

import http.client
from urllib.parse import parse_qsl, urlsplit


class ConsentFailed(Exception):
    """The provider showed an error page instead of sending the browser back."""


def follow(authorization_uri: str, timeout: float = 10.0) -> str:
    """Open an authorization URL and return the callback URI the browser is sent to, without opening that.

    Raises:
        ConsentFailed: no redirect came.
    """
    parts = urlsplit(authorization_uri)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        response = connection.getresponse()
        page = response.read()
        location = response.getheader("Location")
    finally:
        connection.close()
    if response.status not in (302, 303) or location is None:
        raise ConsentFailed(f"{response.status}: {page[:200].decode(errors='replace')}")
    return location


def consent(authorization_uri: str, timeout: float = 10.0) -> dict[str, str]:
    """Like `follow`, but return the callback's parameters: `code`, `state`, `iss`, or `error`."""
    return dict(parse_qsl(urlsplit(follow(authorization_uri, timeout)).query))
