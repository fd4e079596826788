"""Counting: in the database, in the provider's journal, in the metrics that every process left. Nothing is assumed."""

from __future__ import annotations

import json
import struct
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.samples import Sample

from tests.simulator import Oracle

_COUNTS = """
SELECT (SELECT count(*) FROM evergrant.connection),
       (SELECT count(*) FROM evergrant.audit WHERE event = 'oauth.refreshed'),
       (SELECT count(*) FROM evergrant.schedule WHERE lease_until > now())
"""
_STATES = """
SELECT c.owner, g.status, g.reason, extract(epoch FROM g.refreshed_at)::float8
  FROM evergrant.connection c JOIN evergrant.oauth_grant g ON g.connection_id = c.id
"""
_IN_FLIGHT = "SELECT connection_id::text, epoch FROM evergrant.schedule WHERE lease_until > now()"
_SETTLED = """
SELECT connection_id::text, (detail ->> 'epoch')::bigint FROM evergrant.audit
 WHERE event = 'oauth.refreshed' AND connection_id = ANY (%s::uuid[])
"""
_KEKS = "SELECT kek_id, count(*) FROM evergrant.tenant_key GROUP BY kek_id"


class Counts(NamedTuple):
    """What the database says at a glance."""

    connections: int
    refreshes: int
    in_flight: int


class State(NamedTuple):
    """One connection in the database."""

    owner: str
    status: str
    reason: str | None
    refreshed_at: float


InFlight = frozenset[tuple[str, int]]
"""Claims in somebody's hands: connection and epoch."""


class Books:
    """The database, read from outside."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def counts(self) -> Counts:
        """Read the totals."""
        return Counts(*self._rows(_COUNTS)[0])

    def states(self) -> list[State]:
        """Read every connection."""
        return [State(*row) for row in self._rows(_STATES)]

    def in_flight(self) -> InFlight:
        """Read which claims are held at this moment."""
        return frozenset((connection, epoch) for connection, epoch in self._rows(_IN_FLIGHT))

    def unsettled(self, claims: InFlight) -> int:
        """Count claims that never led to a stored answer."""
        settled = set(self._rows(_SETTLED, ([connection for connection, _ in claims],)))
        return len(claims - settled)

    def tenant_keys(self) -> dict[str, int]:
        """Count tenant keys by the master key they are wrapped under."""
        return dict(self._rows(_KEKS))

    def now(self) -> float:
        """The database's clock, in epoch seconds."""
        instant: float = self._rows("SELECT extract(epoch FROM clock_timestamp())::float8")[0][0]
        return instant

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        return self._connection.execute(statement.encode(), parameters or None).fetchall()


class Metrics(NamedTuple):
    """Sums over every process there was, killed ones included."""

    kms: dict[str, int]
    """Calls by operation and outcome: `wrap ok`, `unwrap ok`."""
    gets: dict[str, int]
    """Tokens asked for, by how it ended."""


def read_metrics(directory: Path, only: str = "") -> Metrics:
    """Add up the counters of every life of every process, or of those whose name begins with a word."""
    kms: Counter[str] = Counter()
    gets: Counter[str] = Counter()
    for life in directory.glob(f"{only}*"):
        for sample in _samples(life):
            if sample.name == "evergrant_kms_calls_total":
                kms[f"{sample.labels['operation']} {sample.labels['outcome']}"] += int(sample.value)
            elif sample.name == "evergrant_gets_total":
                gets[sample.labels["outcome"]] += int(sample.value)
    return Metrics(dict(kms), dict(gets))


def _samples(life: Path) -> list[Sample]:
    """Read one life's counters, again if a process is just making its file, which is empty for an instant."""
    for patience in (0.05, 0.2, 1.0, 0.0):
        try:
            families = MultiProcessCollector(CollectorRegistry(), path=str(life)).collect()  # type: ignore[no-untyped-call]
            return [sample for family in families for sample in family.samples]
        except struct.error:
            if not patience:
                raise
            time.sleep(patience)
    raise AssertionError("the last try returns or raises")


class Journal(NamedTuple):
    """What the provider has to say."""

    refreshes: int
    """Refresh requests that it answered with new tokens."""
    undelivered: int
    """Answers that it noticed did not arrive."""
    sent_again: int
    """Refresh tokens that came more than once."""
    dead: frozenset[str]
    """Accounts none of whose refresh tokens would be accepted."""


def read_journal(oracle: Oracle, accounts: Sequence[str], now: float) -> Journal:
    """Ask the provider's oracle about every account."""
    return Journal(
        refreshes=sum(answer.event != "issued" for answer in oracle.answers()),
        undelivered=len(oracle.answers_lost()),
        sent_again=sum(times > 1 for times in oracle.presented().values()),
        dead=frozenset(account for account in accounts if not oracle.alive(account, at=now)),
    )


def read_report(path: Path) -> dict[str, Any]:
    """The web app's last report; empty when there is none yet."""
    report: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return report
