"""Revocations that wait for a provider, and rows that have had their day."""

from __future__ import annotations

from datetime import timedelta

from tests.integration.store.rows import Rows, answer
from tests.integration.store.test_connections import LIFE, ZERO, _attempt
from vault.store.upkeep import PostgresUpkeep

LEASE = timedelta(minutes=5)


def test_a_revocation_is_taken_by_one_and_put_off_meanwhile(rows: Rows) -> None:
    for _ in range(3):
        rows.connections.disconnect("default", rows.add())
    upkeep = PostgresUpkeep(rows.database)
    first, rest = upkeep.take_revocations(2, LEASE), upkeep.take_revocations(10, LEASE)
    assert [len(first), len(rest)] == [2, 1]
    assert upkeep.take_revocations(10, LEASE) == []
    assert {revocation.attempt for revocation in (*first, *rest)} == {1}
    rows.sql("UPDATE evergrant.revocation SET next_at = now()")
    assert {revocation.attempt for revocation in upkeep.take_revocations(10, LEASE)} == {2}


def test_a_revocation_in_another_session_is_not_waited_for(rows: Rows) -> None:
    for _ in range(2):
        rows.connections.disconnect("default", rows.add())
    upkeep = PostgresUpkeep(rows.database)
    with rows.another_session() as session:
        session.execute("SET statement_timeout = '5s'")
        session.execute("SELECT FROM evergrant.revocation LIMIT 1 FOR UPDATE")
        assert len(upkeep.take_revocations(10, LEASE)) == 1


def test_the_end_of_a_revocation_is_told_once(rows: Rows) -> None:
    each = rows.add()
    rows.connections.disconnect("default", each)
    upkeep = PostgresUpkeep(rows.database)
    [revocation] = upkeep.take_revocations(1, LEASE)
    for _ in range(2):
        upkeep.end_revocation(revocation, "revoked")
    assert rows.all("revocation", each) == []
    assert rows.events(each) == ["connection.disconnected", "connection.revoked"]
    assert rows.detail(each) == {"outcome": "revoked", "attempt": 1}


def test_sweeping_removes_flows_and_candidates_that_have_had_their_day_and_nothing_else(rows: Rows) -> None:
    rows.connections.save_attempt(_attempt(rows, b"over"), ZERO)
    rows.connections.save_attempt(_attempt(rows, b"open"), LIFE)
    for _ in range(3):
        late = rows.claim(rows.add())
        rows.expire_lease(late.connection_id)
        rows.claim()
        rows.refreshing.settle_late(answer(late))
    kept, old, outlived = [row["connection_id"] for row in rows.sql("SELECT connection_id FROM evergrant.candidate")]
    rows.sql("UPDATE evergrant.candidate SET kept_at = now() - interval '31 days' WHERE connection_id = %s", (old,))
    rows.sql("UPDATE evergrant.oauth_grant SET consent = 2 WHERE connection_id = %s", (outlived,))
    upkeep = PostgresUpkeep(rows.database)
    due = {"connect_attempts": 1, "rotations": 0, "candidates": 2, "credentials": 0}
    assert upkeep.sweep(dry_run=True) == due
    assert upkeep.sweep(dry_run=False) == due
    assert upkeep.sweep(dry_run=False) == {"connect_attempts": 0, "rotations": 0, "candidates": 0, "credentials": 0}
    assert rows.connections.take_attempt("default", b"open") is not None
    assert [row["connection_id"] for row in rows.sql("SELECT connection_id FROM evergrant.candidate")] == [kept]
