"""How long the slowest wait for a key while the KMS takes its time and the cache runs out again and again."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

from tests.benchmarks.keys.aws import LATENCY_S, aws, kek_uri
from tests.benchmarks.measure import Call, Effort, percentile
from tests.benchmarks.report import Figure, Section, at_most
from tests.benchmarks.stage import PROVIDER, Stage, server
from tests.support.aws import AwsStandIn
from vault import settings as vault_settings
from vault.envelope import context, seal
from vault.kms import open_kms
from vault.wiring import Wiring

OWNERS, TENANTS, SECONDS, THREADS = 10_000, 100, 25.0, 4
LIFE_S = 5
"""Instead of 300: every tenant key is asked for sixty times as often."""
SEALED_ONE_IN = 10
CALLS, AT_ONCE = 1_000, 8
_VALUE = secrets.token_hex(1024).encode()
_MIN_TTL = timedelta(minutes=1)


def run(effort: Effort) -> list[Section]:
    """Measure."""
    with server() as (postgres, home), aws() as kms:
        stage = Stage(postgres, home, kek_uri=kek_uri(kms))
        tenants = [f"tenant-{number}" for number in range(TENANTS)]
        ids = stage.populate(effort.of(OWNERS, least=TENANTS), access_bytes=2048, tenants=tenants)
        kms.proxy.latency = LATENCY_S
        kms.proxy.forget()
        return [_mixed(stage, ids, tenants, kms, effort), _asked(kms, effort)]


def _mixed(stage: Stage, ids: Sequence[UUID], tenants: Sequence[str], kms: AwsStandIn, effort: Effort) -> Section:
    """Values opened by `get()` and now and then one sealed, for owners who come in no order."""
    wiring = Wiring(vault_settings.load({**stage.environment, "VAULT_KEY_CACHE_LIFE_S": str(LIFE_S)}))
    accesses = [wiring.access(tenant) for tenant in tenants]
    opened, sealed = list[float](), list[float]()
    until = time.perf_counter() + max(2.0, SECONDS * effort.share)

    def open_one(number: int) -> None:
        accesses[number % TENANTS].get(ids[number], _MIN_TTL)

    def seal_one(number: int) -> None:
        tenant = tenants[number % TENANTS]
        key = wiring.keys.keyring.sealing_key(tenant, f"owner-{number}", PROVIDER)
        seal(key, _VALUE, context(tenant, ids[number], "access_token"), 1)

    def visit(seed: int) -> None:
        dice = random.Random(seed)
        while time.perf_counter() < until:
            number = dice.randrange(len(ids))
            if dice.randrange(SEALED_ONE_IN):
                opened.append(_timed(partial(open_one, number)))
            else:
                sealed.append(_timed(partial(seal_one, number)))

    began = time.perf_counter()
    _at_once([partial(visit, seed) for seed in range(THREADS)])
    wiring.close()
    calls = kms.proxy.calls.total()
    told = f"{len(opened) + len(sealed):,} values and {calls} calls in {time.perf_counter() - began:.0f} s"
    goal = at_most(100, of_value=True)
    figures = [
        Figure("open (get), median", percentile(opened, 0.5), "ms", note=told),
        Figure("open (get), 99th percentile", percentile(opened, 0.99), "ms", goal=goal),
        Figure("seal 2 KB, median", percentile(sealed, 0.5), "ms"),
        Figure("seal 2 KB, 99th percentile", percentile(sealed, 0.99), "ms", goal=goal),
    ]
    who = f"{len(ids):,} owners in {TENANTS} tenants, {THREADS} threads"
    return Section("keys", f"{who}; cache life {LIFE_S} s, KMS {LATENCY_S * 1e3:.0f} ms away", figures)


def _asked(kms: AwsStandIn, effort: Effort) -> Section:
    """The KMS alone, through the adapter: one caller, and several at once."""
    adapter, bound = open_kms(kek_uri(kms)), {"key_id": str(uuid4())}
    wrapped = adapter.wrap(secrets.token_bytes(32), bound)
    ask = partial(adapter.unwrap, wrapped, bound)
    count = effort.of(CALLS, least=AT_ONCE)
    alone, together = list[float](), list[float]()

    def some(took: list[float], calls: int) -> None:
        took += [_timed(ask) for _ in range(calls)]

    some(alone, count)
    _at_once([partial(some, together, count // AT_ONCE)] * AT_ONCE)
    goal = at_most(200, of_value=True)
    figures = []
    for who, took in (("one caller", alone), (f"{AT_ONCE} callers at once", together)):
        figures.append(Figure(f"{who}, median", percentile(took, 0.5), "ms"))
        figures.append(Figure("… 99th percentile", percentile(took, 0.99), "ms", goal=goal))
    return Section("keys", f"A tenant key unwrapped by a KMS {LATENCY_S * 1e3:.0f} ms away", figures)


def _timed(call: Call) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


def _at_once(calls: Sequence[Call]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
