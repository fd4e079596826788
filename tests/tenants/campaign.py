"""Random calls, each by one tenant for something of another's; what comes back is searched for what is the other's."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import requests
from rich.console import Console
from rich.table import Table

from tests.integration.house import House
from tests.integration.web.front import Client, opened
from tests.simulator import SimulatorProcess
from tests.support import stack
from tests.tenants.scene import OWNERS, Tenant, furnish, rows

Server = Callable[[House], AbstractContextManager[str]]
"""Serves a house over HTTP, perhaps as another database role or without the application's own filters; yields where."""
REFUSALS = frozenset({400, 403, 404, 409, 422})
WHAT = ("tokens", "connects", "introspections", "others", "strangers")
UNLIMITED = {f"http_rate_{what}": 0.0 for what in WHAT}


@dataclass(frozen=True)
class Plan:
    """How many, and in which order."""

    calls: int
    tenants: int = 5
    threads: int = 4
    seed: int = 4711


class Call(NamedTuple):
    """A request for something that is another's."""

    what: str
    method: str
    path: str
    words: Mapping[str, Any]
    may_succeed: bool = False
    """Lists do, with what is the caller's own."""


@dataclass(frozen=True)
class Report:
    """What came of it."""

    plan: Plan
    seconds: float
    calls: Counter[str]
    statuses: Counter[int]
    leaks: list[str]
    """Answers with anything of another's in them, and requests that should not have succeeded."""
    errors: list[str]
    """Answers that the server should not give at all."""
    changed: list[str]
    """Tables that are not as they were."""

    @property
    def passed(self) -> bool:
        """Whether nobody got, or did, anything."""
        return not (self.leaks or self.errors or self.changed) and self.calls.total() == self.plan.calls


def long() -> Plan:
    """Ten thousand calls."""
    return Plan(10_000)


def short() -> Plan:
    """For every run of the suite."""
    return Plan(1_000)


def served(**overrides: Any) -> Server:
    """Serve a house with settings of its own, such as ``database_url`` with another role's name in it."""

    @contextmanager
    def server(house: House) -> Iterator[str]:
        with opened(house, **{**UNLIMITED, "get_deadline_s": 0.2, **overrides}) as front:
            yield front.api

    return server


PLAINLY = served()


def run(plan: Plan, say: Callable[[str], None], server: Server = PLAINLY) -> Report:
    """Run a campaign on servers of its own."""
    with (
        stack.database_server() as postgres,
        stack.template_database(postgres) as template,
        stack.new_database(postgres, template) as url,
        tempfile.TemporaryDirectory(prefix="evergrant-tenants-") as home,
        SimulatorProcess(Path(home) / "journal.jsonl") as simulator,
    ):
        house = House(url, simulator, Path(home))
        try:
            return at(house, plan, say, server)
        finally:
            house.close()


def at(house: House, plan: Plan, say: Callable[[str], None], server: Server = PLAINLY) -> Report:
    """Run a campaign in a house that is there."""
    tenants = furnish(house, [f"tenant-{number}" for number in range(plan.tenants)])
    say(f"{plan.tenants} tenants ask {plan.calls:,} times for what is each other's")
    before, began = rows(house), time.monotonic()
    report = Report(plan, 0.0, Counter(), Counter(), [], [], [])
    with server(house) as base, ThreadPoolExecutor(plan.threads) as threads:
        shares = [plan.calls // plan.threads + (n < plan.calls % plan.threads) for n in range(plan.threads)]
        for part in [threads.submit(_some, base, tenants, share, plan.seed + n) for n, share in enumerate(shares)]:
            calls, statuses, leaks, errors = part.result()
            report.calls.update(calls)
            report.statuses.update(statuses)
            report.leaks.extend(leaks)
            report.errors.extend(errors)
    after = rows(house)
    changed = [table for table in before if before[table] != after[table]]
    report.changed.extend(changed)
    return Report(plan, time.monotonic() - began, *list(vars(report).values())[2:])


def _some(
    base: str, tenants: list[Tenant], calls: int, seed: int
) -> tuple[Counter[str], Counter[int], list[str], list[str]]:
    dice = random.Random(seed)
    clients = {key: Client(base, key) for tenant in tenants for key in tenant.keys}
    made, statuses, leaks, errors = Counter[str](), Counter[int](), list[str](), list[str]()
    for _ in range(calls):
        ours, theirs = dice.sample(tenants, 2)
        call = dice.choice(CALLS)(dice, ours, theirs)
        answer = clients[dice.choice(ours.keys)].request(call.method, call.path, **call.words)
        made[call.what] += 1
        statuses[answer.status_code] += 1
        leaks += judge(call, answer, ours, tenants)
        if answer.status_code >= 500 or answer.status_code == 401:
            errors.append(f"{call.method} {call.path}: {answer.status_code} {answer.text[:200]}")
    return made, statuses, leaks, errors


def judge(call: Call, answer: requests.Response, ours: Tenant, tenants: list[Tenant]) -> list[str]:
    """Say what an answer should not have held. What was sent may come back; it was known."""
    sent = call.path + json.dumps(dict(call.words), default=str)
    got = answer.text + str(answer.headers)
    strange = [mark for each in tenants if each is not ours for mark in each.marks if mark in got and mark not in sent]
    found = [f"{call.method} {call.path}: holds {mark}" for mark in strange]
    if not call.may_succeed and answer.status_code not in REFUSALS | {401} and answer.status_code < 500:
        found.append(f"{call.method} {call.path}: {answer.status_code}")
    return found


# --------------------------------------------------------------------------------------------------------------- calls

_Maker = Callable[[random.Random, Tenant, Tenant], Call]


def _by_id(kind: str, method: str, tail: str = "", **words: Any) -> _Maker:
    def make(dice: random.Random, _: Tenant, theirs: Tenant) -> Call:
        ids: list[UUID] = getattr(theirs, kind)
        return Call(f"{method} /{kind}/…{tail}", method, f"/{kind}/{dice.choice(ids)}{tail}", words)

    return make


def _list(kind: str) -> _Maker:
    def make(dice: random.Random, _: Tenant, theirs: Tenant) -> Call:
        filters: dict[str, Any] = {"limit": dice.choice((1, 2, 200))}
        if dice.random() < 0.5:
            filters["owner"] = dice.choice((*OWNERS, theirs.name))
        if dice.random() < 0.5:
            filters["provider"] = "acme"
        if dice.random() < 0.5:
            filters["cursor"] = dice.choice(getattr(theirs, kind))
        if kind == "credentials" and dice.random() < 0.5:
            filters["connection"] = dice.choice(theirs.connections)
        return Call(f"GET /{kind}", "GET", f"/{kind}", {"params": filters}, may_succeed=True)

    return make


def _reconnect(dice: random.Random, _: Tenant, theirs: Tenant) -> Call:
    words = {"owner": dice.choice(OWNERS), "browser": "b", "reconnect": str(dice.choice(theirs.connections))}
    return Call("GET /…/auth", "GET", "/acme/auth", {"params": words})


def _callback(dice: random.Random, _: Tenant, theirs: Tenant) -> Call:
    return Call("POST /…/callback", "POST", "/acme/callback", {"json": _brought(dice.choice(theirs.states))})


def _brought(came: Mapping[str, str]) -> dict[str, str]:
    return {name: came[name] for name in ("state", "code", "iss", "browser") if name in came}


def _own(method: str, path: str) -> _Maker:
    """What is asked for by words that others use too: one's own comes, or nothing."""

    def make(dice: random.Random, _: Tenant, theirs: Tenant) -> Call:
        owner = dice.choice((*OWNERS, theirs.name))
        return Call(f"{method} /…{path}", method, f"/acme{path}", {"params": {"owner": owner}}, may_succeed=True)

    return make


CALLS: tuple[_Maker, ...] = (
    *(_list("connections"), _list("credentials"), _list("connections"), _list("credentials")),
    _by_id("connections", "GET"),
    _by_id("connections", "GET", "/token"),
    _by_id("connections", "GET", "/health"),
    _by_id("connections", "DELETE"),
    _by_id("connections", "POST", "/refresh"),
    _by_id("connections", "POST", "/reject"),
    _by_id("credentials", "GET"),
    _by_id("credentials", "GET", "/value"),
    _by_id("credentials", "GET", "/versions"),
    _by_id("credentials", "PUT", "/value", json={"value": "mine"}),
    _by_id("credentials", "POST", "/rollback", json={}),
    _by_id("credentials", "POST", "/rotate", json={}),
    *(_reconnect, _callback),
    *(_own("GET", "/connection"), _own("GET", "/health")),
    lambda *_: Call("GET /statistics", "GET", "/statistics", {}, may_succeed=True),
)


def show(console: Console, report: Report) -> None:
    """Print what came of it."""
    table = Table("", "tenants", title="Tenants")
    figures: tuple[tuple[str, object], ...] = (
        ("seconds", f"{report.seconds:.0f}"),
        ("calls", report.calls.total()),
        ("  a second", f"{report.calls.total() / max(report.seconds, 0.001):.0f}"),
        ("endpoints", len(report.calls)),
        ("answers", ", ".join(f"{status} {number}" for status, number in sorted(report.statuses.items()))),
        ("leaks", len(report.leaks)),
        ("server errors", len(report.errors)),
        ("tables changed", ", ".join(report.changed) or "none"),
        ("passed", "yes" if report.passed else "NO"),
    )
    for name, value in figures:
        table.add_row(name, str(value))
    console.print(table)
    for problem in (*report.leaks[:20], *report.errors[:20]):
        console.print(problem, highlight=False)
