"""What PostgreSQL adds to the contract of the key stores: audit rows, and patience before a key is retired."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.integration.store.rows import Rows, answer
from tests.integration.store.test_connections import LIFE, _attempt
from vault.claims import DataKeyRecord
from vault.ports import WrappedKey
from vault.store.data_keys import LONGEST_FLIGHT


def test_making_replacing_and_rewrapping_keys_is_told(rows: Rows) -> None:
    old = rows.key()
    rows.keys.replace_data_keys([(old, rows.new_key())])
    above = rows.keys.tenant_key(old.tenant_key_id)
    assert above is not None
    rows.keys.rewrap_tenant_key(above.id, above.wrapped, WrappedKey("kek-2", "fake", b"anew"))
    told = rows.sql("SELECT event, tenant, detail FROM evergrant.audit ORDER BY id")
    assert [row["event"] for row in told] == ["key.created", "key.rotated", "key.rewrapped"]
    assert {row["tenant"] for row in told} == {"default"}
    assert told[1]["detail"]["from"] == str(old.id)
    assert told[2]["detail"] == {"key_id": str(above.id), "from": "kek", "to": "kek-2"}


def _replaced_long_ago(rows: Rows, old: DataKeyRecord) -> None:
    rows.keys.replace_data_keys([(old, rows.new_key())])
    rows.sql("UPDATE evergrant.data_key SET replaced_at = replaced_at - %s", (LONGEST_FLIGHT + timedelta(minutes=1),))


def test_a_key_just_replaced_is_not_retired_while_an_answer_under_it_can_come_home(rows: Rows) -> None:
    rows.keys.replace_data_keys([(rows.key(), rows.new_key())])
    assert rows.keys.retire_unused_data_keys() == 0
    rows.sql("UPDATE evergrant.data_key SET replaced_at = replaced_at - %s", (LONGEST_FLIGHT,))
    assert rows.keys.retire_unused_data_keys() == 1


@pytest.mark.parametrize("user", ["grant", "candidate", "revocation", "flow"])
def test_a_key_that_anything_stands_under_is_not_retired(rows: Rows, user: str) -> None:
    old = rows.key()
    if user == "flow":
        rows.connections.save_attempt(_attempt(rows), LIFE)
    else:
        late = rows.claim(rows.add())
        rows.expire_lease(late.connection_id)
        rows.claim()
        if user == "candidate":
            rows.refreshing.settle_late(answer(late))
        if user == "revocation":
            rows.connections.disconnect("default", late.connection_id)
    _replaced_long_ago(rows, old)
    current = rows.key()
    if user in ("candidate", "revocation"):
        rows.sql("UPDATE evergrant.oauth_grant SET data_key_id = %s", (current.id,))
    assert rows.keys.retire_unused_data_keys() == 0
    for table in ("connect_attempt", "candidate", "revocation", "connection"):
        rows.sql(f"DELETE FROM evergrant.{table}")
    assert rows.keys.retire_unused_data_keys() == 1
