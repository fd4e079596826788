"""Which addresses are public, by the special-purpose registries of IANA, however they are wrapped."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as some

from vault.egress.addresses import is_public, read
from vault.egress.rules import Egress

PUBLIC = ("1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "192.167.255.255", "100.63.0.1",
          "100.128.0.1", "169.253.0.1", "192.0.1.1", "191.255.255.255", "168.63.129.15", "168.63.129.17",
          "192.88.98.255", "192.88.100.1", "3ffe:ffff::1", "2606:4700::1111", "2a00:1450:4001::1",
          "64:ff9b::808:808", "::ffff:8.8.8.8", "2002:808:808::1")  # fmt: skip
NOT_PUBLIC = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1",  # data
    "127.255.255.254", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1",
    "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "100::1", "2001:db8::1",
    "2002:7f00:1::1", "2002:a00:1::1", "2002:c0a8:1::1", "2001:0:7f00:1::f5ff:fffe", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "192.0.0.8", "192.0.0.9", "192.0.0.170", "192.0.0.192",
    "192.0.0.255", "192.88.99.1", "168.63.129.16", "::ffff:192.0.0.192", "64:ff9b::c000:c0", "2002:a83f:8110::1",
    "3fff::1", "3fff:fff:ffff::1", "5f00::1", "100:0:0:1::1", "2001:2::1",
)  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(read(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_not_public(address: str) -> None:
    assert not is_public(read(address))


@given(some.ip_addresses(v=4))
def test_an_address_within_another_is_as_public_as_it_is(inner: IPv4Address) -> None:
    mapped = IPv6Address(f"::ffff:{inner}")
    translated = IPv6Address(int(IPv6Address("64:ff9b::")) + int(inner))
    tunnelled = IPv6Address(int(IPv6Address("2002::")) + (int(inner) << 80))
    assert {is_public(each) for each in (mapped, translated, tunnelled)} == {is_public(inner)}


def test_networks_that_are_named_may_be_reached_and_no_others() -> None:
    egress = Egress(private_networks=("10.1.0.0/16", "fd00::/8"))
    for address, may in (("10.1.2.3", True), ("10.2.0.1", False), ("fd00::1", True), ("fc00::1", False),
                         ("127.0.0.1", False), ("8.8.8.8", True), ("::ffff:10.1.2.3", False)):  # fmt: skip
        assert egress.may_reach("host.example", address) is may, address


def test_a_host_that_the_operator_named_is_where_they_say() -> None:
    egress = Egress(insecure_hosts=("keycloak.internal",))
    assert egress.may_reach("keycloak.internal", "10.0.0.1")
    assert not egress.may_reach("other.internal", "10.0.0.1")
    assert not egress.may_reach("", "not an address")
