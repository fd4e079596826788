"""Where requests may go: the address is checked when the socket is opened to it, so no name can change its mind.

libcurl asks for each socket with the very address that it will connect to. Whatever a resolver said before, and however
strangely a URL spells a host, it is that address which is looked at.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pycurl

from vault.egress.addresses import is_public, read

_FAMILIES: Final = frozenset({socket.AF_INET, socket.AF_INET6})


class Egress:
    """Where requests of this process may go, and whom they trust there."""

    def __init__(
        self,
        insecure_hosts: Iterable[str] = (),
        private_networks: Iterable[str] = (),
        authorities: Path | None = None,
    ) -> None:
        self.insecure_hosts = frozenset(insecure_hosts)
        """Hosts that the operator named: without TLS, and wherever they are."""
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(map(ip_network, private_networks))
        self.authorities = authorities

    def allows_plain(self, uri: str) -> bool:
        """Whether an address may be spoken to without TLS."""
        return _host(uri) in self.insecure_hosts

    def may_reach(self, host: str, address: str) -> bool:
        """Whether a request for a host may go to this address."""
        if host in self.insecure_hosts:
            return True
        try:
            found = read(address)
        except ValueError:
            return False
        return is_public(found) or any(found.version == each.version and found in each for each in self._networks)

    def prepare(self, curl: pycurl.Curl, door: Door) -> None:
        """Set what holds for every request of a handle: no proxy, no redirect, no address that is not let through."""
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.FOLLOWLOCATION, 0)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, door.open)
        if self.authorities is not None:
            curl.setopt(pycurl.CAINFO, str(self.authorities))


class Door:
    """Opens the sockets of one handle, for the host of its request, to addresses that are let through."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._host = ""
        self.refused = False
        """Whether an address was not let through since the request began."""

    def aim(self, uri: str) -> None:
        """Begin with another request."""
        self._host, self.refused = _host(uri), False

    def open(self, _: int, address: Any) -> socket.socket | int:
        """Open a socket, as libcurl's ``CURLOPT_OPENSOCKETFUNCTION`` wants it."""
        family, kind, protocol, where = address
        if family not in _FAMILIES or not self._egress.may_reach(self._host, where[0]):
            self.refused = True
            refused: int = pycurl.SOCKET_BAD
            return refused
        return socket.socket(family, kind, protocol)


def _host(uri: str) -> str:
    try:
        return urlsplit(uri).hostname or ""
    except ValueError:
        return ""
