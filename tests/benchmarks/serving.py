"""`http`: a token over HTTP, beside `vault.get()` and beside a framework that answers with a constant."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi import FastAPI
from starlette.responses import Response

from tests.benchmarks.measure import Call, Effort, Timing, interleaved, percentile
from tests.benchmarks.report import Figure, Section
from tests.benchmarks.stage import Stage, server
from tests.integration.waiting import until
from tests.support.stack import redis_server
from vault import Maintenance

CONNECTIONS = 1000
GET, HTTP, BARE = "vault.get()", "GET …/token over HTTP", "limit: FastAPI and a constant"
CLIENTS = 8
_CONSTANT = json.dumps({"access_token": "a" * 2048, "token_type": "Bearer", "expires_in": 3600})
CHECKOUT = Path(__file__).resolve().parents[2]


def bare() -> FastAPI:
    """The least that an endpoint of this sort costs: a thread, and an answer of the same size."""
    app = FastAPI()

    @app.get("/{connection_id}")
    def token(connection_id: UUID) -> Response:
        return Response(_CONSTANT, media_type="application/json")

    return app


def run(effort: Effort) -> list[Section]:
    """Measure."""
    with server() as (postgres, home), redis_server() as redis, ExitStack() as stack:
        stage = Stage(postgres, home, redis_url=redis.url)
        ids = stage.populate(effort.of(CONNECTIONS, least=100), access_bytes=2048)
        maintenance = Maintenance.from_env(stage.environment)
        key = maintenance.api_keys.create("bench", ["tokens:read"]).secret.reveal()
        maintenance.close()
        free = {**stage.environment, "VAULT_HTTP_RATE_TOKENS": "1000000"}
        ours = stack.enter_context(_served(["vault.cli", "serve"], free))
        limit = stack.enter_context(
            _served(["uvicorn", "--factory", "tests.benchmarks.serving:bare", "--no-access-log"])
        )
        vault = stage.vault()
        stack.callback(vault.close)
        paths = {HTTP: (ours, "/api/v1/connections/{}/token"), BARE: (limit, "/{}")}
        calls: dict[str, Call] = {name: _asking(port, path, ids, key) for name, (port, path) in paths.items()}
        turn = cycle(ids).__next__
        calls[GET] = lambda: vault.get(turn()).access_token.reveal()
        for _ in ids:
            calls[HTTP]()
            calls[GET]()
        timings = interleaved(calls, calls=50, rounds=effort.of(60, least=5))
        many = {name: _together(port, path, ids, key, effort) for name, (port, path) in paths.items()}
    return [Section("http", "Reading a token of 2 KB over HTTP, one process of uvicorn", _figures(timings, many))]


def _figures(timings: Mapping[str, Timing], many: Mapping[str, tuple[float, float]]) -> list[Figure]:
    http, limit, get = timings[HTTP], timings[BARE], timings[GET]
    return [
        Figure(GET, get.median, "µs"),
        Figure("… 99th percentile", get.p99, "µs"),
        Figure(BARE, limit.median, "µs", limit.beside(get), "vault.get()"),
        Figure(HTTP, http.median, "µs", http.beside(limit), "the limit"),
        Figure("… beside vault.get()", http.median, "µs", http.beside(get), "vault.get()"),
        Figure("… 99th percentile", http.p99, "µs", http.p99 / limit.p99, "the limit's own"),
        Figure(f"… {CLIENTS} at a time", many[HTTP][0], "/s", many[HTTP][0] / many[BARE][0], "the limit's"),
        Figure("… their 99th percentile", many[HTTP][1], "µs", many[HTTP][1] / many[BARE][1], "the limit's own"),
    ]


@contextmanager
def _served(module: list[str], environment: Mapping[str, str] | None = None) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", *module, "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: _listens(port))
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _asking(port: int, path: str, ids: list[UUID], key: str) -> Call:
    """Return a call that asks for the next token, on one connection that is kept."""
    connection, turn = HTTPConnection("127.0.0.1", port, timeout=30), cycle(ids).__next__
    headers = {"Authorization": f"Bearer {key}"}

    def ask() -> Any:
        connection.request("GET", path.format(turn()), headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return body

    return ask


def _together(port: int, path: str, ids: list[UUID], key: str, effort: Effort) -> tuple[float, float]:
    """Several clients at a time; returns answers a second, and the 99th percentile in microseconds."""
    each, took = effort.of(600, least=20), list[float]()

    def client() -> None:
        ask = _asking(port, path, ids, key)
        mine = []
        for _ in range(each):
            began = time.perf_counter()
            ask()
            mine.append((time.perf_counter() - began) * 1e6)
        took.extend(mine)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(took) / (time.perf_counter() - began), percentile(took, 0.99)
