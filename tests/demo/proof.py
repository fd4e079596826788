"""A program: a fresh process, without any key or token, gets one for every connection and shows it to the provider.

Writes a JSON object: for each owner `ok`, or what went wrong.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import requests

from tests.demo.webapp import Entry, read_entries
from vault import Vault, VaultError

OK = "ok"


def prove(vault: Vault, api: str, min_ttl: timedelta, entry: Entry) -> str:
    """Get and use one token."""
    try:
        token = vault.for_tenant(entry.tenant).get(entry.id, min_ttl=min_ttl)
    except VaultError as error:
        return f"{type(error).__name__}: {error}"
    answer = requests.get(api, headers=token.headers(), timeout=10)
    if answer.status_code != 200:
        return f"the provider's API answered {answer.status_code}"
    account = answer.json()["account"]
    return OK if account == entry.owner else f"the token is one of {account}"


def main() -> None:
    """Prove every connection."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo.proof", description=__doc__)
    parser.add_argument("--connections", type=Path, required=True)
    parser.add_argument("--api", required=True)
    parser.add_argument("--min-ttl", type=float, required=True)
    given = parser.parse_args()
    vault, min_ttl = Vault.from_env(), timedelta(seconds=given.min_ttl)
    entries = read_entries(given.connections)
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda entry: prove(vault, given.api, min_ttl, entry), entries)
        print(json.dumps(dict(zip((entry.owner for entry in entries), found, strict=True)), indent=0))


if __name__ == "__main__":
    main()
