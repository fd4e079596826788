"""Two tenants in one database, who must not notice each other."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from tests.integration.house import House
from tests.simulator.client import consent
from vault import ConnectRefused, Refresh, Status, UnknownConnection, Vault

TOUCHES: dict[str, Callable[[Vault, UUID], object]] = {
    "get": lambda vault, theirs: vault.get(theirs),
    "connection": lambda vault, theirs: vault.connection(theirs),
    "enqueue": lambda vault, theirs: vault.enqueue(Refresh(theirs)),
    "report_rejected": lambda vault, theirs: vault.report_rejected(theirs),
    "disconnect": lambda vault, theirs: vault.disconnect(theirs),
    "begin a reconnect": lambda vault, theirs: vault.begin("acme", owner="olga", reconnect=theirs),
}


def _connect(house: House, vault: Vault) -> UUID:
    start = vault.begin("acme", owner="olga")
    answer = consent(start.url)
    return vault.complete(state=answer["state"], code=answer["code"], issuer=answer.get("iss")).id


def test_nothing_a_tenant_does_reaches_anothers_connection(calm_house: House) -> None:
    """The error is the very one for an id that never was: it tells nothing of others."""
    ours, theirs = calm_house.vault, calm_house.vault.for_tenant("umbra")
    mine, other = _connect(calm_house, ours), _connect(calm_house, theirs)
    for name, touch in TOUCHES.items():
        with pytest.raises(UnknownConnection) as refusal:
            touch(ours, other)
        nobodys = UUID(int=other.int ^ 1)
        with pytest.raises(UnknownConnection) as unknown:
            touch(ours, nobodys)
        assert str(refusal.value).replace(str(other), "") == str(unknown.value).replace(str(nobodys), ""), name
    assert ours.get_many([mine, other]).keys() == {mine}
    assert [c.id for c in ours.connections(owner="olga")] == [mine]
    assert [c.id for c in theirs.connections(owner="olga")] == [other]
    assert theirs.connection(other).status is Status.ACTIVE
    assert theirs.get(other).access_token != ours.get(mine).access_token


def test_a_flow_begun_by_one_tenant_is_not_completed_by_another(calm_house: House) -> None:
    start = calm_house.vault.begin("acme", owner="olga")
    answer = consent(start.url)
    with pytest.raises(ConnectRefused) as refusal:
        calm_house.vault.for_tenant("umbra").complete(state=answer["state"], code=answer["code"])
    assert refusal.value.reason == "unknown_state"


def test_both_are_refreshed_by_the_same_workers(calm_house: House) -> None:
    ours, theirs = calm_house.vault, calm_house.vault.for_tenant("umbra")
    mine, other = _connect(calm_house, ours), _connect(calm_house, theirs)
    before = ours.get(mine).access_token, theirs.get(other).access_token
    ours.enqueue(Refresh(mine))
    theirs.enqueue(Refresh(other))
    assert calm_house.worker.refresh_scan().refreshed == 2
    assert ours.get(mine).access_token != before[0]
    assert theirs.get(other).access_token != before[1]
