"""`enqueue`: the durable "refresh this now", with Redis alive, and with Redis frozen."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from celery import Celery

from tests.benchmarks.measure import Effort, Timing, interleaved
from tests.benchmarks.report import Figure, Section, at_most
from tests.benchmarks.stage import Stage, server
from vault import Refresh
from vault.testing.servers import EmbeddedRedis


def run(effort: Effort) -> list[Section]:
    """Measure."""
    with server() as (postgres, home), EmbeddedRedis.start() as redis:
        stage = Stage(postgres, home, redis_url=redis.url)
        vault = stage.vault()
        turn = itertools.cycle(stage.populate(200))

        def enqueue() -> None:
            vault.enqueue(Refresh(next(turn)))

        bare = Celery("bare", broker=redis.url, set_as_current=False)
        contenders: dict[str, Callable[[], Any]] = {
            "enqueue": enqueue,
            "send_task": lambda: bare.send_task("nothing", args=[str(next(turn))], queue="nobody"),
        }
        alive = interleaved(contenders, calls=effort.of(200), rounds=5)
        redis.freeze()
        try:
            frozen = interleaved({"enqueue": enqueue}, calls=effort.of(10, least=2), rounds=1)["enqueue"]
        finally:
            redis.thaw()
        vault.close()
    return [Section("enqueue", "Asking for a refresh: row committed, workers rung", _figures(alive, frozen))]


def _figures(alive: dict[str, Timing], frozen: Timing) -> list[Figure]:
    ours, bare = alive["enqueue"], alive["send_task"]
    return [
        Figure("Celery's send_task alone", bare.median / 1e3, "ms"),
        Figure("vault.enqueue(), median", ours.median / 1e3, "ms", ours.beside(bare), "send_task"),
        Figure("… 99th percentile", ours.p99 / 1e3, "ms", goal=at_most(1.5, of_value=True)),
        Figure("… Redis frozen, median", frozen.median / 1e3, "ms"),
        Figure("… Redis frozen, worst", frozen.p99 / 1e3, "ms", goal=at_most(250, of_value=True)),
    ]
