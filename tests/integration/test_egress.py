"""Hostile addresses, through everything that sends: not a packet to an address that is not public.

Here they are tried against this machine's own addresses; in test_egress_rebinding.py against an Internet in which each
of them is somebody's.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator

import pycurl
import pytest

from tests.integration.egress_hostile import NAMED, Way, many, once, urls
from vault.egress.rules import Egress


class Trap:
    """Listens at one port of every address that this machine has, and tells who came."""

    def __init__(self) -> None:
        self._sockets = [socket.create_server(("", 0))]
        self.port: int = self._sockets[0].getsockname()[1]
        with contextlib.suppress(OSError):
            self._sockets.append(socket.create_server(("::", self.port), family=socket.AF_INET6))

    def visitors(self) -> int:
        """How many have connected since the last time."""
        count = 0
        while ready := select.select(self._sockets, [], [], 0)[0]:
            for each in ready:
                each.accept()[0].close()
                count += 1
        return count

    def close(self) -> None:
        for each in self._sockets:
            each.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    made = Trap()
    yield made
    made.close()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("way", [once, many])
def test_no_hostile_address_gets_a_packet(trap: Trap, way: Way) -> None:
    """Names of this machine are resolved here; what is no name of anybody's ends at the resolver."""
    hostile = urls(trap.port)
    assert len(hostile) >= 300
    failures = way(Egress(insecure_hosts=(NAMED,)), hostile)
    assert all(failures), [url for url, failure in zip(hostile, failures, strict=True) if not failure]
    assert trap.visitors() == 0


@pytest.mark.parametrize("way", [once, many])
def test_plain_http_to_a_host_that_is_let_through_is_what_reaches_the_trap(trap: Trap, way: Way) -> None:
    """The trap works, and so does each way to it."""
    way(Egress(insecure_hosts=("127.0.0.1",)), [f"http://127.0.0.1:{trap.port}/"])
    assert trap.visitors() == 1


@pytest.mark.parametrize("network", ["127.0.0.0/8", "127.0.0.1/32"])
def test_a_network_that_is_let_through_is_reached_by_tls_only(trap: Trap, network: str) -> None:
    egress = Egress(private_networks=(network,))
    once(egress, [f"https://127.0.0.1:{trap.port}/"])
    assert trap.visitors() == 1
    assert once(egress, [f"http://127.0.0.1:{trap.port}/"]) == ["refused_uri"]
    assert trap.visitors() == 0


def test_a_name_that_changes_its_mind_reaches_nothing(trap: Trap, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever resolvers said before: it is the address of the very connection that counts, of each that is tried."""
    answers = [
        f"rebound.example:{trap.port}:127.0.0.1",
        f"mixed.example:{trap.port}:[::1],127.0.0.1,10.0.0.1",
        f"late.example:{trap.port}:192.0.2.1,127.0.0.1",
    ]
    prepare = Egress.prepare

    def resolved(self: Egress, curl: pycurl.Curl, door: object) -> None:
        prepare(self, curl, door)  # type: ignore[arg-type]
        curl.setopt(pycurl.RESOLVE, answers)

    monkeypatch.setattr(Egress, "prepare", resolved)
    names = [f"https://{name}.example:{trap.port}/" for name in ("rebound", "mixed", "late")]
    for way in (once, many):
        assert way(Egress(), names) == ["refused_uri"] * 3
    assert trap.visitors() == 0
    once(Egress(private_networks=("127.0.0.0/8",)), names[:1])
    assert trap.visitors() == 1, "where the answer is let through, it is followed"
