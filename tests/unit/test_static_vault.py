"""The double that apps test with behaves as the vault does."""

from __future__ import annotations

import inspect

import pytest

from vault import ReconnectRequired, Refresh, UnknownConnection, Vault
from vault.testing import StaticVault


def test_it_serves_what_it_was_given() -> None:
    vault = StaticVault()
    connection_id = vault.add("spotify", owner="user-17", access_token="at-1")
    assert vault.get(connection_id).headers() == {"Authorization": "Bearer at-1"}
    assert vault.get_many([str(connection_id)])[connection_id] == vault.get(connection_id)
    assert [each.id for each in vault.connections(owner="user-17")] == [connection_id]
    assert vault.connections(provider="google") == []


def test_it_fails_as_it_was_told() -> None:
    vault = StaticVault()
    connection_id = vault.add("spotify", owner="user-17", access_token="at-1")
    vault.fail(connection_id, ReconnectRequired(connection_id, "invalid_grant"))
    with pytest.raises(ReconnectRequired, match="invalid_grant"):
        vault.get(connection_id)
    with pytest.raises(UnknownConnection):
        vault.get("no id at all")


def test_it_remembers_what_it_was_asked_to_do() -> None:
    vault = StaticVault()
    connection_id = vault.add("spotify", owner="user-17", access_token="at-1")
    vault.enqueue(Refresh(connection_id))
    vault.report_rejected(str(connection_id))
    assert (vault.enqueued, vault.rejected) == ([connection_id], [connection_id])


def test_it_keeps_metadata() -> None:
    vault = StaticVault()
    connection_id = vault.add("salesforce", owner="user-17", access_token="at-1")
    assert vault.metadata(connection_id) == {}
    vault.set_metadata(str(connection_id), {"instance_url": "https://na1.example"})
    assert vault.metadata(connection_id) == {"instance_url": "https://na1.example"}


def test_it_has_further_grants() -> None:
    vault = StaticVault()
    connection_id = vault.add("slack", owner="user-17", access_token="at-bot")
    further = vault.add_grant(connection_id, "user", access_token="at-user")
    assert vault.get(connection_id, grant="user") == vault.get(further)
    assert vault.get(further).access_token.reveal() == "at-user"
    assert [(each.id, each.grant, each.part_of) for each in vault.grants(connection_id)] == [
        (further, "user", connection_id)
    ]
    assert [each.id for each in vault.connections()] == [connection_id]
    with pytest.raises(UnknownConnection):
        vault.get(connection_id, grant="bot")


@pytest.mark.parametrize(
    "name",
    ["get", "get_many", "enqueue", "report_rejected", "connection", "grants", "metadata", "set_metadata"],
)
def test_its_calls_are_the_vaults(name: str) -> None:
    """An app that runs against the one runs against the other."""
    assert inspect.signature(getattr(StaticVault, name)) == inspect.signature(getattr(Vault, name))
