"""panva's oidc-provider as a process, what may be asked of it, and the browser of somebody who always agrees."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests

from tests.peers.installing import HERE, installed, node

CALLBACK = "http://127.0.0.1:9/callback"
TIMEOUT_S = 10.0
HOPS = 20
LIFE_S = 6
"""Of the access tokens of ``evergrant``: due for a refresh after half of it, so that nobody has to wait long."""


class OidcPeer:
    """A running server with two clients: ``evergrant``, who connects accounts, and ``app``, whose tokens last."""

    clients = ("evergrant", "app")

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [node(), _script(installed())], env={**os.environ, "PEER": json.dumps({"clients": _CLIENTS})},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.issuer: str = json.loads(self._process.stdout.readline())["issuer"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What it says of itself (OpenID Connect Discovery, RFC 8414)."""
        found: dict[str, Any] = requests.get(
            f"{self.issuer}/.well-known/openid-configuration", timeout=TIMEOUT_S
        ).json()
        return found

    def post(self, endpoint: str, client: str = "evergrant", **form: str) -> requests.Response:
        """Send a form to one of its endpoints, as one of the clients."""
        who = (client, secret_of(client))
        return requests.post(self.metadata[f"{endpoint}_endpoint"], data=form, auth=who, timeout=TIMEOUT_S)

    def issue(self, scope: str = "read") -> str:
        """A token of the client ``app``, which is no connection of ours."""
        found: str = self.post("token", "app", grant_type="client_credentials", scope=scope).json()["access_token"]
        return found

    def revoke(self, token: str, client: str = "app") -> None:
        """Have a token revoked."""
        self.post("revocation", client, token=token).raise_for_status()

    def is_active(self, token: str) -> bool:
        """Whether it says that a token is good."""
        return bool(self.post("introspection", token=token).json()["active"])

    def consent(self, url: str, login: str) -> dict[str, str]:
        """Follow an authorization URL as a browser does: sign in, agree, and come back with these parameters."""
        with requests.Session() as browser:
            at = url
            for _ in range(HOPS):
                page = browser.get(at, allow_redirects=False, timeout=TIMEOUT_S)
                if page.status_code == 200:
                    page = self._submit(browser, at, page.text, login)
                at = urljoin(at, page.headers["location"])
                if at.startswith(CALLBACK):
                    return dict(parse_qsl(urlsplit(at).query))
        raise AssertionError(f"no end of pages after {at}")

    @staticmethod
    def _submit(browser: requests.Session, at: str, page: str, login: str) -> requests.Response:
        action, prompt = re.search(r'<form[^>]*action="([^"]+)"', page), re.search(r'name="prompt" value="(\w+)"', page)
        assert action is not None, page[:500]
        assert prompt is not None, page[:500]
        form = {"prompt": prompt[1]} | ({"login": login, "password": "x"} if prompt[1] == "login" else {})
        where = urljoin(at, html.unescape(action[1]))
        return browser.post(where, data=form, allow_redirects=False, timeout=TIMEOUT_S)


def _script(place: Path) -> Path:
    """Our program, beside what it imports, once for each state of it; whoever else does the same does no harm."""
    program = (HERE / "server.mjs").read_bytes()
    script = place / f"server-{sha256(program).hexdigest()[:16]}.mjs"
    if not script.exists():
        begun = place / f"{script.name}.{os.getpid()}"
        begun.write_bytes(program)
        begun.replace(script)
    return script


def secret_of(client: str) -> str:
    """The secret of one of the clients."""
    return f"cnry-cs-{client}-of-no-value-to-anybody-anywhere"


_CLIENTS = [
    {
        "client_id": "evergrant", "client_secret": secret_of("evergrant"), "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "life_s": LIFE_S,
    },
    {
        "client_id": "app", "client_secret": secret_of("app"), "redirect_uris": [],
        "grant_types": ["client_credentials"], "response_types": [], "life_s": 3600,
    },
]  # fmt: skip
