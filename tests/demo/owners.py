"""A program: owners connect their accounts, each with the authorization code flow and PKCE over real HTTP.

Writes one line a connection, as soon as it is there: `id`, `tenant`, `owner`.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

from tests.demo.stack import PROVIDER
from tests.simulator.client import consent
from vault import Vault

MOST_OWNERS = 9999
BROWSERS = 8
"""Owners who are in the middle of connecting at a time."""


def tenant_of(number: int, tenants: int) -> str:
    """Owners are dealt out to tenants in turn; the first tenant is the default one."""
    return "default" if number % tenants == 0 else f"tenant-{number % tenants}"


def owner_name(number: int) -> str:
    """The name of an owner, and of their account at the provider."""
    return f"owner-{number:04}"


def owner_count(text: str) -> int:
    """Read how many owners there are to be, from a command line."""
    number = int(text)
    if not 1 <= number <= MOST_OWNERS:
        raise argparse.ArgumentTypeError(f"between 1 and {MOST_OWNERS}")
    return number


def connect(vault: Vault, owner: str, out: TextIO) -> None:
    """Play web app and browser in turn: send the owner away, have them agree, take the code they bring back."""
    session = f"browser-of-{owner}"
    start = vault.begin(PROVIDER, owner=owner, browser=session)
    back = consent(f"{start.url}&login_hint={owner}")
    connection = vault.complete(state=back["state"], code=back["code"], issuer=back.get("iss"), browser=session)
    out.write(json.dumps({"id": str(connection.id), "tenant": vault.tenant, "owner": owner}) + "\n")


def main() -> None:
    """Connect everybody."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo.owners", description=__doc__)
    parser.add_argument("--owners", type=owner_count, required=True)
    parser.add_argument("--tenants", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    vault = Vault.from_env()
    work: list[Future[None]] = []
    vaults = [vault.for_tenant(tenant_of(number, given.tenants)) for number in range(given.tenants)]
    with given.out.open("a", buffering=1) as out, ThreadPoolExecutor(BROWSERS) as browsers:
        for number in range(given.owners):
            work.append(browsers.submit(connect, vaults[number % given.tenants], owner_name(number), out))
            if number < given.tenants:
                work[number].result()  # the first of each tenant alone: its tenant's keys are made
        for each in work:
            each.result()


if __name__ == "__main__":
    main()
