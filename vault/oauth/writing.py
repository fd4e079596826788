"""Puts the parameters of a token request where, and under the names by which, a provider wants to read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlencode

from vault.dialect import Body, RequestStyle

COMMON: Final = ("Accept: application/json", "User-Agent: evergrant")
_TYPES: Final = {Body.FORM: "application/x-www-form-urlencoded", Body.JSON: "application/json"}


class Written(NamedTuple):
    """A request, without its authentication by header."""

    method: str
    uri: str
    headers: tuple[str, ...]
    body: bytes

    def __repr__(self) -> str:
        """Show what has no secret in it."""
        return f"<{self.method} {self.uri.partition('?')[0]}>"


def written(style: RequestStyle, uri: str, parameters: Mapping[str, str]) -> Written:
    """Write a request.

    Args:
        style: The provider's.
        uri: Where it goes.
        parameters: Under their standard names.
    """
    said = dict(parameters)
    if style.grant_type and "grant_type" in said:
        said["grant_type"] = style.grant_type
    named = {style.names.get(name, name): value for name, value in said.items()}
    named.pop("", None)
    named |= style.parameters
    headers = (*COMMON, *(f"{name}: {value}" for name, value in style.headers.items()))
    if style.body is Body.QUERY or style.method == "GET":
        joint = "&" if "?" in uri else "?"
        return Written(style.method, f"{uri}{joint}{urlencode(named)}", headers, b"")
    text = json.dumps(named) if style.body is Body.JSON else urlencode(named)
    return Written(style.method, uri, (f"Content-Type: {_TYPES[style.body]}", *headers), text.encode())
