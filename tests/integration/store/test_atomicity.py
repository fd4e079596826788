"""A change and its audit row are one: a session that dies between the two leaves neither."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.store.rows import Rows, answer, verdict
from vault.claims import Revocation
from vault.errors import StoreUnavailable
from vault.model import Status
from vault.store.upkeep import PostgresUpkeep

Change = Callable[[], object]


def _stores(rows: Rows) -> Change:
    claim = rows.claim(rows.add())
    return lambda: rows.refreshing.settle([answer(claim)], [])


def _ends(rows: Rows) -> Change:
    claim = rows.claim(rows.add())
    return lambda: rows.refreshing.settle([], [verdict(claim)])


def _stores_late(rows: Rows) -> Change:
    claim = rows.claim(rows.add())
    rows.expire_lease(claim.connection_id)
    return lambda: rows.refreshing.settle_late(answer(claim))


def _keeps_a_candidate(rows: Rows) -> Change:
    late = rows.claim(rows.add())
    rows.expire_lease(late.connection_id)
    rows.claim()
    return lambda: rows.refreshing.settle_late(answer(late))


def _condemns(rows: Rows) -> Change:
    dead = verdict(rows.claim(rows.add()), status=Status.NEEDS_RECONNECT, event="connection.needs_reconnect", wait=None)
    return lambda: rows.refreshing.condemn(dead, client_id="ours", spooled=False)


def _adopts(rows: Rows) -> Change:
    late = rows.claim(rows.add())
    rows.expire_lease(late.connection_id)
    holder = rows.claim()
    candidate = answer(late)
    rows.refreshing.settle_late(candidate)
    return lambda: rows.refreshing.adopt(holder, candidate)


def _connects(rows: Rows) -> Change:
    grant = rows.grant()
    return lambda: rows.connections.connect(grant)


def _reconnects(rows: Rows) -> Change:
    grant = rows.grant(connection_id=rows.add(), version=2)
    return lambda: rows.connections.connect(grant)


def _disconnects(rows: Rows) -> Change:
    each = rows.add()
    return lambda: rows.connections.disconnect("default", each)


def _ends_a_revocation(rows: Rows) -> Change:
    rows.connections.disconnect("default", rows.add())
    rows.sql("UPDATE evergrant.revocation SET next_at = now() + interval '1 h'")
    upkeep = PostgresUpkeep(rows.database)
    [waiting] = rows.sql("SELECT * FROM evergrant.revocation")
    return lambda: upkeep.end_revocation(_revocation(waiting), "revoked")


def _replaces_a_key(rows: Rows) -> Change:
    old = rows.key()
    new = rows.new_key()
    return lambda: rows.keys.replace_data_keys([(old, new)])


def _revocation(row: dict[str, Any]) -> Revocation:
    return Revocation(**{name: row[name] for name in Revocation._fields})


CHANGES = [
    _stores,
    _ends,
    _stores_late,
    _keeps_a_candidate,
    _condemns,
    _adopts,
    _connects,
    _reconnects,
    _disconnects,
    _ends_a_revocation,
    _replaces_a_key,
]


@pytest.mark.parametrize("prepare", CHANGES, ids=lambda f: f.__name__.strip("_").replace("_", " "))
def test_a_session_killed_before_its_audit_row_leaves_nothing(rows: Rows, prepare: Callable[[Rows], Change]) -> None:
    change = prepare(rows)
    before = rows.everything()
    with rows.another_session() as auditor, ThreadPoolExecutor(1) as thread:
        auditor.execute("LOCK TABLE evergrant.audit IN EXCLUSIVE MODE")  # readers may look, writers wait
        changing = thread.submit(change)
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        rows.until(waiting)
        assert rows.everything() == before  # what has been done so far is seen by nobody
        rows.sql(f"SELECT pg_terminate_backend(pid) FROM ({waiting}) AS waiting")
        with pytest.raises(StoreUnavailable):
            changing.result(10)
        auditor.rollback()
    assert rows.everything() == before
    change()  # and nothing keeps it from being done again
    assert len(rows.everything()["audit"]) == len(before["audit"]) + 1
