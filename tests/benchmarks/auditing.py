"""`audit`: what telling the audit costs beside a plain table, and how fast chains are made, verified and exported."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import partial
from threading import Event, Thread
from typing import TypeVar
from uuid import uuid4

import psycopg

from tests.benchmarks.measure import Effort, Timing, interleaved
from tests.benchmarks.report import Figure, Goal, Section, at_most
from tests.benchmarks.stage import Stage, server
from vault import Maintenance

ROWS = 200_000
BATCH = 50
"""Refreshes that a writer commits at once."""
TENANTS = 20
CALLS, ROUNDS = 40, 21
T = TypeVar("T")
PLAIN = """
CREATE TABLE plain (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
  tenant text NOT NULL, event text NOT NULL, connection_id uuid, detail jsonb NOT NULL DEFAULT '{}');
CREATE INDEX ON plain (connection_id, id)
"""
"""The audit as it was before it was a chain."""
_TELL = """
INSERT INTO {} (tenant, event, connection_id, detail)
SELECT tenant, 'oauth.refreshed', connection_id,
       jsonb_build_object('epoch', 1, 'version', 1, 'parent', encode(parent, 'hex'), 'refresh', encode(refresh, 'hex'))
  FROM unnest(%b::text[], %b::uuid[], %b::bytea[], %b::bytea[]) AS t(tenant, connection_id, parent, refresh)
"""


def run(effort: Effort) -> list[Section]:
    """Measure."""
    with server() as (postgres, home):
        stage = Stage(postgres, home)
        worker = Maintenance.from_env(stage.environment)
        with stage.connect() as session:
            session.execute(PLAIN.encode())
            quiet = _told(session, effort)
            while_chained = _beside(worker, partial(_told, session, effort))
            rows = effort.of(ROWS, least=1000)
            for _ in range(rows // 1000):
                _tell(session, "evergrant.audit", 1000)
            session.execute("VACUUM ANALYZE")
        figures = [
            *_figures("a row told, 50 a commit", quiet),
            *_figures("… while chains are made without a pause", while_chained),
            *_rates(worker),
        ]
        worker.close()
    return [Section("audit", "The audit: told, chained, verified, exported", figures)]


def _told(session: psycopg.Connection[object], effort: Effort) -> dict[str, Timing]:
    tables = {"plain": "plain", "chained": "evergrant.audit"}
    contenders: dict[str, Callable[[], object]] = {
        name: partial(_tell, session, table, BATCH) for name, table in tables.items()
    }
    timings = interleaved(contenders, calls=effort.of(CALLS, least=3), rounds=effort.of(ROUNDS, least=3))
    return {name: timing.for_each_of(BATCH) for name, timing in timings.items()}


def _tell(session: psycopg.Connection[object], table: str, number: int) -> None:
    tenants = [f"tenant-{n % TENANTS}" for n in range(number)]
    fingerprints = [secrets.token_bytes(16) for _ in range(number)]
    values = (tenants, [uuid4() for _ in range(number)], fingerprints, fingerprints)
    session.execute(_TELL.format(table).encode(), values, prepare=True)


def _beside(worker: Maintenance, measure: Callable[[], dict[str, Timing]]) -> dict[str, Timing]:
    enough = Event()

    def chain() -> None:
        while not enough.is_set():
            worker.audit.chain()

    thread = Thread(target=chain)
    thread.start()
    try:
        return measure()
    finally:
        enough.set()
        thread.join()


def _figures(what: str, timings: dict[str, Timing]) -> list[Figure]:
    plain, chained = timings["plain"], timings["chained"]
    return [
        Figure(f"{what}, into a plain table", plain.median, "µs"),
        Figure(f"{what}, into the audit", chained.median, "µs", chained.beside(plain), "plain", at_most(1.2)),
    ]


def _rates(worker: Maintenance) -> list[Figure]:
    linked, chaining = _timed(worker.audit.chain)
    found, verifying = _timed(worker.audit.verify)
    if not found.passed:
        raise RuntimeError(f"{found.problems} problems: {found.named}")
    lines = list[str]()
    done, exporting = _timed(partial(worker.audit.export, lines.append))
    offline, reading = _timed(partial(worker.audit.verify_lines, lines))
    if not offline.passed:
        raise RuntimeError(f"{offline.problems} problems in the file")
    return [
        Figure("chained", linked / chaining, "rows/s", goal=Goal("≥", 10_000, of_value=True), note=f"{linked:,} rows"),
        Figure("verified", found.rows / verifying, "rows/s", note=f"{found.rows:,} rows, {found.tenants} tenants"),
        Figure("exported", done.rows / exporting, "rows/s"),
        Figure("verified in a file", offline.rows / reading, "rows/s"),
    ]


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    found = call()
    return found, time.perf_counter() - began
