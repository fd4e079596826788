"""Which addresses are anybody's, and which are of this machine, this network or nobody."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))
"""IPv6 addresses that end in an IPv4 address which is reached through them (RFC 6052; RFC 4291, deprecated)."""
_NOBODYS: Final = (
    IPv4Network("192.0.0.0/24"),  # for protocols (RFC 6890), also a cloud's metadata; Pythons differ about it
    IPv4Network("192.88.99.0/24"),  # the nearest 6to4 relay, whoever's that is (RFC 7526)
    IPv4Network("168.63.129.16/32"),  # public by the registry; in Azure it is the machine's own host
    IPv6Network("64:ff9b:1::/48"),  # translated to whatever the network's operator likes (RFC 8215)
    IPv6Network("3fff::/20"),  # for documentation (RFC 9637)
    IPv6Network("fec0::/10"),  # site-local (RFC 3879)
)
"""Not public, though not every Python's ``is_global`` says so."""

Address = IPv4Address | IPv6Address


def read(address: str) -> Address:
    """Read an address as the socket layer writes it. Raises ``ValueError``."""
    return ip_address(address.partition("%")[0])


def is_public(address: Address) -> bool:
    """Whether packets to an address go to the public Internet, by the registries of IANA for special purposes.

    An address that holds another one (mapped, translated, tunnelled) is as public as that.
    """
    within = _within(address)
    if within is not None:
        return is_public(within)
    if any(address.version == each.version and address in each for each in _NOBODYS):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _within(address: Address) -> Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _TRANSLATED) and address not in (IPv6Address("::"), IPv6Address("::1")):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
