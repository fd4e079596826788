"""Deliverers killed at any moment: every event arrives, each the same whenever it does, and each can be verified."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.integration import victims
from tests.integration.test_events import Office, accepts
from tests.integration.waiting import until
from tests.support.receiver import Receiver, slowly, status
from vault import Maintenance

EVENTS, KILLS, ENDPOINTS = 300, 25, 3
PATIENCE_S = 60.0


def deliver_for_ever(environment: Mapping[str, str]) -> None:
    """What a worker does, without Celery around it."""
    maintenance = Maintenance.from_env(environment)
    while True:
        if not maintenance.deliver(timedelta(seconds=1)).outcomes:
            time.sleep(0.02)  # as long as beat would


@contextmanager
def deliverers(environment: Mapping[str, str], count: int) -> Iterator[list[BaseProcess]]:
    running: list[BaseProcess] = [_start(environment) for _ in range(count)]
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


@pytest.mark.timeout(180)
def test_nothing_is_lost_and_nothing_comes_in_two_versions(database_url: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    with Receiver() as receiver:
        office = Office(database_url, tmp_path, receiver)
        secrets = {}
        for number in range(ENDPOINTS):
            _, secrets[f"/{number}"] = office.add(f"/{number}")
        receiver.answers["/1"] = slowly(0.02)
        told: set[str] = set()
        pending = "SELECT 1 FROM evergrant.delivery WHERE state = 'pending' UNION ALL" \
                  " SELECT 1 FROM evergrant.event WHERE spread_at IS NULL LIMIT 1"  # fmt: skip
        with deliverers(office.environment, 3) as running:
            for round_ in range(KILLS):
                began, few = len(receiver.received), chance.randint(1, 12)
                told |= {str(office.tell()) for _ in range(EVENTS // KILLS)}
                receiver.answers["/2"] = status(chance.choice([204, 204, 500]))
                until(lambda began=began, few=few: len(receiver.received) >= began + few)  # type: ignore[misc]
                time.sleep(chance.uniform(0, 0.02))  # anywhere in what they do
                victim = running.pop(0)
                victim.kill()
                victim.join(10)
                running.append(_start(office.environment))
                if round_ % 5 == 4:
                    office.pass_time(timedelta(minutes=10))  # leases of the dead run out, and what failed is due
            receiver.answers.clear()
            patience = time.monotonic() + PATIENCE_S
            while office.sql(pending):
                assert time.monotonic() < patience, "something is on its way for ever"
                office.pass_time(timedelta(minutes=10))
                time.sleep(0.3)
        for path, secret in secrets.items():
            got = receiver.at(path)
            assert {each.id for each in got} == told
            assert len({(each.id, each.body) for each in got}) == len(told)
            assert all(accepts(secret, each) for each in got)
        rows = office.sql("SELECT state, count(*) AS number FROM evergrant.delivery GROUP BY state")
        assert [(row["state"], row["number"]) for row in rows] == [("delivered", len(told) * ENDPOINTS)]
        print(f"{len(told)} events, {ENDPOINTS} endpoints, {KILLS} kills: {len(receiver.received)} requests")
        office.close()
