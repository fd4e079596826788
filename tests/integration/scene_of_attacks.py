"""Where flows are attacked: providers of several kinds at one simulator, two tenants, and what must not change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from tests.integration.house import House
from tests.simulator.client import follow
from vault import Connection, ConnectStart, Vault

BROWSER = "the session of their own browser"
ELSEWHERE = "https://evil.example"
CALLBACK = "http://127.0.0.1:9/callback"
OTHER_CALLBACK = "http://127.0.0.1:9/callback/two"
AFTER = "https://app.example/after"
KINDS = ("strict", "loose", "named", "shop", "wide", "signed", "mute", "broad")
UNCHANGED = ("connection", "oauth_grant", "schedule", "candidate", "connection_metadata", "revocation")


class Flow:
    """One that an owner began, and agreed to at the provider; their browser is on its way back."""

    def __init__(self, vault: Vault, start: ConnectStart, url: str) -> None:
        self.vault, self.start = vault, start
        self.back = dict(parse_qsl(urlsplit(follow(url)).query))

    def complete(self, **changes: Any) -> Connection:
        """Come back, as the provider says or otherwise."""
        said = {"state": self.start.state, "code": self.back.get("code"), "issuer": self.back.get("iss")}
        return self.vault.complete(**{**said, "browser": BROWSER, "error": self.back.get("error"), **changes})


class Scene:
    """A house with providers for every attack."""

    def __init__(self, house: House) -> None:
        self.house, self.vault = house, house.vault
        self.other_tenant = self.vault.for_tenant("other")
        self.prepared: Any = None

    def flow(self, provider: str = "acme", vault: Vault | None = None, url: str = "", **words: Any) -> Flow:
        """Have an owner begin and agree; ``url`` is added to where they are sent."""
        vault = vault or self.vault
        start = vault.begin(provider, **{"owner": "olga", "browser": BROWSER, **words})
        return Flow(vault, start, start.url + url)

    def connected(self, provider: str = "acme", **words: Any) -> Connection:
        """Have an owner do all of it."""
        return self.flow(provider, **words).complete()

    def answers(self, kind: str = "error_before", **members: Any) -> None:
        """Have the next exchange of a code be answered otherwise."""
        rule = {"grant_type": "authorization_code", "next": 1, **members}
        self.house.simulator.add_fault(self.house.far_side, kind, **rule)

    def as_account(self, account: str) -> None:
        """Have the provider that names accounts name this one."""
        self.house.simulator.configure(f"{self.house.far_side}-named", answer={"extra": {"account_id": account}})

    def kept(self) -> Mapping[str, str]:
        """What is stored, as digests."""
        asked = "SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') AS digest FROM evergrant.{} t"
        return {table: self.house.sql(asked.format(table))[0]["digest"] for table in UNCHANGED}


def addresses(house: House, name: str, far_side: str) -> str:
    root = f"{house.simulator.base_uri}/{far_side}"
    return (
        f'[{name}]\nauthorize_uri = "{root}/authorize"\ntoken_uri = "{root}/token"\nrevoke_uri = "{root}/revoke"\n'
        'rotation = "strict"\n'
    )


def furnish(house: House) -> None:
    """Write the registry, before anything reads it."""
    base, far = house.simulator.base_uri, house.far_side
    named = f"{far}-named"
    house.simulator.configure(named, answer={"extra": {"account_id": "hers"}})
    file = house.home / "providers.toml"
    wide = addresses(house, "wide", "FAR").replace(f"{base}/FAR", "{server}")
    tables = (
        f'{addresses(house, "strict", far)}issuer = "{base}/{far}"\niss_required = true\n',
        f'{addresses(house, "loose", named)}issuer = "{base}/{named}"\n',
        f'{addresses(house, "named", named)}[named.answer]\naccount = "account_id"\n',
        f'{addresses(house, "shop", "{shop}")}[shop.variables.shop]\npattern = "[a-z0-9-]{{1,40}}"\n',
        f'{wide}[wide.variables.server]\npattern = "{base}/provider-[0-9a-f]+"\ndefault = "{base}/{far}"\n'
        'parameter = "server"\n',
        "\n".join(line for line in addresses(house, "mute", far).splitlines() if "revoke" not in line),
        f"{addresses(house, 'broad', far)}revoke_ends_all = true\n",
        f'[signed]\nstrategy = "oauth1"\nrotation = "none"\nrequest_token_uri = "{base}/{far}/request_token"\n'
        f'authorize_uri = "{base}/{far}/consent"\ntoken_uri = "{base}/{far}/access_token"\n',
    )
    file.write_text("\n".join((file.read_text(), *tables)))
    for kind in KINDS:
        house.environment |= {
            f"VAULT_CLIENT_{kind.upper()}_ID": "evergrant", f"VAULT_CLIENT_{kind.upper()}_SECRET": "cnry-cs-simulator",
        }  # fmt: skip
    house.environment |= {"VAULT_REDIRECT_URIS": OTHER_CALLBACK, "VAULT_RETURN_TO": f"{AFTER},https://two.example"}


Attack = Callable[[Scene], Any]


class Case(NamedTuple):
    """An attack, what it must be told, and whether the flow it was aimed at can still be ended by who began it."""

    name: str
    reason: str
    attack: Attack
    victim: str = ""
    """``open`` or ``spent``; empty: nobody's flow was attacked."""
    before: Attack | None = None
    """What is there before; what it returns is ``scene.prepared``."""
