"""Two grants under one connection: Slack's bot and its user, each with tokens of its own."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
import requests
from click.testing import CliRunner

from tests.integration.house import House
from tests.integration.web.front import opened
from tests.simulator.client import consent
from vault import Connection, ConnectRefused, ReconnectRequired, Status, Token, UnknownConnection, grant_id
from vault.cli import main
from vault.ports import NewGrant

CHAT, HISTORY = ["chat:write", "users:read"], ["channels:history", "search:read"]


class Slack:
    """A provider that speaks as Slack does, with the row that comes with us."""

    def __init__(self, house: House) -> None:
        self.house, self.far = house, f"{house.far_side}-slack"
        file = house.home / "providers.toml"
        places = {f"{name}_uri": house.simulator.uri(self.far, name) for name in ("authorize", "token", "revoke")}
        said = "".join(f'{name} = "{uri}"\n' for name, uri in places.items())
        file.write_text(f"{file.read_text()}\n[slack]\n{said}")
        house.environment |= {"VAULT_CLIENT_SLACK_ID": "evergrant", "VAULT_CLIENT_SLACK_SECRET": "cnry-cs-simulator"}
        self.speak("U1")

    def speak(self, user: str, **shape: object) -> None:
        extra = {
            "ok": True,
            "token_type": "bot",
            "team": {"id": "T1"},
            "authed_user": {"id": user, "token_type": "user"},
        }
        answer = {"scope_separator": ",", "beside": {"authed_user": "user_scope"}, "extra": extra, **shape}
        self.house.simulator.configure(
            self.far, require_pkce=False, client_auth="post", answer=answer,
            dialect={"error": {"ok": False, "error": "{code}"}, "error_status": 200,
                     "error_codes": {"invalid_grant": "token_revoked"}},
        )  # fmt: skip

    def connect(
        self, account: str = "olga", *, user: list[str] | None = HISTORY, reconnect: UUID | None = None
    ) -> Connection:
        grants = {} if user is None else {"user": user}
        start = self.house.vault.begin("slack", owner="olga", scopes=CHAT, grants=grants, reconnect=reconnect)
        said = consent(f"{start.url}&login_hint={account}")
        return self.house.vault.complete(state=said["state"], code=said["code"], parameters=said)

    def revoke(self, served: Token) -> None:
        """Have the provider end the one grant that a token is of."""
        [family] = [f for f in self.house.oracle.families(self.far) if served.access_token.reveal() in f.access_tokens]
        form = {
            "client_id": "evergrant",
            "client_secret": "cnry-cs-simulator",
            "token": next(iter(family.refresh_tokens)),
        }
        requests.post(self.house.simulator.uri(self.far, "revoke"), data=form, timeout=10).raise_for_status()

    def works(self, connection_id: UUID) -> bool:
        headers = self.house.vault.get(connection_id).headers()
        return requests.get(self.house.simulator.uri(self.far, "api"), headers=headers, timeout=10).ok

    def alive(self, account: str = "olga") -> list[bool]:
        """Whether each grant that an account has given is still alive at the provider."""
        return [each.revoked_at is None for each in self.house.oracle.families(self.far) if each.account == account]


@pytest.fixture
def slack(house: House) -> Slack:
    return Slack(house)


def test_both_grants_are_served_refreshed_and_shown(slack: Slack) -> None:
    vault, bot = slack.house.vault, slack.connect()
    [user] = vault.grants(bot.id)
    assert (user.id, user.grant, user.part_of) == (grant_id(bot.id, "user"), "user", bot.id)
    assert (bot.grant, bot.part_of, bot.account, user.account) == (None, None, "T1", "U1")
    assert (bot.granted_scopes, user.granted_scopes) == (tuple(CHAT), tuple(HISTORY))
    assert (user.requested_scopes, user.missing_scopes) == (tuple(HISTORY), ())
    assert [each.id for each in vault.connections()] == [bot.id], "what goes with another is listed when asked for"
    assert {each.id for each in vault.connections(further=True)} == {bot.id, user.id}
    assert vault.get(bot.id, grant="user").access_token == vault.get(user.id).access_token

    for _ in range(2):
        before = [vault.get(each).access_token for each in (bot.id, user.id)]
        assert before[0] != before[1]
        slack.house.make_due(bot.id)
        slack.house.make_due(user.id)
        assert slack.house.worker.refresh_scan().refreshed == 2
        assert [vault.get(each).access_token for each in (bot.id, user.id)] != before
        assert slack.works(bot.id)
        assert slack.works(user.id)
    assert vault.get(user.id).headers()["Authorization"].startswith("Bearer "), "the answer says bot, and user"
    assert vault.metadata(bot.id) == {"team.id": "T1", "authed_user.id": "U1"}
    with vault.session(bot.id, slack.house.simulator.uri(slack.far, "api"), grant="user") as session:
        assert session.get("").ok


def test_one_grant_dies_alone_its_event_says_whose_and_a_consent_mends_it(slack: Slack) -> None:
    house, bot = slack.house, slack.connect()
    user = grant_id(bot.id, "user")
    slack.revoke(house.vault.get(user))
    house.make_due(user)
    house.worker.refresh_scan()
    assert house.vault.connection(user).status is Status.NEEDS_RECONNECT
    assert house.vault.connection(bot.id).status is Status.ACTIVE
    assert slack.works(bot.id)
    house.vault.report_rejected(user)
    with pytest.raises(ReconnectRequired):
        house.vault.get(bot.id, grant="user")
    [told] = house.sql("SELECT body::json->'data' AS data FROM evergrant.event")
    assert (told["data"]["part_of"], told["data"]["grant"]) == (str(bot.id), "user")

    again = slack.connect(reconnect=user)  # as whoever heard that event would do
    assert again.id == bot.id
    assert {each.status for each in (again, *house.vault.grants(bot.id))} == {Status.ACTIVE}
    assert slack.works(bot.id)
    assert slack.works(user)


def test_disconnecting_ends_both_and_both_are_revoked(slack: Slack) -> None:
    house, bot = slack.house, slack.connect()
    house.vault.disconnect(bot.id)
    house.worker.refresh_scan()
    assert slack.alive() == [False, False]
    for each in (bot.id, grant_id(bot.id, "user")):
        with pytest.raises(ReconnectRequired, match="disconnected"):
            house.vault.get(each)
        assert house.events(each) == ["connection.disconnected", "connection.revoked"]


def test_a_further_grant_can_be_ended_by_itself(slack: Slack) -> None:
    house, bot = slack.house, slack.connect()
    house.vault.disconnect(grant_id(bot.id, "user"))
    house.worker.refresh_scan()
    assert sorted(slack.alive()) == [False, True]
    assert slack.works(bot.id)


def test_a_consent_without_it_leaves_it_as_it_was(slack: Slack) -> None:
    bot = slack.connect()
    before = slack.house.vault.get(bot.id, grant="user").access_token
    slack.connect(user=[], reconnect=bot.id)
    assert slack.house.vault.get(bot.id, grant="user").access_token == before
    assert slack.works(grant_id(bot.id, "user"))


def test_a_consent_that_brings_only_one_makes_it_the_connection_s_own(slack: Slack) -> None:
    slack.speak("U1", nest="authed_user", beside={})
    made = slack.connect()
    assert slack.house.vault.grants(made.id) == []
    assert slack.works(made.id)
    with pytest.raises(UnknownConnection):
        slack.house.vault.get(made.id, grant="user")


def test_another_user_of_the_same_team_is_refused_and_both_grants_are_given_back(slack: Slack) -> None:
    bot = slack.connect()
    slack.speak("U2")
    with pytest.raises(ConnectRefused) as refused:
        slack.connect("mallory", reconnect=bot.id)
    assert refused.value.reason == "other_account"
    slack.house.worker.refresh_scan()
    assert (slack.alive("mallory"), slack.alive()) == ([False, False], [True, True])


@pytest.mark.parametrize("name", ["bot", "", "user "])
def test_grants_that_the_row_does_not_know_cannot_be_asked_for(slack: Slack, name: str) -> None:
    with pytest.raises(ConnectRefused, match="can be asked slack for: user") as refused:
        slack.house.vault.begin("slack", owner="olga", grants={name: ["x"]})
    assert refused.value.reason == "grants"


def test_a_scope_of_it_must_not_be_several(slack: Slack) -> None:
    with pytest.raises(ConnectRefused) as refused:
        slack.house.vault.begin("slack", owner="olga", grants={"user": ["search:read,admin"]})
    assert refused.value.reason == "scopes"


def test_its_scopes_are_asked_for_beside_the_others(slack: Slack) -> None:
    start = slack.house.vault.begin("slack", owner="olga", scopes=CHAT, grants={"user": HISTORY})
    assert "user_scope=channels%3Ahistory%2Csearch%3Aread" in start.url
    assert "user_scope" not in slack.house.vault.begin("slack", owner="olga", scopes=CHAT).url


def test_what_cannot_all_be_stored_is_not_stored_at_all(slack: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The further grant's row moved on between sealing and storing: the whole is sealed and stored anew."""
    bot = slack.connect()
    store = type(slack.house.vault._connecting._consents._store)
    stored, seen = store.connect, list[bool]()

    def stale(self: object, *grants: NewGrant) -> Connection | None:
        given = (grants[0], replace_version(grants[1], -1)) if not seen else grants
        before = slack.house.row(bot.id)["version"]
        found = stored(self, *given)  # type: ignore[arg-type]
        seen.append(found is not None)
        if found is None:
            assert slack.house.row(bot.id)["version"] == before
        return found

    monkeypatch.setattr(store, "connect", stale)
    slack.connect(reconnect=bot.id)
    assert seen == [False, True]
    assert slack.works(bot.id)
    assert slack.works(grant_id(bot.id, "user"))


def replace_version(grant: NewGrant, by: int) -> NewGrant:
    return grant._replace(version=grant.version + by)


def test_another_tenant_s_further_grants_are_nobody_s(slack: Slack) -> None:
    bot, other = slack.connect(), slack.house.vault.for_tenant("rival")
    for act in (other.grants, other.disconnect, lambda each: other.get(each, grant="user")):
        with pytest.raises(UnknownConnection):
            act(bot.id)
    with pytest.raises(UnknownConnection):
        other.disconnect(grant_id(bot.id, "user"))
    assert slack.works(grant_id(bot.id, "user"))
    with pytest.raises(UnknownConnection):
        slack.house.vault.grants(uuid4())


def test_it_is_served_and_listed_over_http(slack: Slack) -> None:
    with opened(slack.house) as front:
        app = front.client()
        asked = {"owner": "olga", "browser": "hers", "grant": "user=search:read channels:history"}
        start = app.get("/slack/auth", params=asked).json()
        said = consent(f"{start['url']}&login_hint=olga")
        posted = {"state": said["state"], "code": said["code"], "iss": said["iss"], "browser": "hers"}
        made = app.post("/slack/callback", json=posted).json()
        [user] = app.get(f"/connections/{made['id']}/grants").json()["items"]
        assert (user["grant"], user["part_of"], user["granted_scopes"]) == (
            "user",
            made["id"],
            asked["grant"][5:].split(),
        )
        assert [each["id"] for each in app.get("/connections").json()["items"]] == [made["id"]]
        assert len(app.get("/connections", params={"further": True}).json()["items"]) == 2
        token = app.get(f"/connections/{made['id']}/token", params={"grant": "user"}).json()
        assert token == {**app.get(f"/connections/{user['id']}/token").json(), "expires_in": token["expires_in"]}
        assert app.get(f"/connections/{made['id']}/token", params={"grant": "bot"}).status_code == 404

        ticket = app.post("/slack/tickets", json={"owner": "otto", "grants": {"user": ["search:read"]}}).json()
        sent = front.browser().get(ticket["path"].removeprefix("/api/v1")).headers["location"]
        assert "user_scope=search%3Aread" in sent


def test_the_command_line_shows_both(slack: Slack) -> None:
    bot = slack.connect()

    def run(*words: str) -> Any:
        result = CliRunner(env=slack.house.environment).invoke(main, ["--json", *words])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    assert {(each["grant"], each["part_of"]) for each in run("list")} == {(None, None), ("user", str(bot.id))}
    assert run("show", str(bot.id))["grant user"] == f"{grant_id(bot.id, 'user')} active"
    served = [run("get", str(bot.id), *words, "--reveal")["access_token"] for words in ((), ("--grant", "user"))]
    assert served == [slack.house.vault.get(bot.id, grant=each).access_token.reveal() for each in (None, "user")]


def test_ids_of_further_grants_are_like_any_connection_s() -> None:
    own = uuid4()
    assert grant_id(own, "user") == grant_id(own, "user") != grant_id(own, "bot")
    assert (grant_id(own, "user").version, grant_id(own, "user").variant) == (own.version, own.variant)
