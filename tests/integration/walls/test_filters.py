"""With every filter of ours taken away, the database's own still stand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.exc import SQLAlchemyError

from tests.integration.walls.house import WalledHouse
from tests.support.unfiltered import filters_gone
from vault import Vault, VaultError
from vault.store.shares import WALLED

LATER = datetime.now(UTC) + timedelta(days=1)


def _calls(key: UUID, connection: UUID, hook: UUID) -> dict[str, Callable[[Vault], object]]:
    """What an app could ask for, by ids that are another tenant's; each tells whether it found, or did, anything."""
    return {
        "get": lambda vault: vault.get(connection),
        "get_many": lambda vault: vault.get_many([connection]),
        "connection": lambda vault: vault.connection(connection),
        "connections": lambda vault: vault.connections(owner="a's"),
        "metadata": lambda vault: vault.metadata(connection),
        "connection_health": lambda vault: vault.connection_health(connection),
        "credentials": lambda vault: vault.credentials(owner="a's"),
        "credential": lambda vault: vault.credential(key),
        "describe": lambda vault: vault.describe_credential(key),
        "describe a token": lambda vault: vault.describe_credential(connection),
        "history": lambda vault: vault.history(key),
        "expiring": lambda vault: vault.list_expiring(30),
        "sign": lambda vault: vault.sign_webhook(hook, b"", message_id="m"),
        "report": lambda vault: vault.report_rejected(connection) or True,
        "set_metadata": lambda vault: vault.set_metadata(connection, {"b": "b"}) or True,
        "put": lambda vault: vault.put(key, "a value of b's"),
        "roll_back": lambda vault: vault.roll_back(key),
        "change": lambda vault: vault.change_credential(key, name="b's") or True,
        "rotate": lambda vault: vault.rotate(hook),
        "delete": lambda vault: vault.delete_credentials(key),
        "destroy_version": lambda vault: vault.destroy_version(key, 1) or True,
        "destroy": lambda vault: vault.destroy_credentials(key),
        "disconnect": lambda vault: vault.disconnect(connection) or True,
        "reconnect": lambda vault: vault.begin("acme", owner="a's", reconnect=connection),
        "hand over": lambda vault: vault.store_oauth("acme", owner="a's", access_token="x", connection=connection),
    }


def _all(house: WalledHouse) -> dict[str, list[str]]:
    """Everything there is of the first tenant."""
    return {
        table: sorted(row["t"] for row in house.sql(f"SELECT t::text FROM evergrant.{table} t"))
        for table in WALLED
        if table not in ("tally_change", "audit", "tenant_key", "data_key")  # what grows when the other one acts
    }


@pytest.mark.parametrize("role", ["web", "owner"])
def test_nothing_of_another_tenants_is_found_or_touched(role: str, walled: WalledHouse) -> None:
    """As the owner, whom no policy holds back, the very same calls find it: so the filters really are gone."""
    a = walled.vault
    given = a.store_oauth("acme", owner="a's", access_token="token of a", expires_at=LATER, metadata={"a": "a"})
    key = a.store_api_key("value of a's", owner="a's", expires_at=LATER)
    a.put(key, "second value of a's")
    hook = a.store_webhook_secret(owner="a's")
    url = walled.urls["web"] if role == "web" else walled.database_url
    b = walled.another_vault(database_url=url, tenant="b")
    assert b.store_secret("something of b's")
    with filters_gone():
        assert b.statistics().connections == (0 if role == "web" else 1)
    before, found = _all(walled), set()
    with filters_gone() as gone:
        for name, call in _calls(key, given.connection, hook).items():
            try:
                if call(b):
                    found.add(name)
            except (VaultError, psycopg.Error, SQLAlchemyError):
                continue
    assert len(gone.rewritten) > 20
    assert gone.left == set()
    if role == "web":
        assert found == set()
        assert _all(walled) == before
        assert a.get(given.connection).access_token.reveal() == "token of a"
        assert a.credential(key).value.reveal() == "second value of a's"
    else:
        assert found >= {
            "get",
            "get_many",
            "connection",
            "connections",
            "credentials",
            "describe",
            "history",
            "disconnect",
        }
        assert _all(walled) != before
