"""Rates and bad days of providers are one for all processes, through a real Redis; without it each goes by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from tests.support.fake_keys import Clock
from vault.limits.board import PATIENCE_S, PREFIX, RedisBoard
from vault.limits.bucket import ASK_EVERY_S, KEPT_S, SharedBucket
from vault.limits.gate import FIRST_PAUSE_S, LOOK_EVERY_S, OPERATOR_PAUSE_S, TRIP_AFTER, ProviderGate
from vault.provider import Client, Provider
from vault.secret import Secret

ACME = Provider("acme", "", "", max_in_flight=64, client=Client("a", Secret("s3cret")))
RATED = Provider("rated", "", "", rate_per_second=20.0, client=Client("a", Secret("s3cret")))
ROLLED = Provider("acme", "", "", max_in_flight=64, client=Client("a", Secret("another")))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def gate(redis_url: str, clock: Clock) -> ProviderGate:
    """One process's."""
    board = RedisBoard(Secret(redis_url), clock)
    return ProviderGate(clock, SharedBucket(board, clock), board)


@pytest.fixture
def two(redis_url: str, clock: Clock) -> tuple[ProviderGate, ProviderGate]:
    return gate(redis_url, clock), gate(redis_url, clock)


def trip(each: ProviderGate, provider: Provider = ACME) -> None:
    for _ in range(TRIP_AFTER):
        each.failed(provider, operator=False, retry_after=None)


def looked(each: ProviderGate, clock: Clock, provider: Provider = ACME) -> int:
    """What there is room for after the next look at what others say."""
    each.room(provider)
    clock.pass_by(LOOK_EVERY_S + 0.01)
    return each.room(provider)


def test_one_rate_is_kept_by_all_processes_together(two: tuple[ProviderGate, ProviderGate], redis_url: str) -> None:
    """By Redis's own clock, so for real seconds."""
    import time

    sent, until = 0, time.monotonic() + 2.0
    clock = Clock()
    clock.seconds = time.monotonic()
    gates = [gate(redis_url, clock) for _ in range(3)]
    while time.monotonic() < until:
        clock.seconds = time.monotonic()
        for each in gates:
            room = each.room(RATED)
            each.take(RATED, room)
            sent += room
        time.sleep(0.002)
    assert 10 <= sent <= 41, "two seconds at nineteen, and one to begin with; fewer where this machine is busy"


def test_what_was_taken_out_and_not_used_is_not_saved_up(redis_url: str, clock: Clock) -> None:
    mine = gate(redis_url, clock)
    assert mine.room(RATED) == 1
    clock.pass_by(KEPT_S)
    assert mine.room(RATED) <= 1
    assert Redis.from_url(redis_url).ttl(f"{PREFIX}rate:rated") > 0, "buckets of providers that are gone go too"


def test_an_empty_bucket_is_not_asked_at_every_look(redis_url: str, clock: Clock) -> None:
    mine = gate(redis_url, clock)
    mine.take(RATED, mine.room(RATED))
    redis = Redis.from_url(redis_url)
    assert mine.room(RATED) in (0, 1)
    mine.take(RATED, mine.room(RATED))
    before = redis.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    for _ in range(50):
        mine.room(RATED)
    after = redis.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    assert after - before <= 1
    clock.pass_by(ASK_EVERY_S)


def test_a_bad_day_found_out_by_one_is_everybodys(two: tuple[ProviderGate, ProviderGate], clock: Clock) -> None:
    mine, theirs = two
    assert theirs.room(ACME) == 64
    trip(mine)
    assert looked(theirs, clock) == 0
    assert timedelta(0) < theirs.pause(ACME) <= timedelta(seconds=FIRST_PAUSE_S)


@pytest.mark.parametrize("said", [b"often", b"1e400", b"-1", b"9" * 40, [b"1"]])
def test_what_others_write_there_by_mistake_stops_nobody(redis_url: str, clock: Clock, said: Any) -> None:
    acme = gate(redis_url, clock)
    acme.room(ACME)
    [breaker] = acme._breakers.values()
    name = f"{PREFIX}shut:{breaker.name}"
    with Redis.from_url(redis_url) as there:
        if isinstance(said, list):
            there.rpush(name, *said)
        else:
            there.set(name, said)
        there.expire(name, 60)
        assert looked(acme, clock) == 64
        there.delete(name)


def test_one_probe_is_sent_by_all_together_and_its_success_is_everybodys(
    two: tuple[ProviderGate, ProviderGate], clock: Clock
) -> None:
    mine, theirs = two
    theirs.room(ACME)
    trip(mine)
    looked(theirs, clock)
    clock.pass_by(FIRST_PAUSE_S + 0.1)
    Redis.from_url(_url(mine)).delete(*Redis.from_url(_url(mine)).keys(f"{PREFIX}shut:*"))  # its time there is real
    rooms = [mine.room(ACME), theirs.room(ACME)]
    assert sorted(rooms) == [0, 1]
    prober, other = (mine, theirs) if rooms[0] else (theirs, mine)
    prober.take(ACME, 1)
    assert other.room(ACME) == 0
    prober.succeeded(ACME)
    assert prober.room(ACME) == 64
    assert looked(other, clock) in (1, 64)
    other.take(ACME, 1)
    other.succeeded(ACME)
    assert other.room(ACME) == 64


def test_a_probe_that_fails_lets_the_next_pause_be_everybodys(
    two: tuple[ProviderGate, ProviderGate], clock: Clock
) -> None:
    mine, theirs = two
    theirs.room(ACME)
    trip(mine)
    clock.pass_by(FIRST_PAUSE_S + 0.1)
    Redis.from_url(_url(mine)).flushdb()
    assert mine.room(ACME) == 1
    mine.take(ACME, 1)
    mine.failed(ACME, operator=False, retry_after=None)
    assert looked(theirs, clock) == 0
    assert theirs.pause(ACME) > timedelta(seconds=FIRST_PAUSE_S)


def test_a_refused_secret_is_held_against_those_who_have_it_alone(redis_url: str, clock: Clock) -> None:
    mine, theirs, rolled = gate(redis_url, clock), gate(redis_url, clock), gate(redis_url, clock)
    theirs.room(ACME)
    rolled.room(ROLLED)
    mine.failed(ACME, operator=True, retry_after=None)
    assert looked(theirs, clock) == 0
    assert theirs.pause(ACME) > timedelta(0)
    assert looked(rolled, clock, ROLLED) == 64
    [key] = Redis.from_url(redis_url).keys(f"{PREFIX}shut:*")
    assert b"s3cret" not in key
    assert Redis.from_url(redis_url).ttl(key) > OPERATOR_PAUSE_S - 60


def test_without_redis_each_goes_by_what_it_knows(clock: Clock) -> None:
    alone = gate("redis://127.0.0.1:1/0", clock)
    sent = 0
    for _ in range(100):
        room = alone.room(RATED)
        alone.take(RATED, room)
        sent += room
        clock.pass_by(0.05)
    assert 95 <= sent <= 125, "five seconds at twenty, and a second's saved up"
    trip(alone)
    assert alone.room(ACME) == 0
    clock.pass_by(FIRST_PAUSE_S + 0.1)
    assert alone.room(ACME) == 1


def test_redis_that_comes_back_is_asked_again(redis_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    board = RedisBoard(Secret("redis://127.0.0.1:1/0"), clock)
    assert board.withdraw("acme", 20.0, 2) is None
    monkeypatch.setattr(board, "_url", Secret(redis_url))
    board._client = board._withdraw = None
    assert board.withdraw("acme", 20.0, 2) is None, "left alone for a while"
    clock.pass_by(PATIENCE_S)
    assert board.withdraw("acme", 20.0, 2) == 2


def _url(each: ProviderGate) -> str:
    board = each._board
    assert isinstance(board, RedisBoard)
    return board._url.reveal()
