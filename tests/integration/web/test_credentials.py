"""Credentials over HTTP: what they are to many, their values to few, and the audit is told first."""

from __future__ import annotations

from uuid import UUID, uuid4

from tests.integration.web.front import Front, ids, problem

VALUE, NEXT = "cnry-first", "cnry-next"


def test_a_value_is_read_with_a_scope_of_its_own_and_the_audit_says_by_whom(front: Front) -> None:
    kept = front.vault.store_api_key(VALUE, owner="olga", provider="acme", name="mail")
    reading, revealing = front.client("credentials:read"), front.client("credentials:reveal")
    shown = reading.get(f"/credentials/{kept}")
    assert (shown.json()["name"], shown.json()["version"]) == ("mail", 1)
    assert VALUE not in shown.text
    problem(reading.get(f"/credentials/{kept}/value"), 403, "scope")
    answer = revealing.get(f"/credentials/{kept}/value", params={"reason": "sending"})
    assert (answer.json()["value"], answer.headers["cache-control"]) == (VALUE, "no-store")
    [row] = front.house.sql("SELECT detail FROM evergrant.audit WHERE event = 'credential.retrieved'")
    [key] = [each for each in front.house.worker.api_keys.list() if "credentials:reveal" in each.scopes]
    assert row["detail"]["reason"] == f"api key {key.id}: sending"


def test_a_value_is_replaced_if_nobody_else_has_and_rolled_back(front: Front) -> None:
    kept, client = front.vault.store_secret(VALUE), front.client()
    where = f"/credentials/{kept}"
    assert client.put(f"{where}/value", json={"value": NEXT, "expected_version": 1}).json() == {"version": 2}
    problem(client.put(f"{where}/value", json={"value": NEXT, "expected_version": 1}), 409, "version_conflict")
    assert client.get(f"{where}/value").json()["value"] == NEXT
    assert client.get(f"{where}/value", params={"version": 1}).json()["value"] == VALUE
    assert client.post(f"{where}/rollback", json={"expected_version": 2}).json() == {"version": 3}
    assert client.get(f"{where}/value").json()["value"] == VALUE
    found = client.get(f"{where}/versions").json()["items"]
    assert [each["version"] for each in found] == [3, 2, 1]
    problem(client.put(f"{where}/value", json={"value": ""}), 422, "invalid")
    problem(client.post(f"{where}/rotate", json={}), 422, "invalid_credential")
    for path in ("", "/value", "/versions"):
        problem(client.get(f"/credentials/{uuid4()}{path}"), 404, "unknown_credential")


def test_an_end_that_nobody_could_read_again_is_refused(front: Front) -> None:
    """PostgreSQL would keep the year 10000, and who reads its row fails: lists, and scans for every tenant."""
    kept, client = front.vault.store_secret(VALUE), front.client()
    for end in ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "9999-12-31T00:00:00Z"):
        answer = client.put(f"/credentials/{kept}/value", json={"value": NEXT, "expires_at": end})
        problem(answer, 422, "invalid_credential")
    assert client.get("/credentials").status_code == 200
    front.house.worker.expiry_scan()


def test_a_webhooks_secret_is_rotated_by_workers(front: Front) -> None:
    kept, client = front.vault.store_webhook_secret(), front.client()
    said = client.post(f"/credentials/{kept}/rotate", json={"overlap_s": 60})
    assert said.status_code == 202
    assert UUID(said.json()["rotation_id"])
    problem(client.post(f"/credentials/{kept}/rotate", json={}), 409, "rotation_busy")


def test_refresh_tokens_do_not_leave(front: Front) -> None:
    made, client = front.connect(), front.client()
    listed = client.get("/credentials", params={"connection": str(made)}).json()
    kinds = {each["kind"]: each["id"] for each in listed["items"]}
    assert set(kinds) == {"oauth_access_token", "oauth_refresh_token"}
    problem(client.get(f"/credentials/{kinds['oauth_refresh_token']}/value"), 403, "refresh_token")
    served = client.get(f"/credentials/{kinds['oauth_access_token']}/value").json()["value"]
    assert served == front.vault.get(made).access_token.reveal()


def test_lists_come_page_by_page_and_of_a_kind(front: Front) -> None:
    made = {front.vault.store_secret(VALUE, name=str(number)) for number in range(3)}
    front.vault.store_api_key(VALUE)
    client, seen, cursor = front.client(), set(), None
    while True:
        page = client.get("/credentials", params={"kind": "custom_secret", "limit": 2, "cursor": cursor}).json()
        seen |= set(ids(page))
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made
    counted = client.get("/statistics").json()
    assert (counted["credentials"], counted["by_kind"]["custom_secret"]) == (4, 3)
