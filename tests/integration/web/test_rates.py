"""Rates: what a bucket holds, whoever takes from it, and what becomes of it while Redis is away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from redis import Redis

from tests.integration.house import NOBODY_HERE
from vault.quotas import AWAY_S, LOT_LIFE_S, SharedQuota
from vault.secret import Secret


class Clock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shared(redis_url: str, clock: Clock) -> Iterator[SharedQuota]:
    made = SharedQuota(Secret(redis_url), clock)
    yield made
    made.close()


def taken(quota: SharedQuota, times: int, rate: float, bucket: str = "b") -> int:
    return sum(quota.take_at_hand(bucket, rate) or quota.take(bucket, rate) is None for _ in range(times))


def test_a_bucket_holds_two_seconds_of_its_rate(shared: SharedQuota, redis_url: str, clock: Clock) -> None:
    other = SharedQuota(Secret(redis_url), clock)
    assert taken(shared, 5, 5.0) == 5
    assert 5 <= taken(other, 20, 5.0) <= 7, "the same bucket, through Redis"
    wait = shared.take("b", 5.0)
    assert wait is not None
    assert timedelta(0) < wait <= timedelta(seconds=0.2)
    assert taken(shared, 3, 5.0, "another") == 3
    other.close()


def test_a_slow_rate_still_gives_one(shared: SharedQuota) -> None:
    assert taken(shared, 3, 0.01) == 1
    wait = shared.take("b", 0.01)
    assert wait is not None
    assert timedelta(seconds=90) < wait <= timedelta(seconds=100)


def test_redis_is_asked_for_a_lot_at_once(shared: SharedQuota, redis_url: str, clock: Clock) -> None:
    with Redis.from_url(redis_url) as redis:
        before = redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
        assert taken(shared, 100, 1000.0) == 100
        asked = redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before
        assert asked <= 2
    clock.now += LOT_LIFE_S + 0.1
    assert not shared.take_at_hand("b", 1000.0), "what was not used by then is let go of"


def test_lots_that_are_fetched_at_the_same_time_are_all_of_use(shared: SharedQuota) -> None:
    """A burst finds no lot at hand and fetches one for each of its requests: none takes another's place."""
    together = threading.Barrier(10)

    def burst(_: int) -> bool:
        together.wait()
        return shared.take("b", 50.0) is None

    with ThreadPoolExecutor(10) as threads:
        assert all(threads.map(burst, range(10)))
    assert taken(shared, 80, 50.0) == 80


def test_while_redis_is_away_each_process_counts_for_itself(clock: Clock) -> None:
    quota = SharedQuota(Secret(NOBODY_HERE), clock)
    assert taken(quota, 30, 5.0) == 10
    assert quota.take("b", 5.0) is not None
    clock.now += 1.0
    assert quota.take_at_hand("b", 5.0), "nobody is asked"
    assert taken(quota, 30, 5.0) == 4
    clock.now += AWAY_S
    assert not quota.take_at_hand("b", 5.0), "now Redis is asked again"
    quota.close()


def test_a_redis_that_forgot_its_scripts_gives_on(shared: SharedQuota, redis_url: str) -> None:
    assert taken(shared, 2, 10.0) == 2
    with Redis.from_url(redis_url) as redis:
        redis.script_flush()
    assert taken(shared, 2, 10.0, "c") == 2
