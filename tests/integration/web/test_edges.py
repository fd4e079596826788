"""What is the same for every request: problems, ids, headers, sizes, types; and nothing secret in any of it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from starlette.applications import Starlette
from starlette.routing import Mount
from structlog.testing import LogCapture

import vault
from tests.integration.house import House
from tests.integration.waiting import until
from tests.integration.web.front import Client, Front, opened, problem, running
from vault import Vault
from vault.web import PROBLEMS, create_app, from_env, standing
from vault.web.asgi import MOST_BYTES

CANARY = "cnry-http-7f3a"
HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def told() -> Iterator[list[Any]]:
    """Log lines of the server, which runs in this process."""
    capture = LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    yield capture.entries
    structlog.reset_defaults()


def test_every_refusal_is_a_problem_whoever_refuses(front: Front) -> None:
    client, one = front.client(), f"/credentials/{uuid4()}/value"
    refused = problem(client.get("/nothing/at/all/here"), 404, "not_found")
    assert refused["detail"] == refused["title"]
    answer = client.request("PATCH", "/connections")
    problem(answer, 405, "method")
    assert answer.headers["allow"] == "GET"
    problem(client.get("/connections", params={"limit": 0}), 422, "invalid")
    problem(client.put(one, data="{", headers=JSON), 422, "invalid")
    problem(client.put(one, data="[" * 200_000, headers=JSON), 400, "malformed")
    problem(
        client.put(one, data="value=1", headers=FORM),
        415,
        "media_type",
    )
    problem(client.put(one, data="{}"), 415, "media_type")
    big = json.dumps({"value": "a" * MOST_BYTES})
    problem(client.put(one, data=big, headers=JSON), 413, "too_large")
    chunks = (b"a" * 65_536 for _ in range(20))
    problem(client.put(one, data=chunks, headers=JSON), 413, "too_large")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (f"/connections/{UUID(int=7)}", "DELETE, GET"),
        (f"/credentials/{UUID(int=7)}/value", "GET, PUT"),
        ("/acme/connection", "DELETE, GET"),
        ("/acme/callback", "GET, POST"),
        ("/acme/tickets", "POST"),
    ],
)
def test_all_that_can_be_done_at_an_address_is_told(front: Front, path: str, methods: str) -> None:
    answer = front.client().request("PATCH", path)
    problem(answer, 405, "method")
    assert answer.headers["allow"] == methods


def test_a_look_that_takes_long_is_not_taken_again_by_all_who_waited_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a database that is slow to fail would have every thread look at it, one after the other."""
    monkeypatch.setattr(standing, "LOOK_S", 0.2)
    looks = []

    class Slow:
        def health(self) -> str:
            time.sleep(0.3)
            looks.append(1)
            return "found"

    looking = standing.Looking(Slow())  # type: ignore[arg-type]
    with ThreadPoolExecutor(6) as threads:
        assert len(list(threads.map(lambda _: looking.health(), range(6)))) == 6
    assert len(looks) <= 2


def test_a_body_that_nothing_announces_is_bounded_as_any_other(front: Front) -> None:
    """HTTP/2 needs neither a length nor an encoding for one."""
    given = [{"type": "http.request", "body": b"a" * 65_536, "more_body": True} for _ in range(20)]
    sent: list[Any] = []

    async def receive() -> Any:
        return given.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    path = f"/api/v1/credentials/{uuid4()}/value"
    headers = [(b"content-type", b"application/json"), (b"authorization", f"Bearer {front.key()}".encode())]
    scope = {
        "type": "http",
        "http_version": "2",
        "method": "PUT",
        "path": path,
        "query_string": b"",
        "headers": headers,
    }
    asyncio.run(front.app(scope, receive, send))
    assert sent[0]["status"] == 413
    assert given, "the rest of it is not read"


def test_no_answer_says_again_what_was_sent(front: Front) -> None:
    client = front.client()
    asked = [
        client.get(f"/connections/{CANARY}/token"),
        client.get("/connections", params={"cursor": CANARY, "status": CANARY, "limit": CANARY}),
        client.put(f"/credentials/{uuid4()}/value", json={"value": [CANARY], CANARY: 1, "expires_at": CANARY}),
        client.put(f"/credentials/{uuid4()}/value", data=f'{{"value": "{CANARY}', headers=JSON),
        client.post("/acme/callback", json={"state": CANARY, "code": [CANARY], CANARY: CANARY}),
        client.post("/acme/callback", json={"state": CANARY, "code": CANARY}),
        front.browser().get("/acme/callback", params={"state": CANARY, "code": CANARY, "error": CANARY}),
        front.browser().get(f"/acme/tickets/{CANARY}"),
        client.get(f"/{CANARY}!/auth", params={"owner": "a"}),
        Client(front.api, CANARY).get("/connections"),
        Client(front.api, f"egk_{CANARY}".ljust(47, "A")).get("/connections"),
    ]
    for answer in asked:
        assert answer.status_code >= 400
        assert CANARY not in answer.text + str(answer.headers)


def test_an_id_of_a_request_is_taken_or_made_and_comes_back_and_is_logged(front: Front, told: list[Any]) -> None:
    client = front.client()
    answer = client.get("/connections/x", headers={"X-Request-ID": "web-1.a:B_2"})
    assert answer.headers["x-request-id"] == "web-1.a:B_2"
    until(lambda: [each for each in told if each["event"] == "http.request"])  # the answer leaves before the line
    [line] = [each for each in told if each["event"] == "http.request"]
    assert (line["request_id"], line["endpoint"], line["status"]) == (
        "web-1.a:B_2",
        "/connections/{connection_id}",
        422,
    )
    for given in ("", "a b", "x" * 65, "<script>", "-a"):
        made = client.get("/connections", headers={"X-Request-ID": given}).headers["x-request-id"]
        assert made != given
        assert len(made) == 32


def test_every_answer_carries_the_headers_that_keep_it_where_it_belongs(front: Front) -> None:
    made = front.connect()
    client = front.client()
    for path in (f"/connections/{made}/token", "/connections", "/nothing", "/openapi.json"):
        answer = client.get(path)
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert "server" not in answer.headers


def test_neither_logs_nor_metrics_nor_the_description_hold_a_secret(front: Front, told: list[Any]) -> None:
    """A whole life over HTTP, and then a search for everything that was secret in it."""
    made, client = front.connect(), front.client()
    kept = front.vault.store_api_key(CANARY, owner="olga", provider="acme")
    secrets = [CANARY, str(client.key), client.get(f"/connections/{made}/token").json()["access_token"]]
    assert client.get(f"/credentials/{kept}/value").json()["value"] == CANARY
    start = client.get("/acme/auth", params={"owner": "olga", "browser": "b"}).json()
    secrets.append(start["state"])
    problem(
        client.post("/acme/callback", json={"state": start["state"], "code": CANARY, "browser": "x"}),
        400,
        "connect_refused",
    )
    problem(
        client.put(f"/credentials/{kept}/value", json={"value": CANARY, "expected_version": 9}), 409, "version_conflict"
    )
    written = str(told) + Client(front.base, client.key).get("/metrics").text + client.get("/openapi.json").text
    assert [secret for secret in secrets if secret in written] == []


def test_what_breaks_inside_is_an_answer_and_a_line_without_what_was_sent(
    front: Front, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(Vault, "connections", broken)
    said = problem(front.client().get("/connections"), 500, "internal")
    assert CANARY not in str(said)
    [line] = [each for each in told if each["event"] == "http.failed"]
    assert line["error"] == "RuntimeError"
    assert CANARY not in str(told)


def test_the_database_being_away_is_told_as_such_and_where_it_is_is_not(house: House) -> None:
    with opened(house) as front:
        client = front.client()
        assert client.get("/connections").ok
        away = house.environment["VAULT_DATABASE_URL"].rpartition("/")[0] + "/nowhere_at_all"
        with running(from_env({**house.environment, "VAULT_DATABASE_URL": away})) as base:
            answer = Client(f"{base}/api/v1", client.key).get("/connections")
            said = problem(answer, 503, "store_unavailable")
            assert "nowhere" not in str(said)
            assert answer.headers["retry-after"] == "1"
            looked = Client(base).get("/health")
            assert (looked.status_code, looked.json()["parts"]["database"]) == (503, "trouble")
            assert "nowhere" not in looked.text


def test_health_needs_no_key_and_metrics_do(front: Front) -> None:
    outside = Client(front.base)
    said = outside.get("/health").json()
    assert said["parts"]["database"] == "ok"
    assert set(said["parts"].values()) <= {"ok", "trouble"}
    problem(outside.get("/metrics"), 401, "api_key")
    shown = Client(front.base, front.key("metrics:read")).get("/metrics")
    assert shown.headers["content-type"].startswith("text/plain")
    assert 'evergrant_http_requests_total{endpoint="/health",status="200"}' in shown.text


def test_it_stands_under_any_path_of_another_application(house: House) -> None:
    vault = house.another_vault()
    outer = Starlette(routes=[Mount("/a/vault", app=create_app(vault))])
    with running(outer) as base:
        front = Front(house, vault, f"{base}/a/vault")
        made = front.connect()
        client = front.client()
        assert client.get(f"/connections/{made}/token").ok
        path = client.post("/acme/tickets", json={"owner": "otto"}).json()["path"]
        assert path.startswith("/a/vault/api/v1/acme/tickets/")
        assert Client(base).get(path).status_code == 303
        posted = front.browser().post("/acme/callback", data={"state": "s", "code": "c"})
        assert posted.headers["location"] == "/a/vault/api/v1/acme/callback?state=s&code=c"
        problem(Client(base).get("/a/vault/nothing"), 404, "not_found")


def test_a_body_that_does_not_come_is_not_waited_for(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vault.web.asgi.BODY_TIME", timedelta(seconds=0.2))
    host, port = front.base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(b"POST /api/v1/acme/callback HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{")
        assert b" 408 " in line.recv(4096).splitlines()[0]


def test_every_error_of_ours_has_its_status() -> None:
    """One row for each; the documents list them, see ``tests/test_docs.py``."""
    errors = {each for each in vars(vault).values() if isinstance(each, type) and issubclass(each, vault.VaultError)}
    assert set(PROBLEMS) == errors
    assert all(400 <= kind.status < 600 for kind in PROBLEMS.values())


def test_the_door_does_not_bring_the_web() -> None:
    source = Path(__file__).resolve().parents[3]
    code = "import sys, vault, vault.cli; print([n for n in ('fastapi', 'starlette', 'uvicorn') if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
