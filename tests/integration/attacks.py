"""Attacks on connect flows, one line each: what whoever attacks does, and the reason it is refused with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import uuid4

from tests.integration.scene_of_attacks import AFTER, BROWSER, CALLBACK, ELSEWHERE, OTHER_CALLBACK, Attack, Case, Scene
from tests.simulator.client import follow
from vault import ConnectRefused


def brings(**changes: Any) -> Attack:
    """The redirect of an owner's flow, with something else in it."""
    return lambda scene: scene.prepared.complete(**changes)


def agreed(provider: str = "acme", **words: Any) -> Attack:
    """An owner's flow, about to come back."""
    return lambda scene: scene.flow(provider, **words)


def begins(provider: str = "acme", **words: Any) -> Attack:
    """A beginning with something in it that nobody should say."""
    return lambda scene: scene.vault.begin(provider, **{"owner": "olga", "browser": BROWSER, **words})


def on(name: str, reason: str, victim: str, provider: str = "acme", **changes: Any) -> Case:
    """An attack on what comes back."""
    return Case(name, reason, brings(**changes), victim, agreed(provider))


def answered(name: str, body: str, reason: str = "exchange_refused", status: int = 200) -> Case:
    """A provider that answers the exchange of a code like this."""

    def attack(scene: Scene) -> None:
        scene.answers(status=status, body=body)
        scene.prepared.complete()

    return Case(f"answer: {name}", reason, attack, "spent", agreed())


# -------------------------------------------------------------------------------------------------------------- states


def _replayed(scene: Scene) -> None:
    scene.prepared.complete()


def _done(scene: Scene) -> Any:
    flow = scene.flow()
    flow.complete()
    return flow


def _old(scene: Scene) -> Any:
    flow = scene.flow()
    scene.house.sql("UPDATE evergrant.connect_attempt SET expires_at = expires_at - %s", (timedelta(minutes=11),))
    return flow


def _by_tenant(scene: Scene) -> None:
    scene.other_tenant.complete(state=scene.prepared.start.state, code=scene.prepared.back["code"], browser=BROWSER)


STATES = [
    on("a state nobody gave", "unknown_state", "open", state="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    on("an empty state", "unknown_state", "open", state=""),
    on("a state with NUL", "unknown_state", "open", state="\x00"),
    on("a state with a lone surrogate", "unknown_state", "open", state="\ud800"),
    on("a state of a megabyte", "unknown_state", "open", state="A" * 2**20),
    on("a state that is SQL", "unknown_state", "open", state="' OR true --"),
    Case("a state in other letters", "unknown_state",
         lambda s: s.prepared.complete(state=s.prepared.start.state.swapcase()), "open", agreed()),
    Case("a state with a blank", "unknown_state",
         lambda s: s.prepared.complete(state=f"{s.prepared.start.state} "), "open", agreed()),
    Case("a state cut short", "unknown_state",
         lambda s: s.prepared.complete(state=s.prepared.start.state[:-1]), "open", agreed()),
    Case("the digest of a state, out of the database", "unknown_state", lambda s: s.prepared.complete(
        state=s.house.sql("SELECT encode(state_digest, 'hex') AS d FROM evergrant.connect_attempt")[-1]["d"]),
        "open", agreed()),
    Case("a state that was used", "unknown_state", _replayed, "", _done),
    Case("a state eleven minutes old", "unknown_state", _replayed, "spent", _old),
    Case("another tenant's state", "unknown_state", _by_tenant, "open", agreed()),
    Case("a state of another tenant, with its code", "unknown_state",
         lambda s: s.vault.complete(state=s.prepared.start.state, code=s.prepared.back["code"], browser=BROWSER),
         "open", lambda s: s.flow(vault=s.other_tenant)),
]  # fmt: skip

# ------------------------------------------------------------------------------------------------------------- browsers

BROWSERS = [
    on("login CSRF: the attacker's redirect in the victim's browser", "other_browser", "spent", browser="the victim's"),
    on("a browser that says nothing", "other_browser", "spent", browser=None),
    on("a browser that says an empty word", "other_browser", "spent", browser=""),
    on("a browser with a lone surrogate", "other_browser", "spent", browser="\udfff"),
    on("a browser that is nearly the same", "other_browser", "spent", browser=f"{BROWSER} "),
    Case("a flow bound to nobody, in a bound browser", "other_browser", brings(), "", agreed(browser=None)),
    Case("a flow bound to an empty word", "browser", begins(browser="")),
    Case("a flow bound to blanks", "browser", begins(browser=" \t ")),
]

# ---------------------------------------------------------------------------------------------------------------- codes


def _others_code(scene: Scene) -> None:
    """Code injection (RFC 9700, section 4.5): the code of another flow is bound to that one's verifier."""
    scene.prepared.complete(code=scene.flow(owner="mallory").back["code"])


def _code_of_another_callback(scene: Scene) -> None:
    scene.prepared.complete(code=scene.flow(redirect_uri=OTHER_CALLBACK).back["code"])


def _code_without_challenge(scene: Scene) -> None:
    """PKCE downgrade (RFC 9700, section 4.8): the challenge is taken out of the address on its way."""
    start = scene.vault.begin("acme", owner="olga", browser=BROWSER)
    parts = urlsplit(start.url)
    kept = [(name, value) for name, value in parse_qsl(parts.query) if not name.startswith("code_challenge")]
    back = dict(parse_qsl(urlsplit(follow(urlunsplit(parts._replace(query=urlencode(kept))))).query))
    scene.vault.complete(state=start.state, code=back.get("code"), error=back.get("error"), browser=BROWSER)


def _plain_challenge(scene: Scene) -> None:
    start = scene.vault.begin("acme", owner="olga", browser=BROWSER)
    back = dict(parse_qsl(urlsplit(follow(start.url.replace("=S256", "=plain"))).query))
    scene.vault.complete(state=start.state, code=back.get("code"), error=back.get("error"), browser=BROWSER)


def _old_code(scene: Scene) -> None:
    scene.house.simulator.advance(61)
    scene.prepared.complete()


CODES = [
    Case("another owner's code", "exchange_refused", _others_code, "spent", agreed()),
    Case("a code for another redirect URI", "exchange_refused", _code_of_another_callback, "spent", agreed()),
    Case("a code that lay about for a minute", "exchange_refused", _old_code, "spent", agreed()),
    Case("the challenge taken away", "denied", _code_without_challenge),
    Case("the challenge made plain", "denied", _plain_challenge),
    on("a made-up code", "exchange_refused", "spent", code="made-up"),
    on("a code that would add parameters", "exchange_refused", "spent", code="x&redirect_uri=https://evil.example"),
    on("no code", "denied", "spent", code=None),
    on("an empty code", "denied", "spent", code=""),
    on("an error beside a code", "denied", "spent", error="access_denied"),
    on("an error that is empty, beside a code", "denied", "spent", error=""),
    on("an error in the parameters, beside a code", "denied", "spent", parameters={"error": "access_denied"}),
    on("an error of a megabyte", "denied", "spent", error="\x00\ud800" * 2**19),
    on("a code with NUL", "malformed", "open", code="a\x00b"),
    on("a code with a lone surrogate", "malformed", "open", code="\ud800"),
    on("a code with a line end", "malformed", "open", code="code\r\nAuthorization: Basic x"),
    on("a code of a megabyte", "malformed", "open", code="A" * 2**20),
    on("two codes", "malformed", "open", parameters={"code": "another"}),
    on("a verifier of OAuth 1.0a with NUL for a code", "malformed", "open", code=None,
       parameters={"oauth_verifier": "\x00"}),
]  # fmt: skip

# --------------------------------------------------------------------------------------------------- who has answered


def _begun_as_gone(scene: Scene) -> Any:
    flow = scene.flow()
    scene.house.sql("UPDATE evergrant.connect_attempt SET client_id = 'a registration of ours that is gone'")
    return flow


ISSUERS = [
    on("mix-up: the issuer is another one", "other_issuer", "spent", "strict", issuer=ELSEWHERE),
    on("mix-up where iss is not required", "other_issuer", "spent", "loose", issuer=ELSEWHERE),
    on("no issuer where one is always named", "other_issuer", "spent", "strict", issuer=None),
    on("an empty issuer", "other_issuer", "spent", "loose", issuer=""),
    on("an issuer with a slash more", "other_issuer", "spent", "loose", issuer="{own}/"),
    on("another issuer, in the parameters alone", "other_issuer", "spent", "loose", issuer=None,
       parameters={"iss": ELSEWHERE}),
    on("two issuers", "malformed", "open", "strict", parameters={"iss": ELSEWHERE}),
    Case("the redirect to another provider's callback", "other_provider", brings(provider="strict"), "spent", agreed()),
    Case("a code for a registration that is not the one asked as", "other_client", brings(), "spent", _begun_as_gone),
]  # fmt: skip

# -------------------------------------------------------------------------------------------------- where browsers go

_AWAY = {
    "another site": ELSEWHERE, "another site, its scheme left out": "//evil.example", "a backslash": "/\\evil.example",
    "two backslashes": "\\\\evil.example", "a backslash in the middle": "/a\\..\\evil", "a tab that browsers leave out":
    "/\t/evil.example", "a line end that browsers leave out": "/\n/evil.example", "a header in it":
    "/next\r\nSet-Cookie: a=b", "NUL": "/\x00", "a lone surrogate": "/\ud800", "a blank at the front": " /next",
    "a relative path": "next", "nothing": "", "slashes encoded": "/%2f%2fevil.example", "encoded twice":
    "/%252fevil.example", "encoded four times": "/%2525252fevil", "a backslash encoded": "/%5cevil.example",
    "dots": "/after/../../evil", "dots encoded": "/%2e%2e/evil", "a line end encoded": "/%0d%0aSet-Cookie:a",
    "a script": "javascript:alert(1)", "data": "data:text/html,x", "three slashes": "///evil.example",
    "a scheme without slashes": "https:evil.example", "a scheme with one slash": "https:/evil.example",
    "the allowed one as a user": "https://app.example@evil.example/after", "a longer host":
    "https://app.example.evil.example/after", "another port": "https://app.example:444/after", "another scheme":
    "http://app.example/after", "beside the allowed path": "https://app.example/afterwards", "above the allowed path":
    "https://app.example/", "out of the allowed path": f"{AFTER}/../admin", "out of it, encoded": f"{AFTER}/%2e%2e/x",
    "a port that is none": "https://app.example:x/after", "a bracket": "https://[app.example/after",
    "two kilobytes": "/" + "a" * 2048, "letters that look the same": "https://\u0430pp.example/after",
}  # fmt: skip
_REDIRECTS = {
    "another site": f"{ELSEWHERE}/callback", "a path more": f"{CALLBACK}/more", "a slash more": f"{CALLBACK}/",
    "a query": f"{CALLBACK}?next=https://evil.example", "a fragment": f"{CALLBACK}#x", "other letters":
    "http://127.0.0.1:9/Callback", "another port": "http://127.0.0.1:99/callback", "a user":
    "http://127.0.0.1:9@evil.example/callback", "dots": "http://127.0.0.1:9/x/../callback", "encoded":
    "http://127.0.0.1:9/%63allback", "a line end": f"{CALLBACK}\r\n", "a script": "javascript:alert(1)",
}  # fmt: skip
PLACES = [Case(f"return_to: {name}", "return_to", begins(return_to=uri)) for name, uri in _AWAY.items()] + [
    Case(f"redirect_uri: {name}", "redirect_uri", begins(redirect_uri=uri)) for name, uri in _REDIRECTS.items()
]

# ------------------------------------------------------------------------------------------------------------ variables

_SHOPS = {
    "a host": "evil.example", "a path": "a/../../evil", "a slash encoded": "a%2fevil", "a user": "a@evil", "a fragment":
    "evil#", "a query": "evil?", "a line end": "shop\n", "capitals": "SHOP", "nothing": "", "braces": "{shop}",
    "the metadata service": "169.254.169.254/latest", "letters that look the same": "sh\u043ep",
}  # fmt: skip
_SERVERS = {
    "another site": ELSEWHERE, "a loopback port": "http://127.0.0.1:22", "the metadata service":
    "http://169.254.169.254", "IPv6": "http://[::1]/provider-0", "a file": "file:///etc/passwd", "a user":
    "{base}/provider-0@evil.example", "a host more": "{base}/provider-0.evil.example", "a line end":
    "{base}/provider-0\n",
}  # fmt: skip


def _server(uri: str) -> Attack:
    return lambda scene: scene.prepared.complete(
        parameters={"server": uri.replace("{base}", scene.house.simulator.base_uri)}
    )


VARIABLES = [
    *(Case(f"shop: {name}", "variables", begins("shop", variables={"shop": shop})) for name, shop in _SHOPS.items()),
    Case("shop: none", "variables", begins("shop")),
    Case("shop: one more", "variables", begins("shop", variables={"shop": "a", "host": "evil.example"})),
    *(Case(f"server in the redirect: {name}", "variables", _server(uri), "spent", agreed("wide"))
      for name, uri in _SERVERS.items()),
]  # fmt: skip

# ---------------------------------------------------------------------------------------------------------- whose it is


def _disconnected_meanwhile(scene: Scene) -> Any:
    made = scene.connected()
    flow = scene.flow(reconnect=made.id)
    scene.vault.disconnect(made.id)
    scene.house.worker.refresh_scan()
    return flow


def _twice(scene: Scene) -> None:
    """Two redirects with one state at the same instant: one wins."""
    flow = scene.prepared

    def ends() -> Any:
        try:
            return flow.complete()
        except ConnectRefused as refusal:
            return refusal

    with ThreadPoolExecutor(4) as several:
        came = list(several.map(lambda _: ends(), range(4)))
    refused = [each for each in came if isinstance(each, ConnectRefused)]
    assert len(refused) == 3, came
    raise refused[0]


def _reconnects(vault: str, **words: Any) -> Attack:
    return lambda s: getattr(s, vault).begin("acme", **{"owner": "olga", **words, "reconnect": s.prepared.id})


def _another_account(scene: Scene) -> None:
    scene.prepared.complete()


def _connected_as_another(scene: Scene) -> Any:
    scene.as_account("hers")
    made = scene.connected("named")
    scene.as_account("somebody else's")
    return scene.flow("named", reconnect=made.id)


OWNERS = [
    Case("a reconnect of another owner's", "other_connection", _reconnects("vault", owner="mallory"), "",
         lambda s: s.connected()),
    Case("a reconnect of another tenant's", "UnknownConnection", _reconnects("other_tenant"), "",
         lambda s: s.connected()),
    Case("a reconnect of nobody's", "UnknownConnection", begins(reconnect=uuid4())),
    Case("a reconnect with an id that is none", "UnknownConnection", begins(reconnect="' OR true --")),
    Case("a reconnect at another provider", "other_connection",
         lambda s: s.vault.begin("loose", owner="olga", reconnect=s.prepared.id), "", lambda s: s.connected()),
    Case("a reconnect that was begun before the owner ended it", "unknown_state", brings(), "spent",
         _disconnected_meanwhile),
    Case("a reconnect with another account", "other_account", _another_account, "spent", _connected_as_another),
    Case("a provider that nobody knows", "UnknownProvider", begins("../acme")),
    Case("an owner without a name", "malformed", begins(owner="")),
    Case("an owner with NUL", "malformed", begins(owner="ol\x00ga")),
    Case("an owner with a lone surrogate", "malformed", begins(owner="\ud800")),
    Case("an owner of a megabyte", "malformed", begins(owner="o" * 2**20)),
    Case("an owner that fits no index", "malformed", begins(owner="".join(map(chr, range(0x4E00, 0x4E00 + 1000))))),
    Case("a label with NUL", "malformed", begins(labels={"plan": "\x00"})),
    Case("a label that is no text", "malformed", begins(labels={"plan": {"admin": True}})),
    Case("a thousand labels", "malformed", begins(labels={str(each): "x" for each in range(1000)})),
    Case("metadata of a megabyte", "ValueError", begins(metadata={"a": "x" * 2**20})),
    Case("metadata that is no text", "ValueError", begins(metadata={"a": 1})),
    Case("scopes within a scope", "scopes", begins(scopes=["read admin"])),
    Case("a scope with a line end", "scopes", begins(scopes=["read\nadmin"])),
    Case("a scope that would add parameters", "scopes", begins(scopes=['read"&prompt=none'])),
    Case("an empty scope", "scopes", begins(scopes=[""])),
]  # fmt: skip

# ---------------------------------------------------------------------------------------------------------- OAuth 1.0a


def _signed_back(scene: Scene, **changes: str) -> None:
    flow = scene.prepared
    scene.vault.complete(state=flow.start.state, browser=BROWSER, parameters={**flow.back, **changes})


SIGNED = [
    Case("OAuth 1.0a: another flow's request token", "other_token",
         lambda s: _signed_back(s, **s.flow("signed", owner="mallory").back), "spent", agreed("signed")),
    Case("OAuth 1.0a: no request token", "other_token", lambda s: _signed_back(s, oauth_token=""), "spent",
         agreed("signed")),
    Case("OAuth 1.0a: a made-up verifier", "exchange_refused", lambda s: _signed_back(s, oauth_verifier="made-up"),
         "spent", agreed("signed")),
    Case("OAuth 1.0a: denied", "denied", lambda s: _signed_back(s, oauth_verifier=""), "spent", agreed("signed")),
]  # fmt: skip

# ---------------------------------------------------------------------------------------------------- hostile providers


def _struck(kind: str, **members: Any) -> Attack:
    def attack(scene: Scene) -> None:
        scene.answers(kind, **members)
        scene.prepared.complete()

    return attack


def _echoes(what: str) -> Attack:
    """A provider that tells what it was sent, where its error should stand."""

    def attack(scene: Scene) -> None:
        said = {"code": scene.prepared.back["code"], "secret": "cnry-cs-simulator"}[what]
        scene.answers(status=400, body=f'{{"error": "{said}"}}')
        scene.prepared.complete()

    return attack


ANSWERS = [
    Case("answer: our code, as an error", "exchange_refused", _echoes("code"), "spent", agreed()),
    Case("answer: our secret, as an error", "exchange_refused", _echoes("secret"), "spent", agreed()),
    answered("a page", "<html>sign in</html>"), answered("nothing", ""), answered("null", "null"),
    answered("a list", '[{"access_token": "x"}]'), answered("a text", '"access_token"'),
    answered("ten thousand brackets", "[" * 10_000), answered("ten thousand braces", '{"a":' * 10_000),
    answered("no token", '{"token_type": "Bearer"}'), answered("an empty token", '{"access_token": ""}'),
    answered("a token that is a number", '{"access_token": 17}'),
    answered("a token that is a list", '{"access_token": ["x"]}'),
    answered("a token that is true", '{"access_token": true}'),
    answered("a token with a line end", '{"access_token": "x\\r\\nHost: evil"}'),
    answered("a token with NUL", '{"access_token": "x\\u0000"}'),
    answered("a token with a lone surrogate", '{"access_token": "\\ud800"}'),
    answered("a refresh token with a line end", '{"access_token": "x", "refresh_token": "a\\nb"}'),
    answered("an error in a 200", '{"error": "invalid_grant", "access_token": "x"}'),
    answered("an error that is a script", '{"error": "<script>alert(1)</script>"}', status=400),
    answered("an error that is a page long", '{"error": "' + "x" * 9_000 + '"}', status=400),
    answered("an error that is a list of lists", '{"error": [[["x"]]]}', status=400),
    answered("a 500 with a token in it", '{"access_token": "x"}', status=500),
    answered("a 302 with a token in it", '{"access_token": "x"}', status=302),
    answered("a 401 with a token in it", '{"access_token": "x"}', status=401),
    Case("answer: a redirect", "exchange_refused", _struck("redirect", location="http://127.0.0.1:1/"), "spent",
         agreed()),
    Case("answer: four megabytes", "exchange_refused", _struck("huge"), "spent", agreed()),
    Case("answer: half of it", "provider_unreachable", _struck("truncated"), "spent", agreed()),
    Case("answer: none", "provider_unreachable", _struck("drop_before"), "spent", agreed()),
    Case("answer: a reset", "provider_unreachable", _struck("reset_after"), "spent", agreed()),
]  # fmt: skip

CASES = [*STATES, *BROWSERS, *CODES, *ISSUERS, *PLACES, *VARIABLES, *OWNERS, *SIGNED, *ANSWERS]
LAST = [Case("two redirects at once with one state", "unknown_state", _twice, "spent", agreed())]
"""Those in which somebody rightly wins as well."""
