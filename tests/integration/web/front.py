"""The HTTP face as others meet it: a real server on a free port, keys for several tenants, and a client for each."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import requests
import uvicorn

from tests.integration.house import House
from tests.integration.waiting import until
from tests.simulator.client import consent
from vault import SCOPES, Vault
from vault.web import create_app

ALL = tuple(scope for scope in SCOPES if scope != "admin")
TIMEOUT_S = 20.0


class Client(requests.Session):
    """A program with a key, at the root of the API; follows no redirect."""

    def __init__(self, base: str, key: str | None = None) -> None:
        super().__init__()
        self.base, self.key = base, key
        self.trust_env = False
        if key is not None:
            self.headers["Authorization"] = f"Bearer {key}"

    def request(self, method: str | bytes, url: str | bytes, *arguments: Any, **words: Any) -> requests.Response:
        where = self.base + str(url)
        return super().request(method, where, *arguments, **{"timeout": TIMEOUT_S, **words, "allow_redirects": False})


@contextmanager
def running(app: Any) -> Iterator[str]:
    """Serve an application from a thread; yields its address."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", access_log=False, server_header=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


class Front:
    """A house with an HTTP face."""

    def __init__(self, house: House, vault: Vault, base: str, app: Any = None) -> None:
        self.house, self.vault, self.base, self.app = house, vault, base, app
        self.api = f"{base}/api/v1"

    def key(self, *scopes: str, tenant: str = "default", **words: Any) -> str:
        return self.house.worker.api_keys.create("test", scopes or ALL, tenant=tenant, **words).secret.reveal()

    def client(self, *scopes: str, tenant: str = "default") -> Client:
        return Client(self.api, self.key(*scopes, tenant=tenant))

    def browser(self) -> Client:
        return Client(self.api)

    def connect(self, owner: str = "olga", tenant: str = "default", **words: Any) -> UUID:
        """Send an owner of any tenant through the whole flow."""
        vault = self.vault.for_tenant(tenant)
        start = vault.begin("acme", owner=owner, browser="theirs", **words)
        answer = consent(start.url)
        made = vault.complete(state=answer["state"], browser="theirs", code=answer["code"], issuer=answer.get("iss"))
        return made.id


@contextmanager
def opened(house: House, **overrides: Any) -> Iterator[Front]:
    """Serve a house."""
    vault = house.another_vault(**overrides)
    app = create_app(vault)
    with running(app) as base:
        yield Front(house, vault, base, app)


def problem(answer: requests.Response, status: int, word: str) -> Mapping[str, Any]:
    """Check that an answer is a problem of that sort, and return it."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    said: dict[str, Any] = answer.json()
    assert (answer.status_code, said["status"], said["type"]) == (status, status, f"urn:evergrant:problem:{word}"), said
    assert said["request_id"] == answer.headers["x-request-id"]
    assert set(said) <= {"type", "title", "status", "detail", "reason", "retry_after", "request_id", "errors"}
    return said


def ids(page: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[UUID]:
    return [UUID(each["id"]) for each in page["items"]]
