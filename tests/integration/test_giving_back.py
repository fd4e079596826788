"""Grants that end, or cannot be kept, are revoked at the provider: tried again, and the audit is told the outcome."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import requests

from tests.integration.house import House
from tests.integration.scene_of_attacks import BROWSER, Flow, Scene, furnish
from tests.integration.waiting import until
from vault import Connection, ConnectRefused, KeyUnavailable, Status, StoreUnavailable, UnknownConnection
from vault.ports import NewGrant
from vault.store.connections import PostgresConnections

SOON = timedelta(minutes=6)
"""When a revocation that did not go through is tried again, and a little more."""


@pytest.fixture
def scene(house: House) -> Scene:
    furnish(house)
    return Scene(house)


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as thread:
        yield thread


def agreed(scene: Scene, account: str, provider: str = "acme", **words: Any) -> Flow:
    return scene.flow(provider, url=f"&login_hint={account}", **words)


def alive(scene: Scene, account: str, provider: str = "") -> bool:
    return scene.house.oracle.alive(account, f"{scene.house.far_side}{provider}")


def outcomes(scene: Scene, connection_id: UUID) -> list[tuple[str, int]]:
    told = [row["detail"] for row in scene.house.audit(connection_id) if row["event"] == "connection.revoked"]
    return [(each["outcome"], each["attempt"]) for each in told]


def given_back(scene: Scene) -> list[str]:
    told = scene.house.sql("SELECT detail FROM evergrant.audit WHERE event = 'connection.given_back' ORDER BY id")
    return [row["detail"]["reason"] for row in told]


def at_the_exchange(scene: Scene, aside: ThreadPoolExecutor, account: str, made: Connection) -> Future[Connection]:
    """Have a reconnect end slowly; returns once its code has been sent."""
    flow = agreed(scene, account, made.provider, reconnect=made.id)
    scene.answers("slow", delay=1.0)
    ending = aside.submit(flow.complete)
    until(lambda: bool(list(scene.house.oracle.lineage(account, scene.house.far_side))))
    return ending


def refuse_rows(scene: Scene, *tables: str) -> None:
    """Have PostgreSQL refuse new rows of these tables as it does while it shuts down."""
    scene.house.sql(
        "CREATE FUNCTION public.away() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'shutting down' USING ERRCODE = '57P01'; END $$"
    )
    for table in tables:
        scene.house.sql(
            f"CREATE TRIGGER away BEFORE INSERT ON evergrant.{table} FOR EACH ROW EXECUTE FUNCTION public.away()"
        )


# ------------------------------------------------------------------------------------------ what was disconnected


def test_a_revocation_is_tried_again_until_the_provider_is_back(scene: Scene) -> None:
    made = agreed(scene, "olga").complete()
    scene.house.simulator.configure(scene.house.far_side, outage="error")
    scene.vault.disconnect(made.id)
    for times in (1, 2):  # each pause is twice as long as the one before
        scene.house.worker.refresh_scan()
        scene.house.pass_time(SOON * times)
    assert alive(scene, "olga")
    assert outcomes(scene, made.id) == []
    scene.house.simulator.configure(scene.house.far_side, outage="off")
    scene.house.worker.refresh_scan()
    assert not alive(scene, "olga")
    assert outcomes(scene, made.id) == [("revoked", 3)]


def test_a_revocation_waits_for_its_key(scene: Scene) -> None:
    made = agreed(scene, "olga").complete()
    scene.vault.disconnect(made.id)
    scene.house.another_worker(home=scene.house.home / "with another keyring").refresh_scan()
    assert alive(scene, "olga")
    assert outcomes(scene, made.id) == []
    scene.house.pass_time(SOON)
    scene.house.worker.refresh_scan()
    assert not alive(scene, "olga")
    assert outcomes(scene, made.id) == [("revoked", 2)]


def test_how_a_revocation_ended_is_told(scene: Scene) -> None:
    unknown, hopeless, mute = (agreed(scene, name, kind).complete() for name, kind in (
        ("unknown", "acme"), ("hopeless", "acme"), ("mute", "mute")))  # fmt: skip
    for account, status in (("unknown", 400), ("hopeless", 503)):
        scene.house.simulator.add_fault(
            scene.house.far_side, "error_before", account=account, endpoint="revoke", status=status
        )
    for made in (unknown, hopeless, mute):
        scene.vault.disconnect(made.id)
    scene.house.sql("UPDATE evergrant.revocation SET attempt = 19 WHERE connection_id = %s", (hopeless.id,))
    scene.house.worker.refresh_scan()
    assert outcomes(scene, unknown.id) == [("unknown_to_provider", 1)]
    assert outcomes(scene, hopeless.id) == [("given_up", 20)]
    assert outcomes(scene, mute.id) == [("provider_has_no_endpoint", 1)]
    assert scene.house.sql("SELECT * FROM evergrant.revocation") == []


def test_what_was_stored_though_nobody_told_us_so_is_not_given_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection to PostgreSQL may be lost after the COMMIT and before its answer."""
    store = PostgresConnections.connect

    def untold(self: PostgresConnections, *grants: NewGrant) -> None:
        assert store(self, *grants) is not None
        raise StoreUnavailable("there", "the connection was lost")

    flow = agreed(scene, "olga")
    with monkeypatch.context() as patched:
        patched.setattr(PostgresConnections, "connect", untold)
        with pytest.raises(StoreUnavailable):
            flow.complete()
    scene.house.worker.refresh_scan()
    assert given_back(scene) == []
    assert alive(scene, "olga")
    scene.house.make_due(flow.start.connection_id)
    assert scene.house.worker.refresh_scan().refreshed == 1


def test_a_revocation_waits_for_the_right_client_secret(scene: Scene) -> None:
    """Who says 400 to our secret has not said that the token is unknown (RFC 6749, section 5.2)."""
    made = agreed(scene, "olga").complete()
    scene.house.simulator.add_fault(
        scene.house.far_side, "error_before", account="olga", endpoint="revoke", status=400, error="invalid_client",
        next=1,
    )  # fmt: skip
    scene.vault.disconnect(made.id)
    scene.house.worker.refresh_scan()
    assert outcomes(scene, made.id) == []
    scene.house.pass_time(SOON)
    scene.house.worker.refresh_scan()
    assert outcomes(scene, made.id) == [("revoked", 2)]
    assert not alive(scene, "olga")


def test_a_refresh_in_flight_while_the_owner_disconnects_is_revoked(scene: Scene, aside: ThreadPoolExecutor) -> None:
    made = agreed(scene, "olga").complete()
    scene.house.make_due(made.id)
    scene.house.simulator.add_fault(scene.house.far_side, "slow", grant_type="refresh_token", next=1, delay=1.0)
    refreshing = aside.submit(scene.house.worker.refresh_scan)
    until(lambda: len(scene.house.oracle.lineage("olga", scene.house.far_side)) == 2)
    scene.vault.disconnect(made.id)
    refreshing.result(20)
    scene.house.another_worker().refresh_scan()
    assert not alive(scene, "olga")
    assert scene.vault.connection(made.id).status is Status.DISCONNECTED
    assert {outcome for outcome, _ in outcomes(scene, made.id)} == {"revoked"}


# ------------------------------------------------------------------------------------------ what cannot be kept


def test_a_consent_that_comes_back_after_the_owner_disconnected_is_revoked(
    scene: Scene, aside: ThreadPoolExecutor
) -> None:
    made = agreed(scene, "olga").complete()
    ending = at_the_exchange(scene, aside, "late", made)
    scene.vault.disconnect(made.id)
    with pytest.raises(ConnectRefused, match="disconnected"):
        ending.result(20)
    assert scene.vault.connection(made.id).status is Status.DISCONNECTED
    scene.house.worker.refresh_scan()
    assert not alive(scene, "olga")
    assert not alive(scene, "late")
    assert given_back(scene) == ["disconnected"]
    assert outcomes(scene, made.id) == [("revoked", 1), ("revoked", 1)]


def test_a_newer_consent_wins_and_the_older_one_is_revoked(scene: Scene, aside: ThreadPoolExecutor) -> None:
    made = agreed(scene, "olga").complete()
    newer = agreed(scene, "newer", reconnect=made.id)
    ending = at_the_exchange(scene, aside, "older", made)
    newer.complete()
    with pytest.raises(ConnectRefused, match="superseded"):
        ending.result(20)
    scene.house.worker.refresh_scan()
    assert (alive(scene, "older"), alive(scene, "newer")) == (False, True)
    assert scene.vault.get(made.id)
    assert given_back(scene) == ["superseded"]


def test_nothing_is_revoked_that_would_take_the_winner_with_it(scene: Scene, aside: ThreadPoolExecutor) -> None:
    made = agreed(scene, "olga", "broad").complete()
    newer = agreed(scene, "newer", "broad", reconnect=made.id)
    ending = at_the_exchange(scene, aside, "older", made)
    newer.complete()
    with pytest.raises(ConnectRefused, match="superseded"):
        ending.result(20)
    scene.house.worker.refresh_scan()
    assert (alive(scene, "older"), alive(scene, "newer")) == (True, True)
    assert scene.house.sql("SELECT * FROM evergrant.revocation") == []


def test_a_refresh_in_between_does_not_make_a_consent_lose(scene: Scene, aside: ThreadPoolExecutor) -> None:
    made = agreed(scene, "olga").complete()
    ending = at_the_exchange(scene, aside, "again", made)
    scene.house.make_due(made.id)
    assert scene.house.worker.refresh_scan().refreshed == 1
    assert ending.result(20).status is Status.ACTIVE
    assert alive(scene, "again")


def test_another_account_is_refused_and_its_grant_revoked_unless_it_is_wanted(scene: Scene) -> None:
    made = agreed(scene, "hers", "named").complete()
    scene.as_account("his")
    with pytest.raises(ConnectRefused, match="other_account"):
        agreed(scene, "his", "named", reconnect=made.id).complete()
    scene.house.worker.refresh_scan()
    assert (alive(scene, "hers", "-named"), alive(scene, "his", "-named")) == (True, False)
    assert scene.vault.connection(made.id).account == "hers"
    assert scene.vault.get(made.id)
    again = agreed(scene, "wanted", "named", reconnect=made.id).complete(other_account=True)
    assert (again.id, again.account, again.status) == (made.id, "his", Status.ACTIVE)


def test_what_cannot_be_stored_is_left_to_the_workers(scene: Scene) -> None:
    flow = agreed(scene, "olga")
    refuse_rows(scene, "connection")
    with pytest.raises(StoreUnavailable):
        flow.complete()
    assert alive(scene, "olga")
    scene.house.worker.refresh_scan()
    assert not alive(scene, "olga")
    assert given_back(scene) == ["StoreUnavailable"]
    with pytest.raises(UnknownConnection):
        scene.vault.connection(flow.start.connection_id)


def test_what_cannot_even_be_noted_is_revoked_at_once(scene: Scene) -> None:
    flow = agreed(scene, "olga")
    refuse_rows(scene, "connection", "revocation")
    with pytest.raises(StoreUnavailable):
        flow.complete()
    assert not alive(scene, "olga"), "without a worker"


def test_without_a_refresh_token_the_access_token_is_revoked(scene: Scene) -> None:
    made = scene.connected()
    scene.house.simulator.configure(scene.house.far_side, offline_parameters={"access_type": "offline"})
    flow = agreed(scene, "short")
    refuse_rows(scene, "connection")
    with pytest.raises(StoreUnavailable):
        flow.complete()
    scene.house.worker.refresh_scan()
    [answer] = scene.house.oracle.answers("short")
    assert answer.refresh_token is None
    revoked = "SELECT detail->>'outcome' AS o FROM evergrant.audit WHERE event = 'connection.revoked'"
    assert [row["o"] for row in scene.house.sql(revoked)] == ["revoked"]
    assert scene.vault.get(made.id)


def test_disconnecting_without_a_refresh_token_revokes_the_access_token_while_it_lives(scene: Scene) -> None:
    scene.house.simulator.configure(scene.house.far_side, offline_parameters={"access_type": "offline"})
    living, ended = agreed(scene, "living").complete(), agreed(scene, "ended").complete()
    served = scene.vault.get(living.id).headers()
    scene.house.sql("UPDATE evergrant.oauth_grant SET expires_at = now() WHERE connection_id = %s", (ended.id,))
    for made in (living, ended):
        scene.vault.disconnect(made.id)
    scene.house.worker.refresh_scan()
    assert outcomes(scene, living.id) == [("revoked", 1)]
    assert outcomes(scene, ended.id) == [], "nobody is told of what is over"
    api = scene.house.simulator.uri(scene.house.far_side, "api")
    assert requests.get(api, headers=served, timeout=10).status_code == 401


def test_a_code_is_not_sent_while_the_answer_could_not_be_sealed(scene: Scene) -> None:
    """Neither without the master key, nor where the owner's first data key cannot be made."""
    flow, second = agreed(scene, "olga"), agreed(scene, "olga")
    elsewhere = scene.house.another_vault(home=scene.house.home / "with another keyring")
    with pytest.raises(KeyUnavailable):
        elsewhere.complete(state=flow.start.state, code=flow.back["code"], browser=BROWSER)
    refuse_rows(scene, "data_key")
    with pytest.raises(StoreUnavailable):
        second.complete()
    assert not list(scene.house.oracle.lineage("olga", scene.house.far_side)), "nothing was got that would be lost"
