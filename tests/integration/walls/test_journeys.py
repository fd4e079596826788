"""Everything a web app does, with the rights of one; everything workers do, with theirs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.waiting import until
from tests.integration.walls.house import WalledHouse
from tests.simulator.client import consent
from vault import ConfigurationError, ConnectRefused, Refresh, Status, UnknownConnection, UnknownCredential
from vault.secret import Secret

NOW = timedelta(0)
LATER = datetime.now(UTC) + timedelta(days=1)


def test_a_web_app_lives_with_its_rights(walled: WalledHouse) -> None:
    """The life of connections, from beginning to end, through the face for web apps."""
    vault = walled.vault
    each, other = walled.connect(metadata={"a": "b"}, labels={"team": "blue"}), walled.connect("otto")
    assert vault.get(each).access_token.reveal() == walled.newest_answer(each)
    assert set(vault.get_many([each, other])) == {each, other}
    assert [c.id for c in vault.connections(owner="otto", provider="acme", status="active")] == [other]
    assert [c.id for c in vault.connections()] == sorted([each, other])
    assert vault.metadata(each) == {"a": "b"}
    vault.set_metadata(each, {"c": "d"})
    vault.enqueue(Refresh(each))
    walled.worker.refresh_scan()
    assert walled.events(each)[-1] == "oauth.refreshed"
    vault.report_rejected(each)
    assert vault.connection_health(each).status is Status.ACTIVE
    assert vault.statistics().connections == walled.worker.statistics().connections == 2
    start = vault.begin("acme", owner="olga", reconnect=each)
    answer = consent(start.url)
    assert vault.complete(state=answer["state"], code=answer["code"], issuer=answer.get("iss")).id == each
    assert vault.metadata(each) == {"c": "d"}
    vault.disconnect(each)
    vault.disconnect(other)
    assert vault.connection(each).status is Status.DISCONNECTED
    walled.worker.refresh_scan()
    assert walled.sql("SELECT count(*) AS n FROM evergrant.revocation") == [{"n": 0}]
    assert not walled.alive(other)


def test_a_web_app_disconnects_what_workers_hold_answers_of(walled: WalledHouse) -> None:
    """A kept answer may be the only token that lives: it is handed to revocation unseen."""
    each = walled.connect()
    walled.sql(
        "INSERT INTO evergrant.candidate (connection_id, refresh_fp, tenant, consent, epoch, parent_fp, parent_version,"
        " data_key_id, access_envelope, refresh_envelope, token_type, sent_at, expires_at, next_at, fragile)"
        " SELECT connection_id, 'x', tenant, consent, 1, refresh_fp, version, data_key_id, 'a', 'kept', 'Bearer',"
        " now(), now(), now(), false FROM evergrant.oauth_grant"
    )
    before = walled.row(each)
    walled.vault.disconnect(each)
    found = walled.sql("SELECT * FROM evergrant.revocation ORDER BY version")
    assert [(r["version"], bytes(r["refresh_envelope"])) for r in found] == [
        (before["version"], bytes(before["refresh_envelope"])),
        (before["version"] + 1, b"kept"),
    ]
    assert {(r["tenant"], r["owner"], r["provider"], r["client_id"]) for r in found} == {
        ("default", "olga", "acme", "evergrant")
    }
    assert walled.sql("SELECT FROM evergrant.candidate") == []


def test_a_web_app_has_a_grant_revoked_that_it_got_too_late(walled: WalledHouse) -> None:
    """It can hand over what it cannot read back."""
    each = walled.connect()
    urls = [walled.vault.begin("acme", owner="olga", reconnect=each).url for _ in range(2)]
    first, second = (consent(f"{url}&login_hint={name}") for url, name in zip(urls, ("late", "soon"), strict=True))
    walled.simulator.add_fault(walled.far_side, "slow", grant_type="authorization_code", next=1, delay=1.0)
    with ThreadPoolExecutor(1) as aside:
        late = aside.submit(lambda: walled.vault.complete(state=first["state"], code=first["code"]))
        until(lambda: bool(list(walled.oracle.lineage("late", walled.far_side))))
        walled.vault.complete(state=second["state"], code=second["code"])
        with pytest.raises(ConnectRefused, match="superseded"):
            late.result(20)
    [waiting] = walled.sql("SELECT * FROM evergrant.revocation")
    assert (waiting["tenant"], waiting["owner"], waiting["client_id"]) == ("default", "olga", "evergrant")
    walled.worker.refresh_scan()
    assert walled.events(each)[-2:] == ["connection.given_back", "connection.revoked"]


def test_a_web_app_looks_after_credentials(walled: WalledHouse) -> None:
    vault = walled.vault
    key = vault.store_api_key("first value of a key", owner="olga", provider="acme", tags={"a": "b"})
    assert vault.credential(key).value.reveal() == "first value of a key"
    assert vault.put(key, "second value of a key") == 2
    assert vault.roll_back(key) == 3
    assert [v.version for v in vault.history(key)] == [3, 2, 1]
    vault.change_credential(key, name="other", policy={"max_age": 30})
    assert [c.id for c in vault.credentials(tags={"a": "b"})] == [key]
    assert vault.credential_policy(key).max_age == timedelta(days=30)
    vault.destroy_version(key, 1)
    assert vault.delete_credentials(key) == {key}
    vault.undelete_credential(key)
    assert vault.destroy_credentials(key) == {key}
    user, word = vault.store_basic_auth("user", "word", owner="olga", expires_at=datetime.now(UTC) + timedelta(days=3))
    assert {c.id for c in vault.list_expiring(7)} == {word}
    assert vault.check_rotation_required() == []
    assert vault.describe_credential(user).state == "active"


def test_a_web_app_signs_and_rotates_webhook_secrets(walled: WalledHouse) -> None:
    vault = walled.vault
    secret = vault.store_webhook_secret()
    headers = vault.sign_webhook(secret, b"body", message_id="m")
    vault.verify_webhook(secret, headers, b"body")
    vault.rotate(secret)
    assert walled.worker.rotate_credentials() > 0
    vault.verify_webhook(secret, vault.sign_webhook(secret, b"body", message_id="n"), b"body")
    vault.verify_webhook(secret, headers, b"body")
    vault.rotate(secret, force=True)
    assert vault.describe_credential(secret).version == 2


def test_a_web_app_hands_over_a_grant(walled: WalledHouse) -> None:
    vault = walled.vault
    given = vault.store_oauth("acme", owner="ada", access_token="an access token", refresh_token="a refresh token")
    again = vault.store_oauth("acme", owner="ada", refresh_token="another one", connection=given.connection)
    assert again == given
    assert {c.kind for c in vault.credentials(owner="ada")} == {"oauth_access_token", "oauth_refresh_token"}
    assert vault.decrypt_string(vault.encrypt_string("text")) == "text"


def test_a_web_app_reads_its_clients_secrets_to_exchange_codes(walled: WalledHouse) -> None:
    """Registrations in the store are nobody's tenant's; the registry alone acts for the system."""
    walled.environment.pop("VAULT_CLIENT_ACME_ID"), walled.environment.pop("VAULT_CLIENT_ACME_SECRET")
    walled.another_worker().clients.set("acme", "evergrant", Secret("cnry-cs-simulator"))
    vault = walled.another_vault(database_url=walled.urls["web"])
    answer = consent(vault.begin("acme", owner="olga").url)
    made = vault.complete(state=answer["state"], code=answer["code"], issuer=answer.get("iss"))
    assert vault.get(made.id).connection_id == made.id


def test_a_refresh_token_is_not_read_with_the_rights_of_a_web_app(walled: WalledHouse) -> None:
    each = walled.connect()
    [refresh] = [c.id for c in walled.vault.credentials(connection=each) if c.kind == "oauth_refresh_token"]
    assert walled.vault.describe_credential(refresh).state == "active"
    with pytest.raises(ConfigurationError, match="may not see refresh tokens, which are for workers"):
        walled.vault.credential(refresh, reason="to look")
    assert walled.another_vault(database_url=walled.urls["worker"]).credential(refresh).value.reveal()


def test_refreshing_here_needs_the_rights_of_a_worker(walled: WalledHouse) -> None:
    each = walled.connect()
    walled.pass_time(timedelta(hours=2))
    alone = walled.another_vault(database_url=walled.urls["web"], inline_refresh=True)
    with pytest.raises(ConfigurationError, match="VAULT_INLINE_REFRESH needs the rights of a worker"):
        alone.get(each)
    with pytest.raises(ConfigurationError, match="VAULT_INLINE_REFRESH needs the rights of a worker"):
        walled.another_worker(database_url=walled.urls["web"], inline_refresh=True).check()
    working = walled.another_vault(database_url=walled.urls["worker"], inline_refresh=True)
    walled.another_worker(inline_refresh=True).check()
    assert working.get(each).access_token.reveal() == walled.newest_answer(each)


def test_what_is_about_all_tenants_is_refused_and_not_answered_with_nothing(walled: WalledHouse) -> None:
    each = walled.connect()
    web = walled.another_worker(database_url=walled.urls["web"])
    whole: list[Callable[[], object]] = [
        web.statistics, web.overdue, web.undelivered, web.health_check_all, web.refresh_scan, web.cleanup,
        web.audit.chain, web.audit.verify, web.events.endpoints, web.keys.counts, web.expiry_scan,
    ]  # fmt: skip
    for asked in whole:
        with pytest.raises(ConfigurationError, match="is for a worker's"):
            asked()
    with pytest.raises(ConfigurationError, match="is for a worker's"):
        web.refresh(each)
    web.check()


def test_what_a_web_app_may_not_see_makes_nothing_degraded(walled: WalledHouse, redis_url: str) -> None:
    """Its ``/health`` would call every system degraded, and mean its own rights."""
    web = walled.another_worker(database_url=walled.urls["web"], redis_url=redis_url)
    look = web.health_check()
    unseen = {name for name, found in look.told.items() if found == "unseen"}
    assert unseen == {"refreshes", "rotations", "audit", "workers", "events"}
    assert "ask a worker's" in look.parts["workers"]
    assert (look.told["database"], look.told["kms"], look.status) == ("ok", "ok", "healthy")
    worker = walled.another_worker(redis_url=redis_url).health_check()
    assert (worker.told["workers"], worker.status) == ("trouble", "degraded")


def test_tenants_live_side_by_side_in_one_process(walled: WalledHouse) -> None:
    """One pool of connections serves them in turns; none finds what is another's, nor takes it over."""
    a, b = walled.vault, walled.vault.for_tenant("b")
    mine, key = walled.connect(), a.store_api_key("value of a key of a's")
    given = b.store_oauth("acme", owner="bert", access_token="token of b", expires_at=LATER)
    for _ in range(3):
        assert a.get(mine).access_token.reveal() == walled.newest_answer(mine)
        assert b.get(given.connection).access_token.reveal() == "token of b"
        with pytest.raises(UnknownConnection):
            b.get(mine)
        with pytest.raises(UnknownCredential):
            b.credential(key)
        assert set(a.get_many([mine, given.connection])) == {mine}
        assert not b.get_many([mine])
    assert a.statistics().connections == b.statistics().connections == 1
    with pytest.raises(UnknownConnection):
        b.disconnect(mine)
    start = a.begin("acme", owner="olga")
    answer = consent(start.url)
    with pytest.raises(Exception, match="unknown_state"):
        b.complete(state=answer["state"], code=answer["code"])
    assert a.complete(state=answer["state"], code=answer["code"], issuer=answer.get("iss")).id == start.connection_id


def test_workers_work_with_their_rights(walled: WalledHouse) -> None:
    """Refreshing, rotating, rewrapping, telling, auditing, cleaning up: of every tenant."""
    b = walled.vault.for_tenant("b")
    each = walled.connect()
    b.store_oauth("acme", owner="bert", access_token="token of b", expires_at=LATER)
    worker = walled.worker
    worker.check()
    walled.make_due(each)
    walled.fault("error_before", each)
    assert worker.refresh_scan().claimed
    walled.make_due(each)
    worker.refresh(each)
    assert worker.overdue().rows >= 0
    assert worker.rotate_data_keys(NOW) >= 3
    assert worker.rotate_tenant_keys(NOW) >= 2
    worker.rewrap()
    assert worker.keys.verify().passed
    worker.rotate_credentials()
    worker.expiry_scan()
    endpoint, _ = worker.events.add_endpoint("default", "http://127.0.0.1:1/hook")
    walled.vault.disconnect(each)
    worker.refresh_scan()
    worker.deliver()
    assert worker.undelivered().rows >= 0
    worker.events.rotate_secret(endpoint)
    assert worker.audit.chain() > 5
    assert worker.audit.verify().passed
    worker.cleanup()
    assert worker.fold_statistics() > 0
    assert worker.recount_statistics() == []
    assert worker.statistics().connections == 1
    assert worker.health_check_all().ended_at is not None
    worker.sign_of_life("here", timedelta(minutes=1))
    assert worker.health_check().workers == ("here",)
    worker.keys.shred_owner("bert", "b")
