"""What a web app reads and asks often is found by its index, policies or none."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.integration.walls.house import as_role
from vault.store.connections import _ASK
from vault.store.reads import READ, READ_MANY, READ_MANY_WITH_KEYS, READ_WITH_KEY

EACH = uuid4()
STATEMENTS: dict[str, tuple[bytes, tuple[object, ...]]] = {
    "get": (READ, (EACH,)),
    "get, with its key": (READ_WITH_KEY, (EACH,)),
    "get_many": (READ_MANY, ([EACH],)),
    "get_many, with keys": (READ_MANY_WITH_KEYS, ([EACH],)),
    "ask": (_ASK, (True, True, EACH, "a")),
}
BY_INDEX = "-c enable_seqscan=off -c enable_bitmapscan=off"
"""The tables are empty: a planner with a choice would read them whole."""


def _scans(url: str, statement: bytes, given: tuple[object, ...]) -> list[tuple[str, str, str]]:
    with psycopg.connect(url, options=BY_INDEX) as session:
        session.execute("SELECT set_config('evergrant.tenant', 'a', true)")
        row = session.execute(b"EXPLAIN (FORMAT JSON, GENERIC_PLAN false) " + statement, given).fetchone()
    assert row is not None
    found: list[tuple[str, str, str]] = []
    _collect(row[0][0]["Plan"], found)
    return sorted(found)


def _collect(plan: dict[str, Any], into: list[tuple[str, str, str]]) -> None:
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        into.append((plan["Relation Name"], plan["Node Type"], json.dumps(plan.get("Index Cond", ""))))
    for inner in plan.get("Plans", []):
        _collect(inner, into)


@pytest.mark.parametrize("what", STATEMENTS)
def test_a_web_apps_role_reads_by_the_owners_indexes(what: str, granted_url: str, roles: dict[str, str]) -> None:
    """Beside what the owner's plan looks at there is the connection, where a policy has to ask for it."""
    statement, given = STATEMENTS[what]
    owners = _scans(granted_url, statement, given)
    webs = _scans(as_role(roles["web"], granted_url), statement, given)
    asked = [each for each in webs if each not in owners]
    assert [each for each in webs if each in owners] == owners
    assert {name for name, _, _ in asked} <= ({"connection"} if what == "ask" else set())
    assert all("Index" in how for _, how, _ in webs)
