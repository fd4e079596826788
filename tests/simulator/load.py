"""How fast the simulator answers: `python -m tests.simulator.load`.

Refreshes as fast as one core allows over a few hundred kept-alive raw sockets, each connection rotating its own
refresh token, against a simulator in a process of its own with its journal on. The client must not be what is
measured, so it does next to nothing: it finds the new token by its prefix.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.simulator.server import SimulatorProcess

_NEEDLE = b'"refresh_token":"'


class _Client:
    """One connection that refreshes its own grant for ever."""

    def __init__(self, base_uri: str, refresh_token: str, secret: str) -> None:
        parts = urlsplit(base_uri)
        self.socket = socket.create_connection((parts.hostname or "", parts.port or 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = f"grant_type=refresh_token&client_id=evergrant&client_secret={secret}&refresh_token="
        self._size = len(refresh_token)
        self._start = (
            f"POST /simple/token HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: application/json\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body) + self._size}\r\n\r\n{body}"
        ).encode()
        self.refresh_token = refresh_token.encode()

    def send(self) -> None:
        self.socket.send(self._start + self.refresh_token)

    def receive(self) -> None:
        data = self.socket.recv(65536)
        at = data.index(_NEEDLE) + len(_NEEDLE)
        self.refresh_token = data[at : at + self._size]


def measure(connections: int, seconds: float, log: Path) -> dict[str, float]:
    """Run the load and report requests per second and the server's CPU seconds per request."""
    with SimulatorProcess(log) as simulator:
        secret = simulator.configure("simple")["client_secret"]
        selector = selectors.DefaultSelector()
        for answer in simulator.grant_many("simple", connections):
            client = _Client(simulator.base_uri, answer["refresh_token"], secret)
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.send()
        ticks = _cpu_seconds(simulator.process.pid)
        done, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            for key, _ in selector.select():
                key.data.receive()
                key.data.send()
                done += 1
        cpu = _cpu_seconds(simulator.process.pid) - ticks
    return {
        "connections": connections,
        "requests": done,
        "per_second": round(done / elapsed),
        "server_cpu_share": round(cpu / elapsed, 2),
        "server_cpu_us_per_request": round(cpu / done * 1e6, 1),
    }


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process, from Linux's /proc; 0 elsewhere."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.load", description="How fast the simulator is.")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(measure(arguments.connections, arguments.seconds, Path(directory) / "log.jsonl")))


if __name__ == "__main__":
    main()
