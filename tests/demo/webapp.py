"""A program: the web app that asks for tokens all the while, counts what it gets, and uses some of them.

Its report is a JSON file, replaced several times a second; the last one, after SIGTERM, carries the percentiles.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import threading
import time
from array import array
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import requests

from vault import Token, Vault

PAUSE = 0.004
"""Seconds between two requests of a visitor."""
USERS = 3
"""Further visitors, who show each token to the provider's API and wait for its answer."""
REPORT_EVERY = 0.25


class Entry(NamedTuple):
    """One line of what `owners` wrote."""

    id: str
    tenant: str
    owner: str


def read_entries(path: Path) -> list[Entry]:
    """Every whole line of the file; none when it is not there yet."""
    if not path.exists():
        return []
    whole = path.read_text().rpartition("\n")[0]
    return [Entry(**json.loads(line)) for line in whole.splitlines()]


def percentile_ms(latencies: list[float], share: float) -> float | None:
    """The latency that so great a share of the calls stayed within, in milliseconds."""
    if not latencies:
        return None
    return round(latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1e3, 3)


class WebApp:
    """Several visitors, each in a thread, who ask for one token after the other."""

    def __init__(self, vault: Vault, connections: Path, api: str, min_ttl: timedelta) -> None:
        self._vault, self._connections, self._api, self._min_ttl = vault, connections, api, min_ttl
        self._vaults: dict[str, Vault] = {}
        self._entries: list[Entry] = []
        self._lock = threading.Lock()
        self.ended = threading.Event()
        self._latencies = array("d")
        self._errors: Counter[str] = Counter()
        self._served = self._accepted = self._too_late = 0
        self._refused: list[str] = []

    def look_for_connections(self) -> None:
        """Notice who has connected meanwhile."""
        entries = read_entries(self._connections)
        for entry in entries[len(self._entries) :]:
            if entry.tenant not in self._vaults:
                self._vaults[entry.tenant] = self._vault.for_tenant(entry.tenant)
        self._entries = entries

    def visit(self, seed: int, http: requests.Session | None) -> None:
        """Ask for tokens of random connections until the end, and use them if there is something to use them with."""
        dice = random.Random(seed)
        while not self.ended.wait(PAUSE):
            if self._entries:
                self._ask(dice.choice(self._entries), http)

    def report(self, *, final: bool) -> dict[str, object]:
        """What was counted so far; percentiles only at the end."""
        with self._lock:
            counted = {
                "served": self._served,
                "errors": dict(self._errors),
                "api_accepted": self._accepted,
                "api_too_late": self._too_late,
                "api_refused": list(self._refused),
                "final": final,
            }
            latencies = sorted(self._latencies) if final else []
        shares = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
        return {**counted, **{name: percentile_ms(latencies, share) for name, share in shares.items()}}

    def _ask(self, entry: Entry, http: requests.Session | None) -> None:
        began = time.perf_counter()
        try:
            token = self._vaults[entry.tenant].get(entry.id, min_ttl=self._min_ttl)
        except Exception as error:  # noqa: BLE001  # whatever a visitor would have seen is counted
            self._note(time.perf_counter() - began, type(error).__name__)
            return
        self._note(time.perf_counter() - began, None)
        if http is not None:
            self._use(entry, http, token)

    def _note(self, took: float, error: str | None) -> None:
        with self._lock:
            self._latencies.append(took)
            if error is None:
                self._served += 1
            else:
                self._errors[error] += 1

    def _use(self, entry: Entry, http: requests.Session, token: Token) -> None:
        """Show the token to the provider's API, which must know it as this owner's unless it ended on the way."""
        try:
            answer = http.get(self._api, headers=token.headers(), timeout=10)
            came = (answer.status_code, answer.text)
        except requests.RequestException as error:
            came = (0, type(error).__name__)
        too_late = datetime.now(UTC) >= token.expires_at  # the provider, the database and we share one clock here
        with self._lock:
            if came == (200, json.dumps({"account": entry.owner})):
                self._accepted += 1
            elif too_late:
                self._too_late += 1
            else:
                self._refused.append(f"{entry.owner}: {came}")


def main() -> None:
    """Serve visitors until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo.webapp", description=__doc__)
    parser.add_argument("--connections", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--api", required=True, help="URI of the provider's resource")
    parser.add_argument("--min-ttl", type=float, required=True, help="seconds of life that a token must have left")
    parser.add_argument("--visitors", type=int, default=2)
    given = parser.parse_args()
    app = WebApp(Vault.from_env(), given.connections, given.api, timedelta(seconds=given.min_ttl))
    signal.signal(signal.SIGTERM, lambda *_: app.ended.set())
    sessions = [None] * given.visitors + [requests.Session() for _ in range(USERS)]
    visitors = [threading.Thread(target=app.visit, args=each) for each in enumerate(sessions)]
    for visitor in visitors:
        visitor.start()
    while not app.ended.wait(REPORT_EVERY):
        app.look_for_connections()
        write(given.report, app.report(final=False))
    for visitor in visitors:
        visitor.join()
    write(given.report, app.report(final=True))


def write(path: Path, report: dict[str, object]) -> None:
    """Replace the report in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(report))
    fresh.replace(path)


if __name__ == "__main__":
    main()
