"""The examples of docs/integrations.md, started as that page says and used by people with browsers."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from signal import SIGTERM
from typing import Any, Self
from uuid import UUID, uuid4

import pytest
import requests

from tests.integration.house import House
from tests.integration.waiting import until
from tests.simulator import SimulatorProcess
from tests.simulator.client import follow
from tests.support.receiver import Receiver, status
from vault import Status, Vault
from vault.testing._process import Keeper

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs/integrations.md").read_text()
STARTED = dict(re.findall(r"^(?=.*docs/examples)(flask|python|uvicorn) (.*)$", PAGE, re.MULTILINE))
"""How the page says that each is started."""
FRAMEWORKS = {"flask": "flask", "django": "python", "fastapi": "uvicorn"}
GET_DEADLINE_S = 0.3
ME = "/v1/me"


class Page(HTMLParser):
    """What a browser makes of an answer: text, links, and buttons of the one form."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__()
        self.status, self.url, self.headers = answer.status_code, answer.url, answer.headers
        self.text, self.links, self.fields = "", dict[str, str](), dict[str, str]()
        self.buttons: dict[str, dict[str, str]] = {}
        self._in: tuple[str, dict[str, str]] = ("", {})
        self.feed(answer.text)
        assert "Traceback" not in answer.text

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self._in = (tag, found)
        if tag == "input":
            self.fields[found["name"]] = found.get("value", "")

    def handle_data(self, data: str) -> None:
        tag, found = self._in
        self.text += data
        if tag == "button":
            self.buttons.setdefault(data.strip(), found)
        elif tag == "a":
            self.links[data.strip()] = found["href"]

    def handle_endtag(self, tag: str) -> None:
        self._in = ("", {})


class Browser(requests.Session):
    """A person's, with its cookies; wherever it is sent it goes, to the provider and back."""

    def __init__(self, base: str, name: str = "") -> None:
        super().__init__()
        self.base, self.trust_env = base, False
        if name:
            self.press(self.visit("/"), "Sign in", name=name)

    def visit(self, where: str) -> Page:
        return Page(self.get(self.base + where if where.startswith("/") else where, timeout=20))

    def submit(self, where: str, fields: dict[str, str], **words: Any) -> requests.Response:
        return self.post(self.base + where, data=fields, timeout=20, **words)

    def press(self, page: Page, label: str, **typed: str) -> Page:
        return Page(self.submit(*self._pressed(page, label, typed)))

    def begin(self, label: str = "Connect acme") -> str:
        """Press a button that leads to the provider, and stop on the way; returns where to."""
        answer = self.submit(*self._pressed(self.visit("/"), label, {}), allow_redirects=False)
        assert answer.status_code in (302, 303)
        return answer.headers["location"]

    def _pressed(self, page: Page, label: str, typed: dict[str, str]) -> tuple[str, dict[str, str]]:
        button = page.buttons[label]
        chosen = {button["name"]: button["value"]} if "name" in button else {}
        return button["formaction"], {**page.fields, **chosen, **typed}


class Site:
    """An example that runs."""

    def __init__(self, house: House, api: Receiver, framework: str, home: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.house, self.api, self.base = house, api, f"http://127.0.0.1:{port}"
        self._keeper = Keeper(home, stop=((SIGTERM, 5.0),))
        program = FRAMEWORKS[framework]
        said = STARTED[program].replace("docs/examples", str(CHECKOUT / "docs/examples")).replace("5000", str(port))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("VAULT_")}
        mine = {
            "VAULT_REDIRECT_URI": f"{self.base}/callback",
            "VAULT_GET_DEADLINE_S": str(GET_DEADLINE_S),
            "APP_SECRET": "only for tests",
            "APP_PROVIDERS": f"acme={api.url(ME)}",
        }
        place = str(Path(sys.executable).with_name(program))
        self._keeper.start([place, *shlex.split(said)], {**inherited, **house.environment, **mine})
        until(self._listens)

    def _listens(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", int(self.base.rpartition(":")[2]))) == 0

    @property
    def log(self) -> str:
        return (self._keeper.home / "log").read_text()

    def close(self) -> None:
        self._keeper.close()

    def someone(self) -> Someone:
        return Someone(self)


class Someone:
    """A person who has signed in, under a name that nobody else has."""

    def __init__(self, site: Site) -> None:
        self.site, self.name = site, f"olga-{uuid4().hex[:8]}"
        self.browser = Browser(site.base, self.name)

    def connected(self) -> Self:
        page = self.browser.press(self.browser.visit("/"), "Connect acme")
        assert (page.status, page.url) == (200, f"{self.site.base}/")
        return self

    @property
    def connections(self) -> list[UUID]:
        return [each.id for each in self.site.house.vault.connections(owner=self.name)]

    @property
    def status(self) -> Status:
        [only] = self.connections
        return self.site.house.vault.connection(only).status

    @property
    def account(self) -> str:
        """Where the page is that asks the provider."""
        [only] = self.connections
        return f"/accounts/{only}"


@pytest.fixture(scope="module")
def house(
    module_database_url: str, simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    built = House(module_database_url, simulator, tmp_path_factory.mktemp("house"))
    yield built
    built.close()


def asked(house: House) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer as the provider does."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        shown = {"Authorization": handler.headers["Authorization"]}
        said = requests.get(house.simulator.uri(house.far_side, "api"), headers=shown, timeout=20)
        status(said.status_code, said.content)(handler)

    return answer


@pytest.fixture(scope="module", params=FRAMEWORKS)
def running(house: House, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Receiver() as api:
        site = Site(house, api, request.param, tmp_path_factory.mktemp(request.param))
        yield site
        site.close()


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """One that has not stumbled when the test is over. The provider's API says who has the token."""
    running.api.answers[ME] = asked(running.house)
    yield running
    assert "Traceback" not in running.log


def test_an_account_is_connected_used_refreshed_lost_connected_again_and_left(site: Site) -> None:
    house, olga = site.house, site.someone().connected()
    home = olga.browser.visit("/")
    assert "acme active" in " ".join(home.text.split())
    first = olga.browser.visit(home.links["acme"])
    [account] = re.findall(r'{"account": "(account-\d+)"}', first.text)

    house.pass_time(timedelta(hours=1))
    pending = olga.browser.visit(olga.account)
    assert (pending.status, "again soon" in pending.text) == (503, True)
    assert int(pending.headers["retry-after"]) >= 1
    house.worker.refresh_scan()
    assert olga.browser.visit(olga.account).text == first.text

    house.simulator.kill_account(house.far_side, account)
    house.pass_time(timedelta(hours=1))
    house.worker.refresh_scan()
    lost = olga.browser.visit(olga.account)
    assert (lost.status, "acme wants you to connect again (invalid_grant)" in lost.text) == (409, True)
    back = olga.browser.press(lost, "Reconnect")
    assert (back.status, back.url) == (200, site.base + olga.account)
    assert '{"account": "account-' in back.text

    left = olga.browser.press(back, "Disconnect")
    assert (left.status, left.links) == (200, {"Accounts": "/"})
    assert olga.status is Status.DISCONNECTED


def test_who_comes_back_in_another_browser_is_refused(site: Site) -> None:
    olga, mallory = site.someone(), site.someone()
    came = follow(olga.browser.begin())
    for other in (mallory.browser, Browser(site.base)):
        refused = other.visit(came)
        assert (refused.status, "Nothing was connected" in refused.text) == (400, True)
        came = follow(olga.browser.begin())
    assert (olga.connections, mallory.connections) == ([], [])


def test_who_signs_in_meanwhile_does_not_end_what_another_began(site: Site) -> None:
    olga, otto = site.someone(), site.someone()
    came = follow(olga.browser.begin())
    page = olga.browser.submit("/login", {**olga.browser.visit("/").fields, "name": otto.name})
    assert page.status_code == 200
    assert "other_browser" in olga.browser.visit(came).text
    assert (olga.connections, otto.connections) == ([], [])


def test_a_way_back_that_is_gone_twice_leads_nowhere_the_second_time(site: Site) -> None:
    olga = site.someone()
    came = follow(olga.browser.begin())
    assert olga.browser.visit(came).status == 200
    again = olga.browser.visit(came)
    assert (again.status, "unknown_state" in again.text) == (400, True)
    assert olga.status is Status.ACTIVE


@pytest.mark.parametrize("query", ["", "?state=made-up&code=made-up", "?error=access_denied"])
def test_a_way_back_that_nobody_began_is_refused(site: Site, query: str) -> None:
    for browser in (site.someone().browser, Browser(site.base)):
        page = browser.visit(f"/callback{query}")
        assert (page.status, "unknown_state" in page.text) == (400, True)


def test_who_declines_has_connected_nothing_and_is_told_so(site: Site) -> None:
    olga = site.someone()
    page = olga.browser.visit(follow(f"{olga.browser.begin()}&deny=1"))
    assert (page.status, "Nothing was connected (denied)" in page.text) == (400, True)
    assert "Connect acme" in page.buttons
    assert olga.connections == []


@pytest.mark.parametrize("trouble", [status(403, b"no"), status(500)], ids=["403", "500"])
def test_an_api_that_does_not_serve_is_told_of(site: Site, trouble: Callable[[BaseHTTPRequestHandler], None]) -> None:
    olga = site.someone().connected()
    site.api.answers[ME] = trouble
    page = olga.browser.visit(olga.account)
    assert (page.status, "acme did not answer as it should" in page.text) == (502, True)
    assert "Reconnect" in page.buttons


def test_what_an_api_says_is_text_and_no_markup(site: Site) -> None:
    olga = site.someone().connected()
    site.api.answers[ME] = status(200, b"<button formaction=/>Win</button>")
    page = olga.browser.visit(olga.account)
    assert ("Win" in page.text, "Win" in page.buttons) == (True, False)


def test_a_strangers_account_is_as_good_as_none(site: Site) -> None:
    olga, mallory = site.someone().connected(), site.someone()
    fields = mallory.browser.visit("/").fields
    for id_ in (str(olga.connections[0]), str(uuid4()), "no-id"):
        seen = mallory.browser.visit(f"/accounts/{id_}")
        taken = Page(mallory.browser.submit("/connect/acme", {**fields, "reconnect": id_}))
        ended = Page(mallory.browser.submit(f"/disconnect/{id_}", fields))
        for page in (seen, taken, ended):
            assert (page.status, "no such account" in page.text) == (404, True)
    assert (olga.status, mallory.connections) == (Status.ACTIVE, [])


def test_an_account_at_a_provider_that_the_app_does_not_know_is_not_shown(site: Site) -> None:
    someone = site.someone()
    another = Vault.from_env({**site.house.environment, "VAULT_CLIENT_GITHUB_ID": "another-app"})
    other = another.store_oauth("github", owner=someone.name, access_token="at-of-another-app").connection
    another.close()
    assert str(other) not in someone.browser.visit("/").text
    assert someone.browser.visit(f"/accounts/{other}").status == 404


def test_a_form_that_is_not_from_here_does_nothing(site: Site) -> None:
    olga, mallory = site.someone().connected(), site.someone()
    token = next(iter(olga.browser.visit("/").fields))
    foreign = mallory.browser.visit("/").fields[token]
    for forged in ({}, {token: ""}, {token: "€"}, {token: foreign}):
        for where in ("/connect/acme", f"/disconnect/{olga.connections[0]}", "/login"):
            page = Page(olga.browser.submit(where, {**forged, "name": mallory.name}, allow_redirects=False))
            assert (page.status, "not from here" in page.text) == (403, True)
    assert olga.browser.visit(olga.account).status == 200


def test_who_has_not_signed_in_sees_nothing(site: Site) -> None:
    olga, nobody = site.someone().connected(), Browser(site.base)
    fields = nobody.visit("/").fields
    tried = [nobody.visit(olga.account)]
    tried += [Page(nobody.submit(where, fields)) for where in ("/connect/acme", f"/disconnect/{olga.connections[0]}")]
    assert {page.status for page in tried} <= {401, 403}
    assert olga.status is Status.ACTIVE


def test_what_is_not_offered_is_not_begun(site: Site) -> None:
    olga = site.someone()
    assert olga.browser.submit("/connect/spotify", olga.browser.visit("/").fields).status_code == 404
    assert olga.browser.get(f"{site.base}/connect/acme").status_code == 405


def test_the_sessions_cookie_is_out_of_the_reach_of_scripts_and_of_other_sites_forms(site: Site) -> None:
    answer = Browser(site.base).submit("/login", {}, allow_redirects=False)
    signed_in = site.someone().browser
    [cookie] = [each for each in signed_in.cookies if each.name.startswith("session")]
    held = {name.lower(): value for name, value in cookie.__dict__["_rest"].items()}
    assert "httponly" in held
    assert str(held["samesite"]).lower() == "lax"
    assert answer.status_code == 403


TLS = """
import sys
sys.path.insert(0, "docs/examples")
import django_app, fastapi_app, flask_app
[sessions] = fastapi_app.app.user_middleware
print(sessions.kwargs["https_only"], flask_app.app.config["SESSION_COOKIE_SECURE"])
print(django_app.settings.SESSION_COOKIE_SECURE, django_app.settings.CSRF_COOKIE_SECURE)
"""


def test_cookies_are_for_tls_where_the_site_has_it(house: House) -> None:
    site = {"VAULT_REDIRECT_URI": "https://app.example/callback", "APP_SECRET": "x", "APP_PROVIDERS": ""}
    environment = {**os.environ, **house.environment, **site}
    words = [sys.executable, "-c", TLS]
    done = subprocess.run(words, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True"] * 4, done.stderr
