"""Joins the provider's own log with the database and its audit rows, and says what does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import psycopg

from tests.simulator import Oracle
from vault.engine.sealing import REFRESH_TOKEN
from vault.envelope import context, key_id, open_envelope
from vault.settings import load
from vault.wiring import Wiring

STORING = ("connection.connected", "connection.reconnected", "oauth.refreshed", "oauth.candidate_adopted")
CLOCKS = 0.05
"""Seconds by which the provider's log and the database may differ: one machine, two roundings."""


class Row(NamedTuple):
    """What the database says of one connection."""

    id: UUID
    owner: str
    status: str
    reason: str | None
    refresh_token: str | None


@dataclass
class Findings:
    """What the join gave."""

    connections: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    refreshes: int = 0
    lost: int = 0
    """Consents that were flagged as needing their owner again."""
    lost_answers: int = 0
    """Consents one of whose answers was never stored, by the provider's count."""
    dead_at_provider: int = 0
    problems: list[str] = field(default_factory=list)


def check(environ: Mapping[str, str], oracle: Oracle, *, strict: bool) -> Findings:
    """Join and judge."""
    wiring = Wiring(load(environ))
    found = Findings()
    with psycopg.connect(environ["VAULT_DATABASE_URL"], autocommit=True) as database:
        rows = _rows(database, wiring)
        stored = _stored(database)
        flagged = _flagged(database)
    found.connections = len(rows)
    for row in rows:
        found.statuses[row.status] += 1
        prints = _Prints(wiring, row, oracle)
        _check_row(found, row, oracle, prints, stored.get(row.id, {}), strict=strict)
        _check_flags(found, row, oracle, prints, stored.get(row.id, {}), flagged[row.id], strict=strict)
    found.refreshes = sum(oracle.count(event) for event in ("spent", "replayed", "used"))
    wiring.close()
    return found


class _Prints:
    """Fingerprints of every refresh token the provider ever gave to one owner."""

    def __init__(self, wiring: Wiring, row: Row, oracle: Oracle) -> None:
        fingerprint = wiring.keys.keyring.fingerprinter("default")
        self.tokens = {fingerprint(row.id, token).hex(): token for token in oracle.lineage(row.owner)}


def _check_row(
    found: Findings, row: Row, oracle: Oracle, prints: _Prints, stored: dict[str, tuple[str | None, float]], *,
    strict: bool,
) -> None:  # fmt: skip
    foreign = [fp for fp in stored if fp not in prints.tokens]
    if foreign:
        found.problems.append(f"{row.owner}: stored {len(foreign)} tokens that were never issued for it")
    for parent, at in stored.values():
        token = prints.tokens.get(parent or "")
        again = [t for t in oracle.sent_log(token) if t > at + CLOCKS] if token and _rotates(parent, stored) else []
        if again:
            late = max(again) - at
            found.problems.append(f"{row.owner}: a refresh token was sent {late:.3f} s after its successor was stored")
    alive = oracle.alive(row.owner)
    found.dead_at_provider += not alive
    if row.status == "needs_reconnect":
        return
    if row.refresh_token is None:
        found.problems.append(f"{row.owner}: {row.status} without a refresh token")
    elif oracle.issued(row.refresh_token).account != row.owner:
        found.problems.append(f"{row.owner}: holds a token of {oracle.issued(row.refresh_token).account}")
    elif not alive and not strict:
        found.problems.append(f"{row.owner}: dead at the provider and {row.status} here")
    elif alive and not oracle.accepts(row.refresh_token):
        found.problems.append(f"{row.owner}: alive at the provider, {row.status} here, with a token it does not accept")
    elif not alive:
        found.problems.append(f"{row.owner}: dead at the provider, not flagged: {row.status} ({row.reason})")


def _check_flags(
    found: Findings, row: Row, oracle: Oracle, prints: _Prints, stored: dict[str, tuple[str | None, float]],
    flagged: int, *, strict: bool,
) -> None:  # fmt: skip
    """Hold the losses we told of against answers that never became ours, consent by consent."""
    unstored = {
        oracle.issued(token).family
        for fp, token in prints.tokens.items() if fp not in stored and oracle.parent(token) is not None
    }  # fmt: skip
    found.lost += flagged
    found.lost_answers += len(unstored)
    if flagged > len(unstored):
        found.problems.append(
            f"{row.owner}: flagged {flagged} times, {len(unstored)} of them with an answer not stored"
        )
    elif strict and flagged < len(unstored):
        found.problems.append(f"{row.owner}: {len(unstored)} consents with an answer not stored, {flagged} flagged")


def _rotates(parent: str | None, stored: Mapping[str, tuple[str | None, float]]) -> bool:
    """Whether the successor of this token is another token: one that is not rotated may be sent for ever."""
    return any(before == parent and fp != parent for fp, (before, _) in stored.items())


def _rows(database: psycopg.Connection[tuple[object, ...]], wiring: Wiring) -> list[Row]:
    query = """
        SELECT c.id, c.owner, g.status, g.reason, g.version, g.refresh_envelope
          FROM evergrant.connection c JOIN evergrant.oauth_grant g ON g.connection_id = c.id ORDER BY c.owner"""
    rows = []
    for connection_id, owner, status, reason, version, envelope in database.execute(query):
        assert isinstance(connection_id, UUID)
        assert isinstance(version, int)
        token = None
        if isinstance(envelope, bytes):
            key = wiring.keys.keyring.opening_key(key_id(envelope))
            token = open_envelope(key, envelope, context("default", connection_id, REFRESH_TOKEN), version).decode()
        rows.append(Row(connection_id, str(owner), str(status), str(reason) if reason else None, token))
    return rows


def _flagged(database: psycopg.Connection[tuple[object, ...]]) -> Counter[UUID]:
    """How often each connection was flagged as needing its owner."""
    query = "SELECT connection_id, count(*) FROM evergrant.audit WHERE event = 'connection.needs_reconnect' GROUP BY 1"
    return Counter(dict(database.execute(query).fetchall()))  # type: ignore[arg-type]


def _stored(database: psycopg.Connection[tuple[object, ...]]) -> dict[UUID, dict[str, tuple[str | None, float]]]:
    """For each connection the fingerprints ever stored, with parents and instants: the audit's word, not the row's."""
    query = """
        SELECT connection_id, detail->>'refresh', detail->>'parent', extract(epoch FROM at)::float8
          FROM evergrant.audit WHERE event = ANY(%s) ORDER BY id"""
    stored: dict[UUID, dict[str, tuple[str | None, float]]] = {}
    for connection_id, refresh, parent, at in database.execute(query, (list(STORING),)):
        assert isinstance(connection_id, UUID)
        assert isinstance(at, float)
        stored.setdefault(connection_id, {})[str(refresh)] = (str(parent) if parent else None, at)
    return stored
