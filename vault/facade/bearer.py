"""A token in a request of ``requests``."""

from __future__ import annotations

import requests

from vault.model import Token


class Bearer(requests.auth.AuthBase):
    """Puts a token into a request; said as authentication, so that no ``.netrc`` of the environment takes its place."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put it in."""
        request.headers.update(self._token.headers())
        return request
