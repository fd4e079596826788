"""How many calls to the KMS reading costs, and how much of it the cache of keys saves."""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from prometheus_client import REGISTRY

from tests.benchmarks.keys.aws import aws, count, kek_uri
from tests.benchmarks.measure import Effort
from tests.benchmarks.report import Figure, Section, at_least, at_most
from tests.benchmarks.stage import Stage, server
from tests.demo.owners import owner_name, tenant_of
from tests.demo.webapp import USERS, WebApp
from tests.support.aws import AwsStandIn
from vault import Maintenance, Vault

OWNERS, TENANTS, GETS = 10_000, 10, 100_000
DEMO_OWNERS, DEMO_TENANTS, DEMO_SECONDS, DEMO_VISITORS = 300, 3, 26, 2 + USERS
"""As `make demo` has it, unless told otherwise."""


class Lookups:
    """Look-ups of data keys in the cache since it was made, all vaults of this process together."""

    def __init__(self) -> None:
        self._before = self._now()

    def hit_rate(self) -> float:
        """Return the share of look-ups that found the key. Up to 1,023 hits are not yet counted."""
        hits, misses = (now - before for now, before in zip(self._now(), self._before, strict=True))
        return hits / (hits + misses)

    @staticmethod
    def _now() -> tuple[float, float]:
        hits, misses = (
            REGISTRY.get_sample_value("evergrant_kms_key_cache_total", {"result": result}) or 0.0
            for result in ("hit", "miss")
        )
        return hits, misses


def run(effort: Effort) -> list[Section]:
    """Measure."""
    with server() as (postgres, home), aws() as kms:
        reading = _reading(Stage(postgres, home, kek_uri=kek_uri(kms)), kms, effort)
        visiting = _visiting(Stage(postgres, home, kek_uri=kek_uri(kms)), effort)
    return [reading, visiting]


def _reading(stage: Stage, kms: AwsStandIn, effort: Effort) -> Section:
    owners, gets = effort.of(OWNERS, least=TENANTS), effort.of(GETS, least=10 * TENANTS)
    tenants = [tenant_of(number, TENANTS) for number in range(TENANTS)]
    ids = stage.populate(owners, tenants=tenants)
    kms.proxy.forget()
    with _opened(stage) as vault:
        vaults = [vault.for_tenant(tenant) for tenant in tenants]
        turns = [number % owners for number in range(gets)]
        random.shuffle(turns)
        lookups, took = Lookups(), []
        began = time.perf_counter()
        for turn in turns:
            asked = time.perf_counter()
            vaults[turn % TENANTS].get(ids[turn])
            took.append((time.perf_counter() - asked) * 1e6)
        total = time.perf_counter() - began
    calls = kms.proxy.calls.total()
    told = f"{count(kms, 'Decrypt')} Decrypt; {total:.0f} s of a cache life of 300 s"
    figures = [
        Figure("calls to the KMS", calls, "", goal=at_most(TENANTS, of_value=True), note=told),
        Figure("look-ups that found the key", lookups.hit_rate() * 100, "%"),
        Figure("one get(), median", statistics.median(took), "µs"),
    ]
    return Section("keys", f"{gets:,} get() of {owners:,} owners in {TENANTS} tenants, one cold process", figures)


def _visiting(stage: Stage, effort: Effort) -> Section:
    """The demo's own web app, over as many connections; half-way, as the demo does not, every data key is replaced."""
    tenants = [tenant_of(number, DEMO_TENANTS) for number in range(DEMO_TENANTS)]
    entries = stage.home / "connections.jsonl"
    _write(entries, stage.populate(DEMO_OWNERS, tenants=tenants), tenants)
    seconds = effort.of(DEMO_SECONDS, least=DEMO_SECONDS)  # a shorter run sees each owner too seldom
    with _opened(stage) as vault:
        app = WebApp(vault, entries, "", timedelta(0))
        app.look_for_connections()
        visitors = [threading.Thread(target=app.visit, args=(seed, None)) for seed in range(DEMO_VISITORS)]
        lookups = Lookups()
        for visitor in visitors:
            visitor.start()
        time.sleep(seconds / 2)
        maintenance = Maintenance.from_env(stage.environment)
        replaced = maintenance.rotate_data_keys(timedelta(0))
        time.sleep(seconds / 2)
        app.ended.set()
        for visitor in visitors:
            visitor.join()
        maintenance.close()
    report = app.report(final=True)
    told = f"{report['served']} tokens, uniformly among {DEMO_OWNERS} owners; {replaced} data keys replaced half-way"
    figures = [
        Figure("look-ups that found the key", lookups.hit_rate() * 100, "%", goal=at_least(90), note=told),
        Figure("a visitor's wait, 99th percentile", float(str(report["p99_ms"])), "ms"),
    ]
    return Section("keys", f"The traffic of the demo: {DEMO_VISITORS} visitors, {seconds} s", figures)


@contextmanager
def _opened(stage: Stage) -> Iterator[Vault]:
    vault = stage.vault()
    try:
        yield vault
    finally:
        vault.close()


def _write(file: Path, ids: Sequence[UUID], tenants: Sequence[str]) -> None:
    """Write connections as the demo's owners do."""
    lines = [
        json.dumps({"id": str(each), "tenant": tenants[number % len(tenants)], "owner": owner_name(number)})
        for number, each in enumerate(ids)
    ]
    file.write_text("".join(f"{line}\n" for line in lines))
