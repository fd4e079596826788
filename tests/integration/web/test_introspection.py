"""Tokens that are presented to others are asked about over HTTP; what is not good is told, and what nobody knows is."""

from __future__ import annotations

from tests.integration.web.front import Front, problem


def test_a_session_is_good_until_it_is_revoked_and_for_its_tenant_alone(front: Front) -> None:
    made = front.vault.create_session("ann", subscription="plus", scopes=["read"])
    token, client = made.token.reveal(), front.client("tokens:introspect")
    said = client.post("/introspect", json={"token": token}).json()
    assert (said["active"], said["sub"], said["scope"], said["subscription"]) == (True, "ann", "read", "plus")
    assert said["exp"] == int(made.session.expires_at.timestamp())
    other = front.client("tokens:introspect", tenant="other")
    assert other.post("/introspect", json={"token": token}).json()["active"] is False
    front.vault.revoke_session(made.session.id)
    refused = client.post("/introspect", json={"token": token})
    assert (refused.status_code, refused.json()["active"]) == (200, False)
    assert refused.json()["reason"] in ("unknown", "revoked")
    assert token not in refused.text


def test_who_cannot_be_asked_is_a_problem_and_no_verdict(front: Front) -> None:
    client = front.client("tokens:introspect")
    problem(client.post("/introspect", json={"token": "t" * 40, "provider": "nobody"}), 404, "unknown_provider")
    problem(client.post("/introspect", json={"token": "t" * 40, "provider": "acme"}), 409, "provider_not_ready")
    problem(client.post("/introspect", json={"token": ""}), 422, "invalid")
    problem(front.client("tokens:read").post("/introspect", json={"token": "t"}), 403, "scope")
