"""What happens, in order: connect, refresh, kill, restart, flush, new master key, and then the proof."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from tests.demo.evidence import Books, InFlight, State, read_metrics, read_report
from tests.demo.owners import owner_name
from tests.demo.progress import Counters, Progress
from tests.demo.services import Service
from tests.demo.stack import PROVIDER, Stack
from vault.kms.local import LocalKms

TICK = 0.25  # seconds between two looks at the counters
READY = b"ready."
"""What Celery says when a worker has begun to take messages."""
PATIENCE = 60.0  # seconds granted to anything that should take a few, for machines that are busy with other things
TENANTS = 6
MIN_TTL_SHARE = 0.1
"""The web app wants tokens with a tenth of their life left."""


SHARES = (0.15, 0.4, 0.65, 0.8)
"""When the faults begin, as shares of the time; each at its time or when the one before it is over."""


class StoryError(Exception):
    """Something did not come about in time; the message says what."""


@dataclass
class Happened:
    """What the story did, counted while it did it."""

    claims_at_kill: InFlight = field(default_factory=frozenset)
    workers_killed: int = 0
    workers_restarted: int = 0
    redis_keys_flushed: int = 0
    refreshes_after_flush: int = 0
    tenant_keys_rewrapped: int = 0
    tenant_keys_by_kek: dict[str, int] = field(default_factory=dict)
    old_master_key: str = ""
    master_key: str = ""
    last_fault_at: float = 0.0
    refreshed_since: int = 0


class Story:
    """Tells it once, on a stack that is running servers and nothing else yet."""

    def __init__(
        self, stack: Stack, progress: Progress, *, owners: int, seconds: float, withdraw: int, calm: bool
    ) -> None:
        """Attach to a stack.

        Args:
            stack: Where it happens.
            progress: Who is told.
            owners: How many connect.
            seconds: How long the web app is served, from the last connect to the last fault.
            withdraw: So many owners take their consent back at the provider, which no vault can mend.
            calm: Nothing is killed, flushed or changed.
        """
        self.stack, self._progress = stack, progress
        self._owners, self._seconds, self._withdraw, self.calm = owners, seconds, withdraw, calm
        self.books = Books(stack.postgres.url)
        self.connections = stack.home.path / "connections.jsonl"
        self.report = stack.home.path / "webapp.json"
        self.happened = Happened()

    def tell(self) -> dict[str, str]:
        """Go through all of it; returns what the proof said of each owner.

        Raises:
            StoryError, ServerError: It could not be told to the end.
        """
        self._begin()
        at = time.monotonic()
        chapters = (self._kill, self._restart, self._flush, self._new_key)
        for share, chapter in zip(SHARES, () if self.calm else chapters, strict=False):
            self._until(at + share * self._seconds)
            chapter()
        self._settle()
        self._until(at + self._seconds)
        self.stack.services["webapp"].stop()
        return self._prove()

    # ------------------------------------------------------------------------------------------------- chapters

    def _begin(self) -> None:
        stack, api = self.stack, self.stack.simulator.uri(PROVIDER, "api")
        with self._progress.step("start two workers, beat, a web app") as say:
            stack.start_workers()
            stack.supervise()
            arguments = ["--connections", str(self.connections), "--report", str(self.report), "--api", api]
            stack.start("webapp", "tests.demo.webapp", *arguments, "--min-ttl", self._min_ttl)
            numbers = ["--owners", str(self._owners), "--tenants", str(TENANTS)]
            owners = stack.start("owners", "tests.demo.owners", *numbers, "--out", str(self.connections))
            self._await("the workers", lambda: all(worker.has_said(READY) for worker in self._workers))
            say("each a process of its own")
        with self._progress.step("connect owners: authorization code with PKCE, over HTTP") as say:
            self._await("the owners", lambda: not owners.running, patience=PATIENCE + self._owners / 10)
            connected = self.books.counts().connections
            if connected < self._owners:
                raise StoryError(f"{connected} of {self._owners} owners could connect")
            say(f"{connected} owners of {TENANTS} tenants")
        stack.simulator.configure(PROVIDER, latency=stack.scale.latency, jitter=stack.scale.jitter)
        for number in range(self._withdraw):
            stack.simulator.kill_account(PROVIDER, owner_name(number))

    def _kill(self) -> None:
        """SIGKILL, with refreshes in its hands that the provider has answered and nobody has read."""
        with self._progress.step("freeze a worker in mid-refresh, then kill -9 it") as say:
            worker, happened = self._frozen_in_mid_refresh(), self.happened
            starts = worker.starts
            worker.crash()
            happened.workers_killed += 1
            self._await("the killed worker's successor", lambda: worker.starts > starts and worker.has_said(READY))
            say(f"{len(happened.claims_at_kill)} refreshes in its hands; started again")

    def _frozen_in_mid_refresh(self) -> Service:
        """Freeze workers in turn until one holds claims: those still held when all others have settled theirs."""
        scale = self.stack.scale
        wanted = min(8, max(1, self._owners // 40))
        deadline = time.monotonic() + PATIENCE
        for worker in itertools.cycle(self._workers):
            self._await("refreshes in flight", lambda: self.books.counts().in_flight >= wanted)
            worker.freeze()
            claims = self.books.in_flight()
            time.sleep(scale.latency + scale.jitter + 0.5)
            self.happened.claims_at_kill = claims & self.books.in_flight()
            if len(self.happened.claims_at_kill) >= max(1, self._owners // 60):
                break
            worker.thaw()
            if time.monotonic() > deadline:
                raise StoryError("no worker was caught in mid-refresh")
        return worker

    def _restart(self) -> None:
        with self._progress.step("restart the other worker in good order") as say:
            worker, began = self._workers[1], time.monotonic()
            starts = worker.starts
            worker.finish()
            ended = time.monotonic() - began
            self._await("the restarted worker", lambda: worker.starts > starts and worker.has_said(READY))
            self.happened.workers_restarted += 1
            say(f"ended after {ended:.1f} s, back after {time.monotonic() - began:.1f} s")

    def _flush(self) -> None:
        with self._progress.step("FLUSHALL: Redis forgets everything") as say:
            with redis.Redis.from_url(self.stack.redis.url) as client:
                keys = client.dbsize()
                client.flushall()
            self.happened.redis_keys_flushed = int(keys)
            before = self.books.counts().refreshes
            self._await("refreshes after the flush", lambda: self.books.counts().refreshes > before)
            say(f"{keys} keys gone; the database knows what is due")

    def _new_key(self) -> None:
        """A new master key in the keyring file, a rewrap, and the old key destroyed."""
        with self._progress.step("change the master key, rewrap, destroy the old one") as say:
            happened, kms = self.happened, LocalKms(self.stack.keyring)
            happened.old_master_key = kms.describe()
            kms.add_key("next")
            kms.set_current("next")
            happened.master_key = kms.describe()
            answer = self.stack.run("rewrap", "vault.cli", "--json", "rewrap")
            happened.tenant_keys_rewrapped = last_document(answer)["tenant_keys_rewrapped"]
            happened.tenant_keys_by_kek = self.books.tenant_keys()
            if happened.old_master_key not in happened.tenant_keys_by_kek:
                destroy_old_keys(self.stack.keyring)
            say(f"{happened.tenant_keys_rewrapped} tenant keys rewrapped, no owner's row touched")

    def _settle(self) -> None:
        """Watch until every grant that lives was refreshed after the last fault."""
        self.happened.last_fault_at = self.books.now()
        with self._progress.step("every connection is refreshed once more") as say:
            with contextlib.suppress(StoryError):  # the verdict says which were not
                self._await("a refresh of each", lambda: not any(map(self._awaited, self.books.states())))
            happened = self.happened
            happened.refreshed_since = sum(s.refreshed_at > happened.last_fault_at for s in self.books.states())
            say(f"{happened.refreshed_since} of {self._owners} since the last fault")

    def _prove(self) -> dict[str, str]:
        with self._progress.step("show every token to the provider, from a fresh process") as say:
            self.stack.simulator.configure(PROVIDER, latency=0, jitter=0)
            arguments = ["--connections", str(self.connections), "--api", self.stack.simulator.uri(PROVIDER, "api")]
            answer = self.stack.run("proof", "tests.demo.proof", *arguments, "--min-ttl", self._min_ttl)
            proof: dict[str, str] = last_document(answer)
            say(f"{sum(found == 'ok' for found in proof.values())} accepted")
        return proof

    # -------------------------------------------------------------------------------------------------- waiting

    @property
    def _workers(self) -> list[Service]:
        return [service for name, service in self.stack.services.items() if name.startswith("worker")]

    @property
    def _min_ttl(self) -> str:
        return str(self.stack.scale.token_life * MIN_TTL_SHARE)

    def _awaited(self, state: State) -> bool:
        return state.status in ("active", "in_doubt") and state.refreshed_at <= self.happened.last_fault_at

    def _until(self, instant: float) -> None:
        while time.monotonic() < instant:
            self._look()

    def _await(self, what: str, happened: Callable[[], bool], patience: float = PATIENCE) -> None:
        deadline = time.monotonic() + patience
        while not happened():
            if time.monotonic() > deadline:
                raise StoryError(f"{what}: waited {patience:.0f} s in vain")
            self._look()

    def _look(self) -> None:
        """Let a moment pass and show where things stand."""
        time.sleep(TICK)
        if not self.stack.services["webapp"].running:
            raise StoryError("the web app has ended")
        report, counts = read_report(self.report), self.books.counts()
        gets = read_metrics(self.stack.home.path / "metrics", "webapp").gets
        self._progress.counters(
            Counters(
                connections=counts.connections,
                refreshes=counts.refreshes,
                in_flight=counts.in_flight,
                served=report.get("served", 0),
                stale=gets.get("stale", 0),
                errors=sum(report.get("errors", {}).values()),
                restarts=self.stack.supervisor.restarts,
            )
        )


def last_document(output: str) -> dict[str, Any]:
    """The JSON object that a program wrote after whatever it logged."""
    start = f"\n{output}".rindex("\n{")
    document: dict[str, Any] = json.loads(output[start:])
    return document


def destroy_old_keys(keyring: Path) -> None:
    """Leave nothing but the current key in a keyring file: whatever needed another one cannot be opened any more."""
    document = json.loads(keyring.read_text())
    current = document["current"]
    fresh = keyring.with_name("keyring.new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps({**document, "keys": {current: document["keys"][current]}}))
    fresh.replace(keyring)
