"""Looks for canary secrets in every place a secret must not be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import redis
import requests

from tests.demo.flower import USER, Flower

CANARY = b"cnry-"
"""Every token, code and client secret of the simulator begins with this."""
PAGES = ("/api/tasks?limit=20000", "/api/workers?refresh=1", "/tasks", "/workers", "/metrics")


class Monitor:
    """Writes down everything that is said to Redis; keeps on through its outages."""

    def __init__(self, url: str, path: Path) -> None:
        self._url, self._path = url, path
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="redis-monitor", daemon=True)
        self.commands = 0
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._ended.set()
        self._thread.join(5)

    def _listen(self) -> None:
        with self._path.open("ab") as file:
            while not self._ended.is_set():
                try:
                    for command in self._commands():
                        file.write(command + b"\n")
                        self.commands += 1
                        if self._ended.is_set():
                            break
                except (redis.RedisError, OSError):
                    self._ended.wait(0.1)

    def _commands(self) -> Iterator[bytes]:
        with redis.Redis.from_url(self._url, socket_timeout=1.0) as client, client.monitor() as monitor:
            while True:
                yield str(monitor.next_command()).encode()


def save_pages(access: Flower, into: Path) -> int:
    """Write down what Flower shows and its API tells, as far as it answers; returns how many bytes that is."""
    into.mkdir()
    total = 0
    for number, page in enumerate(PAGES):
        try:
            answer = requests.get(f"{access.base}{page}", auth=(USER, access.password), timeout=30)
        except requests.RequestException:
            continue
        if answer.ok:
            total += (into / f"{number}.txt").write_bytes(answer.content)
    return total


def search(places: list[Path], except_for: set[Path]) -> list[str]:
    """Return the files under these places that hold a canary, with the text around the first one's beginning."""
    leaks = []
    for place in places:
        for file in place.rglob("*") if place.is_dir() else [place]:
            if file.is_file() and file not in except_for:
                content = file.read_bytes()
                if (at := content.find(CANARY)) >= 0:
                    leaks.append(f"{file}: …{content[max(0, at - 40) : at + 12]!r}…")
    return leaks
