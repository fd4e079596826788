"""What one tenant may ask for that is another's: every endpoint that takes an id, lists, and flows."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from tests.tenants.scene import OWNERS, Tenant
from vault import grant_id


class Call(NamedTuple):
    """A request for something that is another's."""

    what: str
    method: str
    path: str
    words: Mapping[str, Any]
    may_succeed: bool = False
    """Lists do, with what is the caller's own."""
    follows: str = ""
    """What can be told from what is sent, and so may come back."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


STATISTICS = "GET /statistics"
_Maker = Callable[[random.Random, Tenant, Tenant], Call]


def _by_id(kind: str, method: str, tail: str = "", **words: Any) -> _Maker:
    def make(dice: random.Random, _: Tenant, theirs: Tenant) -> Call:
        ids: list[UUID] = getattr(theirs, kind)
        return Call(f"{method} /{kind}/…{tail}", method, f"/{kind}/{dice.choice(ids)}{tail}", words)

    return make


def _further(dice: random.Random, _: Tenant, theirs: Tenant) -> Call:
    whose = dice.choice(theirs.connections)
    path, follows = f"/connections/{whose}/token", str(grant_id(whose, "also"))
    return Call("GET /connections/…/token?grant", "GET", path, {"params": {"grant": "also"}}, follows=follows)


def _list(kind: str) -> _Maker:
    def make(dice: random.Random, _: Tenant, theirs: Tenant) -> Call:
        filters: dict[str, Any] = {"limit": dice.choice((1, 2, 200))}
        if dice.random() < 0.5:
            filters["owner"] = dice.choice((*OWNERS, theirs.name))
        if dice.random() < 0.5:
            filters["provider"] = "acme"
        if dice.random() < 0.5:
            filters["cursor"] = dice.choice(getattr(theirs, kind))
        if kind == "credentials" and dice.random() < 0.5:
            filters["connection"] = dice.choice(theirs.connections)
        return Call(f"GET /{kind}", "GET", f"/{kind}", {"params": filters}, may_succeed=True)

    return make


def _reconnect(dice: random.Random, _: Tenant, theirs: Tenant) -> Call:
    owner = dice.choice((*OWNERS, theirs.name))
    words = {"owner": owner, "browser": "b", "reconnect": str(dice.choice(theirs.connections))}
    return Call("GET /…/auth", "GET", "/acme/auth", {"params": words})


def _callback(dice: random.Random, _: Tenant, theirs: Tenant) -> Call:
    return Call("POST /…/callback", "POST", "/acme/callback", {"json": _brought(dice.choice(theirs.states))})


def _brought(came: Mapping[str, str]) -> dict[str, str]:
    return {name: came[name] for name in ("state", "code", "iss", "browser") if name in came}


def _own(method: str, path: str) -> _Maker:
    """What is asked for by words that others use too: one's own comes, or nothing."""

    def make(dice: random.Random, _: Tenant, theirs: Tenant) -> Call:
        owner = dice.choice((*OWNERS, theirs.name))
        return Call(f"{method} /…{path}", method, f"/acme{path}", {"params": {"owner": owner}}, may_succeed=True)

    return make


CALLS: tuple[_Maker, ...] = (
    *(_list("connections"), _list("credentials"), _list("connections"), _list("credentials")),
    _by_id("connections", "GET"),
    _by_id("connections", "GET", "/token"),
    _by_id("connections", "GET", "/health"),
    _by_id("connections", "GET", "/grants"),
    _further,
    _by_id("connections", "DELETE"),
    _by_id("connections", "POST", "/refresh"),
    _by_id("connections", "POST", "/reject"),
    _by_id("credentials", "GET"),
    _by_id("credentials", "GET", "/value"),
    _by_id("credentials", "GET", "/versions"),
    _by_id("credentials", "PUT", "/value", json={"value": "mine"}),
    _by_id("credentials", "POST", "/rollback", json={}),
    _by_id("credentials", "POST", "/rotate", json={}),
    *(_reconnect, _callback),
    *(_own("GET", "/connection"), _own("GET", "/health")),
    lambda *_: Call(STATISTICS, "GET", "/statistics", {}, may_succeed=True),
)
