"""The session that an app speaks to a provider's API with, over real HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests

from tests.integration.house import House
from tests.support.receiver import Receiver, reset, status
from vault import ProviderSession, ReconnectRequired, Secret, Token
from vault.testing import StaticVault

Answer = Callable[[BaseHTTPRequestHandler], None]


class Turning(StaticVault):
    """Has another token each time one is refused."""

    def report_rejected(self, connection_id: UUID | str) -> None:
        super().report_rejected(connection_id)
        token = self.get(connection_id)
        self._tokens[token.connection_id] = token._replace(access_token=Secret(f"at-{len(self.rejected) + 1}"))


@pytest.fixture
def api() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


class Scene:
    """An app with a connection, at an API; waiting costs no time."""

    def __init__(self, api: Receiver, **options: Any) -> None:
        self.vault, self.waits = Turning(), []  # type: ignore[var-annotated]
        self.connection_id = self.vault.add("acme", owner="olga", access_token="at-1")
        self.session = ProviderSession(
            self.vault, self.connection_id, api.url("/v1"), sleep=self.waits.append, **options
        )  # fmt: skip


def in_turn(*answers: Answer) -> Answer:
    """Answer one after the other; the last one again and again."""
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


def unless(token: str, otherwise: Answer) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        good = handler.headers["Authorization"] == f"Bearer {token}"
        (status(200, b"{}") if good else otherwise)(handler)

    return answer


def test_every_request_has_the_token_and_goes_where_the_base_says(api: Receiver) -> None:
    scene = Scene(api)
    for path in ("me", "/v1/me", "playlists/1?x=y", api.url("/v1/me")):
        assert scene.session.get(path, headers={"X-Mine": "1"}).status_code == 204
    assert [each.path for each in api.received] == ["/v1/me", "/v1/me", "/v1/playlists/1?x=y", "/v1/me"]
    assert {each.headers["authorization"] for each in api.received} == {"Bearer at-1"}
    assert {each.headers["x-mine"] for each in api.received} == {"1"}


@pytest.mark.parametrize(
    "url", ["https://evil.example/", "//evil.example/", "http://127.0.0.1:1/", "http://localhost/"]
)
def test_the_token_goes_to_no_other_origin(api: Receiver, url: str) -> None:
    with pytest.raises(ValueError, match="not for it"):
        Scene(api).session.get(url)
    assert api.received == []


@pytest.mark.parametrize("mark", ["\\", "\\\\", "/\\", "?", "#", "\t", "\n", " ", "%5c", "\uff3c", "%00"])
def test_what_two_parsers_read_differently_takes_the_token_nowhere_else(api: Receiver, mark: str) -> None:
    """A link of somebody's may end the host where who checks it does not, and who sends does."""
    with Receiver() as elsewhere:
        here = api.url("").removeprefix("http://")
        with suppress(ValueError, requests.RequestException):
            Scene(api).session.get(f"{elsewhere.url('')}{mark}@{here}/caught")
        assert elsewhere.received == []


def test_a_redirect_elsewhere_goes_without_the_token(api: Receiver) -> None:
    with Receiver() as elsewhere:
        api.answers["/v1/away"] = status(302, Location=elsewhere.url("/caught"))
        api.answers["/v1/here"] = status(302, Location="/v1/there")
        scene = Scene(api)
        scene.session.get("away")
        scene.session.get("here")
        assert "authorization" not in elsewhere.received[0].headers
        assert api.at("/v1/there")[0].headers["authorization"] == "Bearer at-1"


@pytest.mark.parametrize("base", ["http://api.example/v1", "ftp://api.example/", "api.example", ""])
def test_a_base_is_an_address_with_tls(base: str) -> None:
    vault = StaticVault()
    with pytest.raises(ValueError, match="address of an API"):
        ProviderSession(vault, vault.add("acme", owner="olga", access_token="at"), base)


@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE"])
def test_a_refused_token_is_refreshed_once_and_the_request_sent_once_more(api: Receiver, verb: str) -> None:
    """Who was refused was not heard: that is so for a POST too."""
    api.answers["/v1/me"] = unless("at-2", status(401))
    scene = Scene(api)
    assert scene.session.request(verb if verb != "DELETE" else "GET", "me", data=b"x").status_code == 200
    assert scene.vault.rejected == [scene.connection_id]
    assert [each.body for each in api.received] == [b"x", b"x"]


def test_a_token_that_is_refused_again_is_the_callers_to_see(api: Receiver) -> None:
    api.answers["/v1/me"] = status(401)
    scene = Scene(api)
    assert scene.session.get("me").status_code == 401
    assert (len(api.received), len(scene.vault.rejected)) == (2, 1)


def test_what_cannot_be_sent_twice_is_not(api: Receiver) -> None:
    api.answers["/v1/me"] = status(401)
    scene = Scene(api)
    assert scene.session.post("me", data=iter([b"a", b"b"]), headers={"Content-Length": "2"}).status_code == 401
    assert len(api.received) == 1


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_heeded(api: Receiver, code: int) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=9), usegmt=True)
    api.answers["/v1/me"] = in_turn(status(code, Retry_After="7"), status(code, Retry_After=soon), status(200))
    scene = Scene(api)
    assert scene.session.get("me").status_code == 200
    assert scene.waits[0] == 7
    assert 5 < scene.waits[1] <= 9


@pytest.mark.parametrize("said", ["", "soon", "-1", "1e3", "Mon, 16 Nov 2009 13:32:02 +99999999999999999999"])
def test_without_a_number_a_second_is_waited(api: Receiver, said: str) -> None:
    api.answers["/v1/me"] = in_turn(status(429, Retry_After=said), status(200))
    scene = Scene(api)
    assert scene.session.get("me").status_code == 200
    assert scene.waits == [1]


def test_a_long_wait_is_the_callers(api: Receiver) -> None:
    api.answers["/v1/me"] = status(429, Retry_After="3600")
    scene = Scene(api)
    assert scene.session.get("me").headers["Retry-After"] == "3600"
    assert scene.waits == []


def test_an_api_that_stays_busy_is_asked_three_times(api: Receiver) -> None:
    api.answers["/v1/me"] = status(503)
    assert Scene(api).session.get("me").status_code == 503
    assert len(api.received) == 3


def test_what_is_sent_is_named(api: Receiver) -> None:
    """Without its name it could be a stream, which nobody would see before sending it twice."""
    with pytest.raises(TypeError, match="by name"):
        Scene(api).session.request("POST", "me", None, iter([b"x"]))
    assert api.received == []


@pytest.mark.parametrize(("asked", "sent"), [(False, 1), (True, 2)])
def test_what_may_change_something_is_sent_again_only_when_that_is_asked_for(
    api: Receiver, asked: bool, sent: int
) -> None:
    api.answers["/v1/pay"] = in_turn(status(429, Retry_After="0"), status(200))
    Scene(api, retry_unsafe=asked).session.post("pay", json={"amount": 1})
    assert len(api.received) == sent


def test_a_lost_connection_is_tried_again_where_nothing_can_have_changed(api: Receiver) -> None:
    api.answers["/v1/me"] = in_turn(reset, status(200))
    api.answers["/v1/pay"] = reset
    scene = Scene(api)
    assert scene.session.get("me").status_code == 200
    with pytest.raises(requests.ConnectionError):
        scene.session.post("pay", data=b"x")
    assert len(api.at("/v1/pay")) == 1


def test_an_api_that_says_nothing_is_not_waited_for_for_ever(api: Receiver) -> None:
    held = threading.Event()

    def silent(_: BaseHTTPRequestHandler) -> None:
        held.wait(20)

    api.answers["/v1/me"] = silent
    with pytest.raises(requests.Timeout):
        Scene(api, timeout=0.2).session.get("me")
    held.set()


def test_no_netrc_and_no_argument_takes_the_tokens_place(
    api: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password theirs\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    scene = Scene(api)
    scene.session.get("me")
    scene.session.get("me", auth=("me", "theirs"))
    assert {each.headers["authorization"] for each in api.received} == {"Bearer at-1"}


def test_a_connection_that_is_dead_says_so(api: Receiver) -> None:
    scene = Scene(api)
    scene.vault.fail(scene.connection_id, ReconnectRequired(scene.connection_id, "invalid_grant"))
    with pytest.raises(ReconnectRequired):
        scene.session.get("me")
    assert api.received == []


def test_with_a_real_vault_a_worker_brings_the_new_token(house: House, api: Receiver) -> None:
    each = house.connect()
    first: Token = house.vault.get(each)
    api.answers["/v1/me"] = lambda handler: (
        status(401) if handler.headers["Authorization"] == f"Bearer {first.access_token.reveal()}" else status(200)
    )(handler)
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            house.worker.refresh_scan(timedelta(seconds=0.2))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        with house.vault.session(each, api.url("/v1")) as session:
            assert session.get("me").status_code == 200
    finally:
        over.set()
        worker.join()
    assert house.vault.get(each).access_token != first.access_token
    assert len(api.received) == 2


def test_a_token_that_is_refused_because_its_grant_is_dead_says_so_soon(house: House, api: Receiver) -> None:
    each = house.connect()
    api.answers["/v1/me"] = status(401)
    house.simulator.kill_account(house.far_side, house.account(each))
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            house.worker.refresh_scan(timedelta(seconds=0.2))

    worker = threading.Thread(target=work)
    worker.start()
    began = time.monotonic()
    try:
        with house.vault.session(each, api.url("/v1")) as session, pytest.raises(ReconnectRequired):
            session.get("me")
    finally:
        over.set()
        worker.join()
    assert time.monotonic() - began < 8
