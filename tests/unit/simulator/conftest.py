"""A running simulator, and a client that hides nothing."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest

from tests.simulator import Oracle, Simulator


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    text: str

    def json(self) -> dict[str, Any]:
        members: dict[str, Any] = json.loads(self.text)
        return members


class Rig:
    """The simulator, its oracle, and requests to one provider called `acme`."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.oracle: Oracle = simulator.oracle()

    def configure(self, **members: Any) -> None:
        self.simulator.configure("acme", **members)

    def grant(self, account: str = "alice") -> str:
        """Start a grant and return its refresh token."""
        [answer] = self.simulator.grant("acme", account)
        refresh_token: str = answer["refresh_token"]
        return refresh_token

    def post(
        self, endpoint: str, form: dict[str, str], headers: dict[str, str] | None = None, timeout: float = 10
    ) -> Answer:
        parts = urlsplit(self.simulator.base_uri)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        try:
            form_type = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", f"/acme/{endpoint}", urlencode(form), form_type | (headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read().decode())
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        parts = urlsplit(self.simulator.base_uri)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read().decode())
        finally:
            connection.close()

    def client(self) -> dict[str, str]:
        config = self.simulator.application.providers["acme"].config
        return {"client_id": config.client_id, "client_secret": config.client_secret}

    def refresh(self, refresh_token: str, timeout: float = 10, **form: str) -> Answer:
        """Present a refresh token as a proper client does."""
        members = {"grant_type": "refresh_token", "refresh_token": refresh_token} | self.client() | form
        return self.post("token", members, timeout=timeout)

    def rotate(self, refresh_token: str) -> str:
        """Present a refresh token that must be accepted; returns its successor."""
        answer = self.refresh(refresh_token)
        assert answer.status == 200, answer.text
        successor: str = answer.json()["refresh_token"]
        return successor

    def refused(self, refresh_token: str) -> bool:
        """Present a refresh token; true for a proper `invalid_grant`."""
        answer = self.refresh(refresh_token)
        return answer.status == 400 and answer.json()["error"] == "invalid_grant"

    def bearer(self, access_token: str, endpoint: str = "api") -> Answer:
        return self.get(f"/acme/{endpoint}", {"Authorization": f"Bearer {access_token}"})

    def connect(self) -> socket.socket:
        """A bare connection."""
        parts = urlsplit(self.simulator.base_uri)
        return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10)

    def refresh_request(self, refresh_token: str) -> bytes:
        """A token request as bytes."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token} | self.client()
        body = urlencode(form)
        return f"POST /acme/token HTTP/1.1\r\nHost: acme\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.fixture(params=["memory", "file"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A running simulator whose journal is in memory, then one whose journal is a file."""
    log = tmp_path / "simulator.jsonl" if request.param == "file" else None
    with Simulator({"acme": {}}, log) as simulator:
        yield Rig(simulator)
