"""Who brings no key that is known here is counted by address: each such request costs a look into the database."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from vault import Serving
from vault.web.problems import Problem

WHAT = "strangers"
NETWORK = 64
"""Bits of an IPv6 address that are somebody's; the rest is theirs to choose anew for each request."""


async def count(serving: Serving, request: Request) -> None:
    """Hold a stranger to a rate. Raises ``Problem``."""
    whose = network_of(request.client.host if request.client else "")
    if not serving.take_at_hand(whose, WHAT):
        wait = await run_in_threadpool(serving.take, whose, WHAT)
        if wait is not None:
            raise Problem("rate", reason=WHAT, retry_after=wait)


def network_of(host: str) -> str:
    """Name who asks, by what they cannot change at will."""
    try:
        address = ip_address(host)
    except ValueError:  # a socket's path, or nothing
        return host[:64]
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address.packed, NETWORK), strict=False))
