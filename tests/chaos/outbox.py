"""Deliverers of events killed at any moment, while endpoints fail and recover: what comes of every event."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.integration import victims
from tests.integration.office import Office, accepts
from tests.integration.waiting import until
from tests.support import stack
from tests.support.receiver import Received, Receiver, slowly, status
from vault import Maintenance, Secret

DELIVERERS = 3
PATIENCE_S = 180.0
_PENDING = (
    "SELECT 1 FROM evergrant.delivery WHERE state = 'pending' UNION ALL"
    " SELECT 1 FROM evergrant.event WHERE spread_at IS NULL LIMIT 1"
)


@dataclass(frozen=True)
class Plan:
    """How long it goes on."""

    kills: int
    told: int
    """Events told before each kill."""
    endpoints: int = 3
    """The second is slow, the third fails half of the time, all of them get every event."""


@dataclass(frozen=True)
class Report:
    """What came of it."""

    plan: Plan
    seconds: float
    requests: int
    lost: int
    """Events that did not come to an endpoint."""
    unknown: int
    """Requests about events that nobody told."""
    in_two_versions: int
    unverified: int
    """Requests that the endpoint's secret, or the one before, does not verify."""
    undelivered: int
    """Deliveries that do not say that they were made."""
    rotations: int
    """Rotations of endpoints' secrets meanwhile."""

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, and nothing came in two versions."""
        return not (self.lost or self.unknown or self.in_two_versions or self.unverified or self.undelivered)


def long() -> Plan:
    """Some minutes' worth."""
    return Plan(kills=300, told=40)


def short() -> Plan:
    """For every test run."""
    return Plan(kills=25, told=12)


def run(plan: Plan, say: Callable[[str], object]) -> Report:
    """Run a campaign on servers of its own."""
    with (
        tempfile.TemporaryDirectory() as home,
        stack.database_server() as server,
        stack.template_database(server) as template,
        stack.new_database(server, template) as url,
    ):
        return carry_out(plan, url, Path(home), say)


def carry_out(plan: Plan, database_url: str, home: Path, say: Callable[[str], object]) -> Report:
    """Run a campaign on a database."""
    chance, began_at = random.Random(7), time.monotonic()
    with Receiver() as receiver:
        office = Office(database_url, home, receiver)
        added = [office.add(f"/{number}") for number in range(plan.endpoints)]
        secrets = {f"/{number}": [secret] for number, (_, secret) in enumerate(added)}
        receiver.answers["/1"] = slowly(0.02)
        told: set[str] = set()
        rotations = unverified = judged = 0
        with _deliverers(office.environment) as running:
            for round_ in range(plan.kills):
                began, few = len(receiver.received), chance.randint(1, plan.told)
                told |= {str(office.tell()) for _ in range(plan.told)}
                receiver.answers["/2"] = status(chance.choice([204, 204, 500]))
                until(lambda began=began, few=few: len(receiver.received) >= began + few)  # type: ignore[misc]
                time.sleep(chance.uniform(0, 0.02))  # anywhere in what they do
                victim = running.pop(0)
                victim.kill()
                victim.join(10)
                running.append(_start(office.environment))
                some = receiver.received[judged:]  # while their timestamps are of these minutes
                unverified, judged = unverified + _unverified(some, secrets), judged + len(some)
                if round_ % 5 == 4:
                    office.pass_time(timedelta(minutes=10))  # leases of the dead run out, and what failed is due
                if round_ % 20 == 19:
                    number = rotations % plan.endpoints
                    secrets[f"/{number}"].append(office.events.rotate_secret(added[number][0], force=True))
                    rotations += 1
                    say(f"{round_ + 1} kills, {len(receiver.received):,} requests")
            receiver.answers.clear()
            _drain(office)
        unverified += _unverified(receiver.received[judged:], secrets)
        told |= {str(row["id"]) for row in office.sql("SELECT id FROM evergrant.event")}
        report = _judge(plan, office, receiver, told, time.monotonic() - began_at)
        report = replace(report, unverified=unverified, rotations=rotations)
        office.close()
    return report


def _drain(office: Office) -> None:
    patience = time.monotonic() + PATIENCE_S
    while office.sql(_PENDING):
        if time.monotonic() > patience:
            raise AssertionError("something is on its way for ever")
        office.pass_time(timedelta(hours=6))  # the last waits of what has failed often are a day long
        time.sleep(1)


def _unverified(got: Sequence[Received], secrets: Mapping[str, Sequence[Secret]]) -> int:
    return sum(not any(accepts(secret, each) for secret in secrets[each.path]) for each in got)


def _judge(plan: Plan, office: Office, receiver: Receiver, told: set[str], seconds: float) -> Report:
    lost = unknown = versions = 0
    for number in range(plan.endpoints):
        got = receiver.at(f"/{number}")
        ids = {each.id for each in got}
        lost += len(told - ids)
        unknown += len(ids - told)
        versions += len({(each.id, each.body) for each in got}) - len(ids)
    [row] = office.sql("SELECT count(*) AS number FROM evergrant.delivery WHERE state <> 'delivered'")
    return Report(plan, seconds, len(receiver.received), lost, unknown, versions, 0, row["number"], 0)


def deliver_for_ever(environment: Mapping[str, str]) -> None:
    """What a worker does, without Celery around it."""
    maintenance = Maintenance.from_env(environment)
    while True:
        if not maintenance.deliver(timedelta(seconds=1)).outcomes:
            time.sleep(0.02)  # as long as beat would


@contextmanager
def _deliverers(environment: Mapping[str, str]) -> Iterator[list[BaseProcess]]:
    running: list[BaseProcess] = [_start(environment) for _ in range(DELIVERERS)]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.join(10)


def _start(environment: Mapping[str, str]) -> BaseProcess:
    process = victims._processes.Process(target=deliver_for_ever, args=(dict(environment),))
    process.start()
    return process


def show(console: Console, report: Report) -> None:
    """Print what came of it."""
    plan = report.plan
    table = Table("what", "figure", title="Events")
    for name, figure in (
        ("events told, at least", plan.kills * plan.told), ("endpoints, each told all", plan.endpoints),
        ("deliverers killed", plan.kills), ("secrets rotated meanwhile", report.rotations),
        ("requests received", report.requests), ("events lost", report.lost),
        ("requests about nothing that was told", report.unknown), ("ids with two bodies", report.in_two_versions),
        ("requests that no secret verifies", report.unverified), ("deliveries not noted", report.undelivered),
        ("seconds", round(report.seconds)),
    ):  # fmt: skip
        table.add_row(name, f"{figure:,}")
    console.print(table)
