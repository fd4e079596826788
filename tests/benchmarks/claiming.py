"""`claim`: taking due rows out of few and out of many, with few and with many due, and beside a stuck snapshot."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import psycopg

from tests.benchmarks.measure import Effort
from tests.benchmarks.report import Figure, Section, at_most
from tests.benchmarks.stage import CLIENT_ID, PROVIDER, Stage, server
from vault import settings as vault_settings
from vault.claims import Quota
from vault.store.claims import PostgresClaims
from vault.store.engine import Database

SIZES = (1, 100, 1000)
LEASE = timedelta(seconds=30)
BATCHES_BESIDE_SNAPSHOT = 200
# Indexes that a claim neither reads nor changes: filling a million rows takes half the time without them.
_UNUSED_INDEXES = (
    *("data_key_current", "data_key_by_age", "data_key_replaced", "connection_by_owner", "connection_by_tenant"),
    *("oauth_grant_by_key", "oauth_grant_unwell"),
)
_FILL = """
CREATE TEMPORARY TABLE seed AS
     SELECT n, gen_random_uuid() AS id, gen_random_uuid() AS key_id FROM generate_series(1, {rows}) n;
INSERT INTO evergrant.tenant_key (id, tenant, state, kek_id, algorithm, wrapped)
     VALUES ('00000000-0000-4000-8000-000000000001', 'default', 'current', 'local', 'local', '');
INSERT INTO evergrant.data_key (id, tenant, owner, provider, purpose, state, tenant_key_id, wrapped)
     SELECT key_id, 'default', 'owner-' || n, '{provider}', 'grant', 'current',
            '00000000-0000-4000-8000-000000000001', decode(repeat('00', 64), 'hex') FROM seed;
INSERT INTO evergrant.connection (id, tenant, owner, provider)
     SELECT id, 'default', 'owner-' || n, '{provider}' FROM seed;
INSERT INTO evergrant.oauth_grant (connection_id, tenant, status, version, data_key_id, client_id, expires_at,
                                   refreshed_at, stale_at, refresh_fp, access_envelope, refresh_envelope)
     SELECT id, 'default', 'active', 1, key_id, '{client_id}', now() + n * interval '1 ms', now() - interval '1 hour',
            now() + interval '1 hour', uuid_send(id), decode(repeat('00', 316), 'hex'), decode(repeat('00', 196), 'hex')
       FROM seed;
INSERT INTO evergrant.schedule (connection_id, client, next_at, epoch)
     SELECT id, '{provider}', CASE WHEN n <= {due} THEN now() - interval '10 minutes' + n * interval '1 ms'
                              ELSE now() + interval '1 day' + n * interval '1 ms' END, 1 FROM seed;
"""
_SETTLE = b"""
UPDATE evergrant.schedule SET lease_until = to_timestamp(0), attempt = 0, intent_fp = NULL, intent_at = NULL,
       next_at = clock_timestamp() WHERE connection_id = ANY(%b)
"""


class Table:
    """A schedule of so many rows of which so many are due, and a claimer that goes on from where it was."""

    def __init__(self, stage: Stage, rows: int, due: int) -> None:
        self.rows, self.due = rows, due
        self._connection = stage.connect()
        fill = _FILL.format(rows=rows, due=due, provider=PROVIDER, client_id=CLIENT_ID)
        for index in _UNUSED_INDEXES:
            self._connection.execute(f"DROP INDEX evergrant.{index}".encode())
        with self._connection.transaction():
            self._connection.execute("SET LOCAL session_replication_role = replica")  # no foreign keys checked
            self._connection.execute(fill.encode())
        self._connection.execute("VACUUM ANALYZE")
        database = Database(vault_settings.load(stage.environment).database_url)
        self._claims = PostgresClaims(database, quarantine_wait=timedelta(hours=1))
        self._since: datetime | None = None

    def claim(self, size: int) -> float:
        """Claim so many rows and return the milliseconds it took; settled then, each is due again, after all others."""
        began = time.perf_counter()
        claims = self._claims.claim([Quota(PROVIDER, size, LEASE, self._since)])
        took = time.perf_counter() - began
        if len(claims) != size:
            raise RuntimeError(f"{len(claims)} rows claimed instead of {size}")
        self._since = max(claim.due_at for claim in claims)  # the drain's watermark
        self._connection.execute(_SETTLE, ([claim.connection_id for claim in claims],))
        return took * 1e3

    def close(self) -> None:
        """Close the connections."""
        self._claims.close()
        self._connection.close()


def run(effort: Effort) -> list[Section]:
    """Measure."""
    million = effort.of(1_000_000, least=100_000)
    with server() as (postgres, home), ExitStack() as stack:

        def table(rows: int, due: int) -> Table:
            made = Table(Stage(postgres, home), rows, due)
            stack.callback(made.close)
            return made

        small, large, backlog = table(10_000, 5_000), table(million, 5_000), table(million, million // 2)
        huge = [table(10_000_000, 5_000)] if effort.ten_million else []
        sections = [_sizes([small, large, *huge], effort), _backlog(large, backlog, effort)]
        snapshot = stack.enter_context(psycopg.connect(_url_of(large), autocommit=True))
        sections.append(_beside_snapshot(large, snapshot, effort))
    return sections


def _url_of(table: Table) -> str:
    info = table._connection.info
    return f"postgresql://{info.user}@/{info.dbname}?host={info.host}"


def _sizes(tables: Sequence[Table], effort: Effort) -> Section:
    contenders = {(size, table.rows): partial(table.claim, size) for size in SIZES for table in tables}
    took = _medians(contenders, effort.of(40, least=5))
    figures = []
    for size in SIZES:
        least = took[size, tables[0].rows]
        for table in tables:
            ratio = took[size, table.rows] / least if table is not tables[0] else None
            bound = 1.5 if table is tables[1] else 2.0
            goal = at_most(bound) if ratio and size == 1000 else None
            what = f"claim {size:,} of {table.rows:,} rows"
            figures.append(Figure(what, took[size, table.rows], "ms", ratio, f"{tables[0].rows:,} rows", goal))
    return Section("claim", "Claiming due rows (5,000 are due)", figures)


def _backlog(few: Table, many: Table, effort: Effort) -> Section:
    took = _medians({t.due: partial(t.claim, 1000) for t in (few, many)}, effort.of(40, least=5))
    ratio = took[many.due] / took[few.due]
    figures = [
        Figure(f"claim 1,000 with {few.due:,} due", took[few.due], "ms"),
        Figure(f"claim 1,000 with {many.due:,} due", took[many.due], "ms", ratio, f"{few.due:,} due", at_most(1.3)),
    ]
    return Section("claim", f"Claiming after an outage ({many.rows:,} rows)", figures)


def _beside_snapshot(table: Table, snapshot: psycopg.Connection[Any], effort: Effort) -> Section:
    rounds = effort.of(40, least=5)
    before = statistics.median([table.claim(100) for _ in range(rounds)])
    snapshot.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    snapshot.execute("SELECT count(*) FROM (SELECT 1 FROM evergrant.schedule LIMIT 1) one")
    for _ in range(BATCHES_BESIDE_SNAPSHOT):
        table.claim(100)
    beside = statistics.median([table.claim(100) for _ in range(rounds)])
    snapshot.execute("ROLLBACK")
    figures = [
        Figure("claim 100", before, "ms"),
        Figure("… after 200 batches", beside, "ms", beside / before, "without it", at_most(1.5)),
    ]
    return Section("claim", "Claiming beside a transaction somebody forgot to end", figures)


def _medians(contenders: Mapping[Any, Callable[[], float]], rounds: int) -> dict[Any, float]:
    """Call each of them once a round, in a new order every round; they say themselves how long they took."""
    took: dict[Any, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for call in contenders.values():
        call()
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            took[name].append(contenders[name]())
    return {name: statistics.median(values) for name, values in took.items()}
