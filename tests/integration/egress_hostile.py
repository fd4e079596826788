"""Hostile addresses, and the two ways in which everything that leaves is sent to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import product
from typing import Final

from vault.egress.once import Http, Sent
from vault.egress.rules import Egress
from vault.oauth.transport import CurlTransport
from vault.outcome import TokenRequest

SECOND: Final = timedelta(seconds=1)
NAMED: Final = "a.example"
"""The host that the operator lets through. No hostile address is its."""
LOOPBACK: Final = (
    "127.0.0.1", "127.1", "127.0.1", "127.000.000.001", "0177.0.0.1", "0177.1", "0x7f.0.0.1", "0x7f.1", "0x7f000001",
    "2130706433", "017700000001", "127.0.0.1.", "127.127.127.127", "127.255.255.254", "0", "0x0", "00",
    "0.0.0.0",  # data
    "localhost", "LOCALHOST", "localhost.", "LocalHost", "ip6-localhost", "localhost.localdomain",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
    "１２７.0.0.1", "①②⑦.⓪.⓪.①", "127。0。0。1", "127%2e0%2e0%2e1", "%31%32%37.0.0.1", "loca%6Chost", "ⓛocalhost",
)  # fmt: skip
INSIDE: Final = (
    "10.0.0.1", "10.1", "167772161", "0xa000001", "012.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.0.1",
    "192.168.1", "3232235521",
    "0xc0a80001", "169.254.169.254", "169.254.43518", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376",
    "169.254.170.2", "100.64.0.1", "198.18.0.1", "192.0.2.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
    "255.255.255.255", "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]",
    "[::ffff:10.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[2002:a00:1::]", "[2001:0:7f00:1::f5ff:fffe]",
    "[100::1]", "[::ffff:192.168.0.1]", "[64:ff9b:1::a00:1]",
    "192.0.0.192", "3221225664", "0xc00000c0", "[::ffff:c000:c0]", "[64:ff9b::c000:c0]", "168.63.129.16", "168.4161808",
    "[2002:a83f:8110::]", "100.100.100.200", "0x64646464", "172.2886729729", "169.16689662", "[3fff::1]",
)  # fmt: skip
WRAPPED: Final = (
    "https://{host}:{port}/", "https://user:word@{host}:{port}/", "https://a.example@{host}:{port}/",
    "https://{host}:{port}/..;/@a.example", "https://a.example%40b@{host}:{port}?//a.example#@a.example",
    "http://{host}:{port}/",
)  # fmt: skip
"""By TLS, as anything may be sent: there it is the address alone that is wrong. And without."""
CUNNING: Final = (
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


def urls(port: int) -> list[str]:
    """Every hostile address, at this port."""
    everywhere = [each.format(host=host, port=port) for host, each in product(LOOPBACK + INSIDE, WRAPPED)]
    tricks = [each.format(port=port) for each in CUNNING]
    by_tls = [each.replace("http:", "https:") for each in tricks]
    return list(dict.fromkeys(everywhere + tricks + by_tls))


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
WAYS: Final[dict[str, Way]] = {"once": once, "many": many}
