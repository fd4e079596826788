"""Runs one campaign from the first consent to the verdict."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import redis

from tests.chaos.acts import Acts
from tests.chaos.checker import Findings, check
from tests.chaos.leaks import Monitor, save_pages, search
from tests.chaos.plan import Plan
from tests.chaos.stack import PROVIDER, REDIRECT, Stack
from tests.demo.home import Home
from tests.simulator import Oracle
from tests.simulator.client import ConsentFailed, consent
from vault import Connection, Token, Vault, VaultError

SETTLING_S = 60.0
"""How long the system may take to come to rest after the last act."""


@dataclass
class Report:
    """What a campaign came to."""

    plan: Plan
    findings: Findings
    seconds: float
    acts: Counter[str]
    deaths: Counter[str]
    kills: int
    served: int
    served_dead: int
    errors: Counter[str]
    monitored: int
    shown: int
    """Bytes that Flower showed."""
    leaks: list[str]
    unsettled: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing was found that must not be."""
        promised = self.plan.rotation["mode"] == "strict" or self.findings.lost == 0
        nothing_died = self.kills > 0 or self.findings.lost == 0
        return promised and nothing_died and not (self.findings.problems or self.leaks or self.unsettled)


class Reader(threading.Thread):
    """A web app that asks for tokens all the while."""

    def __init__(self, vault: Vault, connections: list[UUID]) -> None:
        super().__init__(name="reader", daemon=True)
        self._vault, self._connections = vault, connections
        self._ended = threading.Event()
        self.served: list[tuple[float, str]] = []
        self.errors: Counter[str] = Counter()

    def run(self) -> None:
        """Read until told to stop."""
        choose = random.Random(7)
        while not self._ended.wait(0.01):
            try:
                token: Token = self._vault.get(choose.choice(self._connections))
            except VaultError as error:
                self.errors[type(error).__name__] += 1
            else:
                self.served.append((time.time(), token.access_token.reveal()))

    def close(self) -> None:
        """Stop reading."""
        self._ended.set()
        self.join(10)


class Owners(threading.Thread):
    """People who connect again when they are told to."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(name="owners", daemon=True)
        self._stack = stack
        self._ended = threading.Event()

    def run(self) -> None:
        """Look for those who are wanted until told to stop."""
        while not self._ended.wait(0.5):
            try:
                for connection in self._stack.vault.connections(status="needs_reconnect"):
                    reconnect(self._stack, connection)
            except (VaultError, OSError, ConsentFailed):
                continue  # they try again

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()
        self.join(30)


def run(plan: Plan, say: Callable[[str], None]) -> Report:
    """Run a campaign; ``say`` is told how far it is."""
    started = time.monotonic()
    with Home() as home, Stack(plan, home) as stack:
        connections = connect(stack, plan.connections)
        say(f"{plan.name}: {len(connections)} connections")
        monitor = Monitor(stack.redis.url, home.path / "monitor.txt")
        reader = Reader(stack.vault, connections)
        owners = Owners(stack)
        reader.start()
        owners.start()
        oracle = Oracle(stack.journal)
        acts = Acts(stack, seed=1)
        stack.switch.touch()
        torment(stack, acts, oracle, say)
        stack.switch.unlink()
        acts.thaw()
        owners.close()
        unsettled = settle(stack, say)
        shown = save_pages(stack.flower, home.path / "flower")
        stack.rest()
        reader.close()
        monitor.close()
        _persist_redis(stack)
        findings = check(stack.environ, oracle, strict=plan.rotation["mode"] == "strict")
        dead = sum(not oracle.access_token_live(token, at) for at, token in reader.served)
        leaks = search([home.path], except_for={stack.journal})
        report = Report(
            plan, findings, time.monotonic() - started, acts.done, acts.deaths_at_points(), acts.kills,
            len(reader.served), dead, reader.errors, monitor.commands, shown, leaks, unsettled,
        )  # fmt: skip
        if not report.passed:
            home.keep()
            say(f"kept for a look: {home.path}")
        return report


def connect(stack: Stack, count: int) -> list[UUID]:
    """Connect owners as a person would: over HTTP, with their consent."""
    connections = []
    for number in range(count):
        owner = f"owner-{number:04}"
        start = stack.vault.begin(PROVIDER, owner=owner, redirect_uri=REDIRECT)
        answer = consent(f"{start.url}&login_hint={owner}")
        connections.append(stack.vault.complete(state=answer["state"], code=answer["code"]).id)
    return connections


def reconnect(stack: Stack, connection: Connection) -> None:
    """Go through the consent again, into the same connection."""
    start = stack.vault.begin(PROVIDER, owner=connection.owner, redirect_uri=REDIRECT, reconnect=connection.id)
    answer = consent(f"{start.url}&login_hint={connection.owner}")
    stack.vault.complete(state=answer["state"], code=answer["code"])


def torment(stack: Stack, acts: Acts, oracle: Oracle, say: Callable[[str], None]) -> None:
    """Act until the plan is fulfilled."""
    plan, pause = stack.plan, random.Random(2)
    ends, next_word = time.monotonic() + plan.longest, 0.0
    while time.monotonic() < ends:
        refreshes = oracle.count("spent") + oracle.count("replayed") + oracle.count("used")
        crashes = acts.done["postgres_crash"]
        if refreshes >= plan.refreshes and acts.kills >= plan.kills and crashes >= plan.postgres_crashes:
            return
        if time.monotonic() >= next_word:
            say(f"{plan.name}: {refreshes} refreshes, {acts.kills} kills, {crashes} PostgreSQL crashes")
            next_word = time.monotonic() + 10
        acts.one()
        time.sleep(pause.uniform(*plan.pause_between))


def settle(stack: Stack, say: Callable[[str], None]) -> list[str]:
    """Wait until every connection is at rest; returns those that are not."""
    ends = time.monotonic() + SETTLING_S
    say(f"{stack.plan.name}: waiting for rest")
    with psycopg.connect(stack.postgres.url, autocommit=True) as database:
        [(since,)] = database.execute("SELECT now()")
        while True:
            left = restless(database, since)
            if not left or time.monotonic() > ends:
                return left
            time.sleep(0.5)


def restless(database: psycopg.Connection[tuple[object, ...]], since: object) -> list[str]:
    """Say which connections are not at rest, when nobody has been killed ``since`` an instant of the database.

    A token somebody was about to send before that is not at rest: they may have died with the answer, and until their
    lease is over nobody looks. What was claimed later is in the hands of the living.
    """
    query = """
        SELECT c.owner, g.status, g.reason, s.attempt, s.failures, s.next_at - now(), s.intent_at
          FROM evergrant.connection c JOIN evergrant.oauth_grant g ON g.connection_id = c.id
          JOIN evergrant.schedule s ON s.connection_id = c.id
         WHERE g.status NOT IN ('active', 'needs_reconnect')
            OR (g.status = 'active' AND (s.failures > 0 OR s.attempt > 1 OR s.next_at < now() - interval '4 s'
                                        OR s.intent_at <= %s))"""
    return [str(row) for row in database.execute(query, (since,))]


def _persist_redis(stack: Stack) -> None:
    """Have Redis write everything it holds to a file, where it can be searched."""
    with redis.Redis.from_url(stack.redis.url) as client:
        client.save()
