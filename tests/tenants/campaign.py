"""Random calls, each by one tenant for something of another's; what comes back is searched for what is the other's.

Two things stand between tenants: the filters of the application, and row-level security for the database role of web
apps. Each is to hold without the other. With neither, the same calls do leak; a campaign that sees no leak there sees
none anywhere.
"""

from __future__ import annotations

import json
import logging
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
import structlog

from tests.integration.house import House
from tests.integration.walls.house import WalledHouse, new_roles
from tests.integration.web.front import Client, opened
from tests.simulator import SimulatorProcess
from tests.support import stack
from tests.support.unfiltered import Gone, filters_gone
from tests.tenants.calls import CALLS, STATISTICS, Call
from tests.tenants.scene import Tenant, furnish, rows
from vault.testing.servers import EmbeddedPostgres

REFUSALS = frozenset({400, 403, 404, 409, 422})
WHAT = ("tokens", "connects", "introspections", "others", "strangers")
UNLIMITED = {f"http_rate_{what}": 0.0 for what in WHAT}
NAMES = {
    (True, False): "filters alone",
    (False, True): "wall alone",
    (True, True): "both",
    (False, False): "neither (control)",
}


@dataclass(frozen=True)
class Plan:
    """How many, in which order, and what stands between the tenants."""

    calls: int
    filters: bool = True
    """Whether statements reach the database as the application wrote them, or without their filters by tenant."""
    wall: bool = False
    """Whether the server has the database role of a web app, or the owner's, whom no policy holds back."""
    tenants: int = 5
    threads: int = 4
    seed: int = 4711

    @property
    def name(self) -> str:
        """What stands between the tenants."""
        return NAMES[self.filters, self.wall]

    @property
    def is_control(self) -> bool:
        """Whether leaks are what is wanted."""
        return not (self.filters or self.wall)


@dataclass
class Found:
    """What came of some calls."""

    calls: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    noticed: Counter[str] = field(default_factory=Counter)
    """Of which sort the calls were that leaked, or were answered with an error of the server."""
    leaks: list[str] = field(default_factory=list)
    """Answers with anything of another's in them, and requests that should not have succeeded."""
    errors: list[str] = field(default_factory=list)
    """Answers that the server should not give at all."""

    def add(self, other: Found) -> None:
        """Take in what others found."""
        for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True):
            mine.update(theirs) if isinstance(mine, Counter) else mine.extend(theirs)


@dataclass(frozen=True)
class Report:
    """What came of a plan."""

    plan: Plan
    seconds: float
    found: Found
    changed: Sequence[str]
    """Tables that are not as they were."""
    gone: Gone | None = None
    """What became of the filters, where they were taken away."""

    @property
    def passed(self) -> bool:
        """Whether nobody got, or did, anything; of a control, whether it was seen that somebody did."""
        done = self.found.calls.total() == self.plan.calls
        if self.gone is not None:
            done = done and bool(self.gone.rewritten) and not self.gone.left
        if self.plan.is_control:
            return done and bool(self.found.leaks)
        return done and not (self.found.leaks or self.found.errors or self.changed)


def long() -> Sequence[Plan]:
    """Ten thousand calls against each of the two alone, and a control."""
    return Plan(10_000), Plan(10_000, filters=False, wall=True), Plan(300, filters=False)


def short() -> Sequence[Plan]:
    """For every run of the suite."""
    return Plan(1_000), Plan(300, filters=False, wall=True), Plan(150, filters=False)


def run(plans: Sequence[Plan], say: Callable[[str], None]) -> list[Report]:
    """Run campaigns on servers of their own, never on given ones: roles are made there that anybody may log in as."""
    with (
        EmbeddedPostgres.start() as postgres,
        stack.template_database(postgres) as template,
        new_roles(postgres) as roles,
        tempfile.TemporaryDirectory(prefix="evergrant-tenants-") as home,
        SimulatorProcess(Path(home) / "journal.jsonl") as simulator,
    ):
        reports = []
        for number, plan in enumerate(plans):
            place = Path(home) / str(number)
            place.mkdir()
            with stack.new_database(postgres, template) as url:
                new = WalledHouse(url, simulator, place, roles) if plan.wall else House(url, simulator, place)
                with closing(new) as house, _quiet(plan):
                    reports.append(at(house, plan, say))
        return reports


@contextmanager
def _quiet(plan: Plan) -> Iterator[None]:
    """Log no refusals, of which there are thousands; in a control, nor what goes wrong."""
    level = logging.CRITICAL if plan.is_control else logging.WARNING
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    try:
        yield
    finally:
        structlog.reset_defaults()


def at(house: House, plan: Plan, say: Callable[[str], None]) -> Report:
    """Run a campaign in a house that is there; one with a wall is a ``WalledHouse``."""
    tenants = furnish(house, [f"tenant-{number}" for number in range(plan.tenants)])
    say(f"{plan.name}: {plan.tenants} tenants ask {plan.calls:,} times for what is each other's")
    before, began, found = rows(house), time.monotonic(), Found()
    with _served(house, plan) as (base, gone), ThreadPoolExecutor(plan.threads) as threads:
        shares = [plan.calls // plan.threads + (n < plan.calls % plan.threads) for n in range(plan.threads)]
        for part in [threads.submit(_some, base, tenants, share, plan.seed + n) for n, share in enumerate(shares)]:
            found.add(part.result())
    after = rows(house)
    changed = [table for table in before if before[table] != after[table]]
    return Report(plan, time.monotonic() - began, found, changed, gone)


@contextmanager
def _served(house: House, plan: Plan) -> Iterator[tuple[str, Gone | None]]:
    """Serve a house over HTTP with nothing but what is planned between its tenants."""
    url = house.database_url
    if plan.wall:
        assert isinstance(house, WalledHouse)
        url = house.urls["web"]
    with opened(house, **UNLIMITED, get_deadline_s=0.2, database_url=url) as front:
        if plan.filters:
            yield front.api, None
        else:
            with filters_gone() as gone:
                yield front.api, gone


def _some(base: str, tenants: list[Tenant], calls: int, seed: int) -> Found:
    dice, found = random.Random(seed), Found()
    clients = {key: Client(base, key) for tenant in tenants for key in tenant.keys}
    for _ in range(calls):
        ours, theirs = dice.sample(tenants, 2)
        call = dice.choice(CALLS)(dice, ours, theirs)
        answer = clients[dice.choice(ours.keys)].request(call.method, call.path, **call.words)
        found.calls[call.what] += 1
        found.statuses[answer.status_code] += 1
        leaks = judge(call, answer, ours, tenants)
        found.leaks += leaks
        if failed := answer.status_code >= 500 or answer.status_code == 401:
            found.errors.append(f"{call}: {answer.status_code} {answer.text[:200]}")
        found.noticed[call.what] += bool(leaks or failed)
    return found


def judge(call: Call, answer: requests.Response, ours: Tenant, tenants: list[Tenant]) -> list[str]:
    """Say what an answer should not have held. What was sent may come back; it was known."""
    sent = call.path + json.dumps(dict(call.words), default=str) + call.follows
    got = answer.text + str(answer.headers)
    strange = [mark for each in tenants if each is not ours for mark in each.marks if mark in got and mark not in sent]
    found = [f"{call}: holds {mark}" for mark in strange]
    if not call.may_succeed and answer.status_code not in REFUSALS | {401} and answer.status_code < 500:
        found.append(f"{call}: {answer.status_code}")
    if call.what == STATISTICS and answer.ok:
        said = answer.json()
        counted = {name: said[name] for name in ours.figures}
        if counted != ours.figures:
            found.append(f"{call}: counts {counted}")
    return found
