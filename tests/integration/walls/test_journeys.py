"""Everything a web app does, with the rights of one; everything workers do, with theirs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.walls.conftest import WalledHouse
from vault import ConfigurationError, Refresh, RefreshPending, Status, UnknownConnection, UnknownCredential, Vault

NOW = timedelta(0)


def test_a_web_app_lives_with_its_rights(walled: WalledHouse) -> None:
    """The whole life of connections, through the face for web apps."""
    vault = walled.vault
    each, other = walled.connect(metadata={"a": "b"}, labels={"team": "blue"}), walled.connect("otto")
    assert vault.get(each).access_token.reveal() == walled.newest_answer(each)
    assert set(vault.get_many([each, other])) == {each, other}
    assert [c.id for c in vault.connections(owner="otto", provider="acme", status="active")] == [other]
    assert vault.connections(after=other, limit=5) == vault.connections(limit=5)[1:] or other > each
    assert vault.connection(each).labels == {"team": "blue"}
    assert vault.metadata(each) == {"a": "b"}
    vault.set_metadata(each, {"c": "d"})
    vault.enqueue(Refresh(each))
    walled.worker.refresh_scan()
    assert walled.events(each)[-1] == "oauth.refreshed"
    assert vault.get(each).access_token.reveal() == walled.newest_answer(each)
    vault.report_rejected(each)
    assert vault.connection_health(each).status is Status.ACTIVE
    assert sum(each.amount for each in vault.statistics().connections) == 2
    assert vault.connection(each).status is Status.ACTIVE
