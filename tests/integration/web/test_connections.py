"""Connections over HTTP: tokens, lists, lives; and what the audit is told of who read what."""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import UUID, uuid4

from tests.integration.waiting import until
from tests.integration.web.front import Front, ids, problem
from vault.web.guard import MAY_WAIT


def test_a_token_is_served_as_get_does(front: Front) -> None:
    made, client = front.connect(), front.client("tokens:read")
    answer = client.get(f"/connections/{made}/token")
    said = answer.json()
    assert answer.status_code == 200
    assert said["access_token"] == front.vault.get(made).access_token.reveal()
    assert (said["connection_id"], said["token_type"]) == (str(made), "Bearer")
    assert 3000 < said["expires_in"] <= 3600
    assert answer.headers["cache-control"] == "no-store"


def test_what_cannot_be_served_says_so_to_programs(front: Front) -> None:
    made, client = front.connect(), front.client()
    problem(client.get(f"/connections/{uuid4()}/token"), 404, "unknown_connection")
    problem(client.get("/connections/nonsense/token"), 422, "invalid")
    front.house.pass_time(timedelta(hours=2), made)
    front.house.sql("UPDATE evergrant.schedule SET failures = 1, next_at = now() + interval '5 min'")
    said = problem(client.get(f"/connections/{made}/token"), 503, "refresh_pending")
    assert said["retry_after"] > 200
    client.delete(f"/connections/{made}")
    assert problem(client.get(f"/connections/{made}/token"), 409, "reconnect_required")["reason"] == "disconnected"


def test_the_audit_is_told_of_tokens_that_were_read_within_seconds_and_counts_the_rest(front: Front) -> None:
    first, second = front.connect("olga"), front.connect("otto")
    client = front.client("tokens:read")
    for _ in range(5):
        assert client.get(f"/connections/{first}/token").ok
    assert client.get(f"/connections/{second}/token").ok
    told = "SELECT connection_id, (detail->>'reads')::int AS reads, detail->>'api_key' AS key FROM evergrant.audit"
    told += " WHERE event = 'credential.retrieved'"
    until(lambda: len(front.house.sql(told)) >= 2)
    front.vault.close()  # tells of the rest
    rows = front.house.sql(told)
    counted = {each: sum(row["reads"] for row in rows if row["connection_id"] == each) for each in (first, second)}
    assert counted == {first: 5, second: 1}
    [key] = front.house.worker.api_keys.list()
    assert {UUID(row["key"]) for row in rows} == {key.id}
    assert key.last_used_at is not None


def test_lists_come_page_by_page(front: Front) -> None:
    made = sorted(front.connect(f"owner {number}") for number in range(5))
    client = front.client("connections:read")
    seen: list[UUID] = []
    cursor = None
    for expected in (2, 2, 1):
        page = client.get("/connections", params={"limit": 2, "cursor": cursor}).json()
        assert len(page["items"]) == expected
        seen, cursor = seen + ids(page), page["next_cursor"]
    assert (seen, cursor) == (made, None)
    assert ids(client.get("/connections", params={"owner": "owner 3"}).json())
    assert ids(client.get("/connections", params={"owner": "nobody"}).json()) == []
    assert ids(client.get("/connections", params={"status": "disconnected"}).json()) == []
    problem(client.get("/connections", params={"status": "dead"}), 422, "invalid")
    problem(client.get("/connections", params={"owner": "a\0b"}), 422, "invalid")


def test_a_connection_is_shown_refreshed_rejected_and_ended(front: Front) -> None:
    made, client = front.connect(labels={"team": "red"}), front.client()
    shown = client.get(f"/connections/{made}").json()
    assert (shown["owner"], shown["provider"], shown["status"], shown["labels"]) == (
        "olga",
        "acme",
        "active",
        {"team": "red"},
    )
    assert client.get(f"/connections/{made}/health").json()["well"]
    assert client.post(f"/connections/{made}/refresh").status_code == 202
    assert front.house.row(made)["urgent"]
    assert client.post(f"/connections/{made}/reject").status_code == 202
    assert client.delete(f"/connections/{made}").status_code == 204
    assert client.get(f"/connections/{made}").json()["status"] == "disconnected"
    for method, path in (("POST", "/refresh"), ("POST", "/reject"), ("DELETE", ""), ("GET", ""), ("GET", "/health")):
        problem(client.request(method, f"/connections/{uuid4()}{path}"), 404, "unknown_connection")


def test_the_connection_of_an_owner_is_found_when_it_is_the_only_one(front: Front) -> None:
    client, where = front.client(), "/acme/connection"
    problem(client.get(where, params={"owner": "olga"}), 404, "unknown_connection")
    first = front.connect()
    assert client.get(where, params={"owner": "olga"}).json()["id"] == str(first)
    assert client.get("/acme/health", params={"owner": "olga"}).json()["connection"]["well"]
    second = front.connect()
    problem(client.delete(where, params={"owner": "olga"}), 409, "several_connections")
    client.delete(f"/connections/{second}")
    assert client.delete(where, params={"owner": "olga"}).status_code == 204
    assert front.vault.connection(first).status == "disconnected"
    said = client.get("/acme/health").json()
    assert said == {"provider": "acme", "ready": True, "connections": 0, "connection": None}
    problem(client.get("/unheard-of/health"), 404, "unknown_provider")


def test_when_half_of_the_threads_wait_nobody_else_does(front: Front) -> None:
    """A provider that is slow holds up those who ask for its tokens, and no others."""
    alive, dead, client = front.connect("olga"), front.connect("otto"), front.client("tokens:read")
    front.house.pass_time(timedelta(hours=2), dead)
    for _ in range(MAY_WAIT):
        assert front.app.state.house.may_wait.acquire(blocking=False)
    began = time.monotonic()
    assert client.get(f"/connections/{alive}/token", params={"min_ttl_s": 7200}).ok, "served as it is"
    problem(client.get(f"/connections/{dead}/token"), 503, "refresh_pending")
    problem(client.get(f"/connections/{uuid4()}/token"), 404, "unknown_connection")
    assert time.monotonic() - began < 8, "less than one of them would have waited"
