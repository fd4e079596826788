"""One story for each of the nine kinds, as an app, a worker and the tenant's admin live through it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tests.integration.house import House
from tests.support import certificates
from vault import SignatureInvalid, UnknownCredential, VersionConflict

DAY = timedelta(days=1)
Story = Callable[[House], None]


def told(house: House) -> list[tuple[str, Any]]:
    """What the tenant's admin has been told, oldest first."""
    found = house.worker.events.events("default")
    return [(each.type, each.data.get("days")) for each in reversed(found)]


def pass_days(house: House, days: float) -> None:
    """Let days pass for every credential, and have the workers look."""
    columns = "rotated_at", "expires_at", "rotate_at", "warn_at", "purge_at"
    past = ", ".join(f"{column} = {column} - %(by)s" for column in columns)
    house.sql(f"UPDATE evergrant.credential SET {past}", {"by": days * DAY})
    house.sql("UPDATE evergrant.credential_version SET serves_until = serves_until - %s", (days * DAY,))
    house.sql("UPDATE evergrant.credential_rotation SET next_at = next_at - %s", (days * DAY,))
    house.worker.rotate_credentials()
    house.worker.expiry_scan()
    house.worker.cleanup()


def test_an_api_key(calm_house: House) -> None:
    house, vault = calm_house, calm_house.vault

    # The key of a billing service is handed over; what the app keeps is an id.
    key = vault.store_api_key(
        "sk_live_one", provider="billing", owner="acme inc", name="invoices", tags={"env": "live"}
    )
    assert vault.credential(key).value.reveal() == "sk_live_one"
    [listed] = vault.credentials(tags={"env": "live"})
    assert listed.id == key
    assert "sk_live" not in repr(listed)

    # Seventy-seven days later its admin has been told twice that it should be replaced by its ninetieth day.
    pass_days(house, 61)
    pass_days(house, 16)
    assert told(house) == [("credential.rotation_due", 30), ("credential.rotation_due", 14)]

    # Two people do so at the same time; the second one is told that somebody was quicker.
    assert vault.put(key, "sk_live_two", expected_version=1) == 2
    with pytest.raises(VersionConflict):
        vault.put(key, "sk_live_2", expected_version=1)

    # The new key was the wrong one. Back, then forward again to the right one.
    assert vault.roll_back(key) == 3
    assert vault.credential(key).value.reveal() == "sk_live_one"
    vault.put(key, "sk_live_three")
    assert [each.stage for each in vault.history(key)] == ["current", "previous", "retired", "retired"]

    # The integration ends, by mistake, and for good.
    vault.delete_credentials(key)
    vault.undelete_credential(key)
    assert vault.credential(key).value.reveal() == "sk_live_three"
    vault.delete_credentials(key)
    pass_days(house, 31)
    assert vault.describe_credential(key).state == "destroyed"


def test_a_user_name_and_a_password(calm_house: House) -> None:
    house, vault = calm_house, calm_house.vault
    ids = vault.store_basic_auth("acme", "correct horse", provider="erp")
    pair = tuple(vault.credential(each).value.reveal() for each in ids)
    assert pair == ("acme", "correct horse")
    pass_days(house, 91)
    assert [each.id for each in vault.check_rotation_required()] == [ids.password], "names do not age"
    vault.put(ids.password, "battery staple")
    assert vault.check_rotation_required() == []
    assert vault.credential(ids.username).version.version == 1


def test_a_client_certificate_and_its_key(calm_house: House) -> None:
    house, vault = calm_house, calm_house.vault
    first, second = certificates.leaf("acme", days=40), certificates.leaf("acme", days=400)
    ids = vault.store_certificate(first.chain, first.key, provider="bank")
    assert [each.id for each in vault.list_expiring(45)] == [ids.certificate], "it says itself when it ends"
    pass_days(house, 11)
    pass_days(house, 23)
    assert told(house) == [("credential.expiring", 30), ("credential.expiring", 7)]
    assert vault.put_certificate(ids.certificate, second.chain, second.key) == 2
    assert (vault.credential(ids.certificate).value.reveal(), vault.credential(ids.key).value.reveal()) == second
    pass_days(house, 10)
    assert len(told(house)) == 2
    assert vault.list_expiring(45) == []


def test_a_secret_that_webhooks_are_signed_with(calm_house: House) -> None:
    house, vault = calm_house, calm_house.vault
    hook = vault.store_webhook_secret(provider="acme")
    first = vault.credential(hook).value.reveal()
    body = json.dumps({"type": "invoice.paid"}).encode()

    def sent_with(secret: str) -> dict[str, str]:
        now = datetime.now(UTC)
        headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp()))}
        return {**headers, "webhook-signature": Webhook(secret).sign("msg_1", now, body.decode())}

    vault.verify_webhook(hook, sent_with(first), body)
    with pytest.raises(SignatureInvalid):
        vault.verify_webhook(hook, sent_with(first), body + b" ")

    # Half a year later it is rotated by itself. Senders have a day to notice.
    pass_days(house, 181)
    second = vault.credential(hook).value.reveal()
    assert second != first
    assert told(house) == [("credential.rotated", None)]
    for each in (first, second):
        vault.verify_webhook(hook, sent_with(each), body)
    pass_days(house, 1)
    with pytest.raises(SignatureInvalid):
        vault.verify_webhook(hook, sent_with(first), body)

    # Then it leaks: no overlap.
    vault.rotate(hook, overlap=timedelta(0))
    house.worker.rotate_credentials()
    with pytest.raises(SignatureInvalid):
        vault.verify_webhook(hook, sent_with(second), body)
    Webhook(vault.credential(hook).value.reveal()).verify(body, vault.sign_webhook(hook, body, message_id="msg_2"))


def test_any_other_text(calm_house: House) -> None:
    house, vault = calm_house, calm_house.vault
    account = '{"type": "service_account",\n "private_key_id": "1"}\n'
    secret = vault.store_secret(account, name="robot", expires_at=datetime.now(UTC) + 5 * DAY)
    assert vault.credential(secret, reason="to start the robot").value.reveal() == account
    pass_days(house, 6)
    assert told(house) == [("credential.expired", 0)]
    vault.put(secret, account.replace("1", "2"), expires_at=datetime.now(UTC) + 365 * DAY)
    vault.destroy_version(secret, 1)
    with pytest.raises(UnknownCredential):
        vault.credential(secret, version=1)
    pass_days(house, 100)
    assert len(told(house)) == 1


def test_an_access_token_and_its_refresh_token(calm_house: House) -> None:
    house, vault = calm_house, calm_house.vault

    # Olga connects, and is two credentials among all others.
    olga = house.connect("olga", labels={"plan": "pro"})
    access, refresh = vault.credentials(tags={"plan": "pro"})
    assert (access.id, access.kind, refresh.kind) == (olga, "oauth_access_token", "oauth_refresh_token")
    before = [vault.credential(each.id).value for each in (access, refresh)]
    assert before[0] == vault.get(olga).access_token

    # They are rotated by every refresh.
    house.make_due(olga)
    house.worker.refresh_scan()
    after = [vault.credential(each.id) for each in (access, refresh)]
    assert all(new.value != old for new, old in zip(after, before, strict=True))
    assert [each.version.version for each in after] == [2, 2]

    # Her consent turns out to end, and she is asked for another in time.
    house.sql("UPDATE evergrant.oauth_grant SET grant_ends_at = now() + interval '40 days'")
    house.worker.expiry_scan()
    house.pass_time(11 * DAY)
    house.worker.expiry_scan()
    assert told(house) == [("connection.grant_ending", 30)]
    assert [each.id for each in vault.list_expiring()] == [refresh.id]

    # She leaves.
    vault.disconnect(olga)
    assert {vault.describe_credential(each.id).state for each in (access, refresh)} == {"destroyed"}
