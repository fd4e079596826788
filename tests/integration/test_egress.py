"""Hostile addresses, through everything that sends: not a packet to an address that is not public."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import product

import pycurl
import pytest

from vault.egress.once import Http, Sent
from vault.egress.rules import Egress
from vault.oauth.transport import CurlTransport
from vault.outcome import TokenRequest

SECOND = timedelta(seconds=1)
LOOPBACK = (
    "127.0.0.1", "127.1", "127.0.1", "127.000.000.001", "0177.0.0.1", "0177.1", "0x7f.0.0.1", "0x7f.1", "0x7f000001",
    "2130706433", "017700000001", "127.0.0.1.", "127.127.127.127", "127.255.255.254", "0", "0x0", "00",
    "0.0.0.0",  # data
    "localhost", "LOCALHOST", "localhost.", "LocalHost", "ip6-localhost", "localhost.localdomain",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
    "１２７.0.0.1", "①②⑦.⓪.⓪.①", "127。0。0。1", "127%2e0%2e0%2e1", "%31%32%37.0.0.1", "loca%6Chost", "ⓛocalhost",
)  # fmt: skip
INSIDE = (
    "10.0.0.1", "10.1", "167772161", "0xa000001", "012.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.0.1",
    "192.168.1", "3232235521",
    "0xc0a80001", "169.254.169.254", "169.254.43518", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376",
    "169.254.170.2", "100.64.0.1", "198.18.0.1", "192.0.2.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
    "255.255.255.255", "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]",
    "[::ffff:10.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[2002:a00:1::]", "[2001:0:7f00:1::f5ff:fffe]",
    "[100::1]", "[::ffff:192.168.0.1]", "[64:ff9b:1::a00:1]",
)  # fmt: skip
WRAPPED = (
    "http://{host}:{port}/", "https://{host}:{port}/", "http://user:word@{host}:{port}/", "http://a.example@{host}:{port}/",
)  # fmt: skip
CUNNING = (
    "http://a.example:80@127.0.0.1:{port}/", "http://127.0.0.1:{port}#@a.example/", "http://127.0.0.1:{port}?@a.example/",
    "http://a.example#@127.0.0.1:{port}/", "http://127.0.0.1:{port}\\@a.example/", "http://a.example\\@127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/", "http:/127.0.0.1:{port}/", "http:127.0.0.1:{port}/", "//127.0.0.1:{port}/",
    "http:\\\\127.0.0.1:{port}\\", "HTTP://127.0.0.1:{port}/", "http://127.0.0.1:{port}/%2e%2e", " http://127.0.0.1:{port}/",
    "http://127.0.0.1\t:{port}/", "http://127.0.0.1 :{port}/", "http://[::1%25lo]:{port}/", "http://[::1]:{port}@a.example/",
    "file:///etc/hostname", "gopher://127.0.0.1:{port}/_x", "dict://127.0.0.1:{port}/x", "ftp://127.0.0.1:{port}/x",
    "ldap://127.0.0.1:{port}/x", "telnet://127.0.0.1:{port}/", "smtp://127.0.0.1:{port}/", "tftp://127.0.0.1:{port}/x",
    "imap://127.0.0.1:{port}/", "rtsp://127.0.0.1:{port}/", "scp://127.0.0.1:{port}/x", "ws://127.0.0.1:{port}/",
    "jar:http://127.0.0.1:{port}!/", "netdoc:///etc/hostname", "http://[", "http://]", "http://", "", "http://:{port}/",
)  # fmt: skip


def _urls(port: int) -> list[str]:
    everywhere = [each.format(host=host, port=port) for host, each in product(LOOPBACK + INSIDE, WRAPPED)]
    return everywhere + [each.format(port=port) for each in CUNNING]


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


def once(egress: Egress, urls: Sequence[str]) -> list[str]:
    """As code exchanges and registrars send."""
    sender = Http(egress, SECOND / 2)
    return [sender.send(Sent("POST", url, (), b"x")).failure for url in urls]


def many(egress: Egress, urls: Sequence[str]) -> list[str]:
    """As refreshes, revocations and events are sent: many at a time, over handles that are used again."""
    transport = CurlTransport(egress, time.monotonic)
    found: dict[object, str] = {}
    for url in urls:
        transport.start(TokenRequest(url, url, (), b"x", SECOND / 2, SECOND / 2))
    while transport.in_flight:
        for end in transport.poll(SECOND):
            found[end.tag] = end.failure
    transport.close()
    return [found[url] for url in urls]


Way = Callable[[Egress, Sequence[str]], list[str]]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("way", [once, many])
def test_no_hostile_address_gets_a_packet(trap: Trap, way: Way) -> None:
    """Names of this machine are resolved here; what is no name of anybody's ends at the resolver."""
    urls = list(dict.fromkeys(_urls(trap.port)))
    assert len(urls) >= 300
    named = Egress(insecure_hosts=("a.example",))  # so that plain HTTP as such is no reason
    failures = way(named, urls)
    assert all(failures), [url for url, failure in zip(urls, failures, strict=True) if not failure]
    assert trap.visitors() == 0
    print(f"{len(urls)} addresses, none reached")


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
    urls = [f"https://{name}.example:{trap.port}/" for name in ("rebound", "mixed", "late")]
    for way in (once, many):
        assert way(Egress(), urls) == ["refused_uri"] * 3
    assert trap.visitors() == 0
    once(Egress(private_networks=("127.0.0.0/8",)), urls[:1])
    assert trap.visitors() == 1, "where the answer is let through, it is followed"
