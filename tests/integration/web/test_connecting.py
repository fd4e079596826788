"""Connecting over HTTP: by the app, by a ticket, by a form; and what is not anybody's to end."""

from __future__ import annotations

from datetime import timedelta
from http.cookies import SimpleCookie
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from tests.integration.web.front import Client, Front, problem
from tests.simulator.client import consent

OWNER = {"owner": "olga", "browser": "their session"}


def begun(client: Client, **words: str) -> dict[str, str]:
    answer = client.get("/acme/auth", params={**OWNER, **words})
    assert answer.status_code == 200, answer.text
    said: dict[str, str] = answer.json()
    return said


def brought(start: dict[str, str]) -> dict[str, str]:
    """What comes back from the provider, with the browser that the app had bound."""
    return {**consent(start["url"]), "browser": OWNER["browser"]}


def cookie_of(answer: requests.Response) -> dict[str, str]:
    """The one cookie of an answer: its name, its value, its attributes."""
    [(name, morsel)] = SimpleCookie(answer.headers["set-cookie"]).items()
    return {**{key: str(value) for key, value in morsel.items()}, "name": name, "value": morsel.value}


def ticketed(front: Front, **words: object) -> str:
    answer = front.client("connections:write").post("/acme/tickets", json={"owner": "olga", **words})
    assert answer.status_code == 201, answer.text
    path: str = answer.json()["path"]
    return path.removeprefix("/api/v1")


def test_an_app_begins_a_flow_and_hands_over_what_came_back(front: Front) -> None:
    client = front.client("connections:write")
    start = begun(client, scopes="read write", return_to="/settings")
    assert "read+write" in start["url"] or "read%20write" in start["url"]
    answer = client.post("/acme/callback", json=brought(start))
    assert answer.status_code == 200, answer.text
    assert (answer.json()["id"], answer.json()["owner"]) == (start["connection_id"], "olga")
    assert front.vault.get(start["connection_id"])
    said = problem(client.post("/acme/callback", json=brought(start)), 400, "connect_refused")
    assert said["reason"] == "unknown_state"


def test_a_flow_is_bound_to_a_browser_whoever_begins_it(front: Front) -> None:
    client = front.client("connections:write")
    problem(client.get("/acme/auth", params={"owner": "olga"}), 422, "invalid")
    start = begun(client)
    other = {**brought(start), "browser": "another session"}
    assert problem(client.post("/acme/callback", json=other), 400, "connect_refused")["reason"] == "other_browser"
    begun_again = begun(client)
    came = {name: value for name, value in brought(begun_again).items() if name != "browser"}
    refused = front.browser().get("/acme/callback", params=came)
    assert problem(refused, 400, "connect_refused")["reason"] == "other_browser"


def test_a_browser_with_a_ticket_is_sent_on_and_comes_back_without_a_key(front: Front) -> None:
    browser, path = front.browser(), ticketed(front, return_to="/settings?tab=1", labels={"team": "red"})
    sent = browser.get(path)
    assert sent.status_code == 303
    cookie = cookie_of(sent)
    assert (cookie["samesite"], cookie["httponly"], cookie["path"], cookie["secure"]) == ("lax", "True", "/", "")
    assert int(cookie["max-age"]) == 600
    back = browser.get("/acme/callback", params=consent(sent.headers["location"]))
    assert (back.status_code, back.headers["location"]) == (303, "/settings?tab=1")
    assert cookie_of(back)["max-age"] == "0"
    [made] = front.vault.connections()
    assert (made.owner, made.labels) == ("olga", {"team": "red"})


def test_a_ticket_is_good_for_one_visit_within_a_minute_at_its_provider(front: Front) -> None:
    browser, path = front.browser(), ticketed(front)
    assert browser.get(path).status_code == 303
    assert problem(browser.get(path), 400, "connect_refused")["reason"] == "unknown_ticket"
    path = ticketed(front)
    assert problem(browser.get(path.replace("acme", "spotify", 1)), 400, "connect_refused")
    path = ticketed(front)
    front.house.sql("UPDATE evergrant.connect_ticket SET expires_at = now()")
    assert front.house.worker.cleanup(dry_run=True)["connect_tickets"] == 1
    problem(browser.get(path), 400, "connect_refused")


def test_a_ticket_is_not_made_for_what_could_not_be_begun(front: Front) -> None:
    asked = {"owner": "olga", "labels": {"team": "r" * 1025}}
    problem(front.client().post("/acme/tickets", json=asked), 422, "invalid")


def test_another_browser_cannot_end_a_flow(front: Front) -> None:
    sent = front.browser().get(ticketed(front))
    refused = front.browser().get("/acme/callback", params=consent(sent.headers["location"]))
    assert problem(refused, 400, "connect_refused")["reason"] == "other_browser"
    assert front.vault.connections() == []


def test_cookies_are_for_tls_and_this_host_alone_where_it_is_not_this_machine(front: Front) -> None:
    sent = front.browser().get(ticketed(front), headers={"Host": "vault.example.com"})
    cookie = cookie_of(sent)
    assert cookie["secure"]
    assert cookie["name"].startswith("__Host-")
    assert cookie["domain"] == ""


def test_several_flows_of_one_browser_keep_apart(front: Front) -> None:
    browser = front.browser()
    first, second = browser.get(ticketed(front)), browser.get(ticketed(front, owner="otto"))
    for sent in (first, second):
        assert browser.get("/acme/callback", params=consent(sent.headers["location"])).status_code == 200
    assert {each.owner for each in front.vault.connections()} == {"olga", "otto"}


def test_a_form_from_another_site_is_brought_to_where_cookies_come(front: Front) -> None:
    """A browser does not send a lax cookie with a POST from another site, but with the GET that follows it."""
    browser = front.browser()
    sent = browser.get(ticketed(front))
    fields = {**consent(sent.headers["location"]), "user": '{"name": "Olga"}'}
    posted = front.browser().post("/acme/callback", data=fields)
    assert posted.status_code == 303
    where = urlsplit(posted.headers["location"])
    assert dict(parse_qsl(where.query)) == fields
    assert browser.get(f"/acme/callback?{where.query}").status_code == 200


def test_a_key_that_is_added_on_the_way_may_have_the_browser_sent_at_once(front: Front) -> None:
    """By a proxy that has one: the cookie binds the browser."""
    client = front.client("connections:write")
    sent = client.get("/acme/auth", params={"owner": "olga", "redirect": "true"})
    assert sent.status_code == 303
    assert client.get("/acme/callback", params=consent(sent.headers["location"])).status_code == 200


def test_nobody_ends_or_spoils_another_tenants_flow(front: Front) -> None:
    ours, theirs = front.client(tenant="a"), front.client(tenant="b")
    start = begun(ours)
    came = brought(start)
    assert problem(theirs.post("/acme/callback", json=came), 400, "connect_refused")["reason"] == "unknown_state"
    assert ours.post("/acme/callback", json=came).status_code == 200
    assert len(front.vault.for_tenant("a").connections()) == 1


def test_a_state_of_another_provider_is_refused_and_kept(front: Front) -> None:
    client = front.client()
    came = brought(begun(client))
    assert problem(client.post("/spotify/callback", json=came), 400, "connect_refused")["reason"] == "other_provider"
    assert client.post("/acme/callback", json=came).status_code == 200


@pytest.mark.parametrize(
    "where", ["//evil.example", "/\\evil.example", "https://evil.example", "settings", "/\t/evil.example"]
)
def test_return_to_leads_nowhere_else(front: Front, where: str) -> None:
    client = front.client()
    said = problem(client.get("/acme/auth", params={**OWNER, "return_to": where}), 400, "connect_refused")
    assert said["reason"] == "return_to"
    assert problem(front.browser().get(ticketed(front, return_to=where)), 400, "connect_refused")


def test_an_owner_who_declines_is_told_so(front: Front) -> None:
    client = front.client()
    start = begun(client)
    came = {"state": start["state"], "error": "access_denied", "browser": OWNER["browser"]}
    assert problem(client.post("/acme/callback", json=came), 400, "connect_refused")["reason"] == "denied"


def test_what_cannot_be_begun_says_why(front: Front) -> None:
    client = front.client()
    problem(client.get("/unheard-of/auth", params=OWNER), 404, "unknown_provider")
    problem(client.get("/spotify/auth", params=OWNER), 409, "provider_not_ready")
    problem(client.post("/spotify/tickets", json={"owner": "olga"}), 409, "provider_not_ready")
    problem(client.post("/acme/tickets", json={"owner": "olga", "surprise": 1}), 422, "invalid")
    unknown = {**OWNER, "reconnect": "00000000-0000-4000-8000-000000000000"}
    problem(client.get("/acme/auth", params=unknown), 404, "unknown_connection")


def test_an_account_is_connected_again_in_place(front: Front) -> None:
    made, client = front.connect(), front.client()
    start = begun(client, reconnect=str(made))
    assert client.post("/acme/callback", json=brought(start)).json()["id"] == str(made)
    front.house.pass_time(timedelta(minutes=11))
    start = begun(client)
    front.house.sql("UPDATE evergrant.connect_attempt SET expires_at = now()")
    problem(client.post("/acme/callback", json=brought(start)), 400, "connect_refused")


@pytest.mark.parametrize("twice", ["state", "code", "iss", "unknown"])
def test_a_redirect_that_says_something_twice_is_refused_and_the_flow_goes_on(front: Front, twice: str) -> None:
    """Whoever looks at the first of two, and whoever uses the second, are not both right (RFC 6749, section 3.1)."""
    browser = front.browser()
    sent = browser.get(ticketed(front))
    back = consent(sent.headers["location"])
    doubled = [*back.items(), (twice, "another"), (twice, "another")]
    said = problem(browser.get("/acme/callback", params=doubled), 400, "connect_refused")
    assert said["reason"] == "malformed"
    form = front.browser().post("/acme/callback", data=doubled)
    assert problem(form, 400, "connect_refused")["reason"] == "malformed"
    assert browser.get("/acme/callback", params=back).status_code == 200


@pytest.mark.parametrize("uri", ["https://evil.example/cb", "http://127.0.0.1:9/callback/", "http://127.0.0.1:9/CB"])
def test_a_key_does_not_choose_where_codes_go(front: Front, uri: str) -> None:
    client = front.client("connections:write")
    refused = client.get("/acme/auth", params={**OWNER, "redirect_uri": uri})
    assert problem(refused, 400, "connect_refused")["reason"] == "redirect_uri"
    visited = front.browser().get(ticketed(front, redirect_uri=uri))
    assert problem(visited, 400, "connect_refused")["reason"] == "redirect_uri"
