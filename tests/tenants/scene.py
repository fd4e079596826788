"""Several tenants with the same owners at the same provider, and everything of theirs by which it would be known."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.integration.house import House
from tests.integration.web.front import ALL
from tests.simulator.client import consent
from vault import Vault, grant_id

OWNERS = ("olga", "otto", "ada")
TABLES = (
    *("connection", "oauth_grant", "schedule", "connection_metadata", "credential", "credential_version"),
    *("credential_rotation", "revocation", "candidate", "api_key"),
)
"""What nobody's call for what is another's may change; keys but for when they were used."""


@dataclass
class Tenant:
    """One of them."""

    name: str
    keys: list[str] = field(default_factory=list)
    connections: list[UUID] = field(default_factory=list)
    credentials: list[UUID] = field(default_factory=list)
    states: list[dict[str, str]] = field(default_factory=list)
    """Of flows that wait to be ended, with what came back from the provider."""
    marks: set[str] = field(default_factory=set)
    """Words that stand in nothing but what is this tenant's."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What statistics count of this tenant's, which nobody may change."""


def furnish(house: House, names: Sequence[str]) -> list[Tenant]:
    """Make tenants, each with a bit of everything: a consent brings a further grant when that is asked for."""
    house.simulator.configure(house.far_side, answer={"beside": {"also": "also_scope"}})
    return [_tenant(house, name) for name in names]


def _tenant(house: House, name: str) -> Tenant:
    vault, made = house.vault.for_tenant(name), Tenant(name)
    keys = [
        house.worker.api_keys.create("all", ALL, tenant=name),
        house.worker.api_keys.create("admin", ["admin"], tenant=name),
    ]
    made.keys = [each.secret.reveal() for each in keys]
    made.marks |= {str(each.key.id) for each in keys} | set(made.keys)
    for owner in (*OWNERS, name):  # the last is nobody else's: what has only one key in all tenants
        made.connections.append(_connect(vault, owner, {"mark": _mark(made)}))
    made.connections.append(grant_id(made.connections[0], "also"))
    made.credentials = [
        vault.store_secret(_mark(made), owner="olga", provider="acme", name=_mark(made)),
        vault.store_api_key(_mark(made), owner="otto", tags={"mark": _mark(made)}),
        vault.store_webhook_secret(name=_mark(made), provider="acme"),
        vault.store_secret(_mark(made), owner=name),
    ]
    for each in (made.credentials[0], made.credentials[-1]):  # so that there is something to roll back to
        vault.put(each, _mark(made))
    made.marks |= {str(each) for each in (*made.connections, *made.credentials)}
    made.marks |= {vault.get(each).access_token.reveal() for each in made.connections}
    refresh = vault.credentials(kind="oauth_refresh_token")
    made.credentials += [each.id for each in refresh] + made.connections
    made.marks |= {str(each.id) for each in refresh}
    for _ in range(2):
        start = vault.begin("acme", owner="olga", browser="theirs")
        made.states.append({**consent(start.url), "browser": "theirs"})
    counted = vault.statistics()
    made.figures = {what: getattr(counted, what) for what in ("connections", "credentials", "by_kind", "by_status")}
    return made


def _connect(vault: Vault, owner: str, labels: Mapping[str, str]) -> UUID:
    asked = {"also": ["read"]}
    start = vault.begin("acme", owner=owner, browser="theirs", grants=asked, labels=labels, metadata=labels)
    answer = consent(start.url)
    return vault.complete(state=answer["state"], code=answer["code"], browser="theirs", issuer=answer.get("iss")).id


def _mark(tenant: Tenant) -> str:
    mark = f"cnry-{tenant.name}-{secrets.token_hex(8)}"
    tenant.marks.add(mark)
    return mark


def rows(house: House) -> dict[str, list[dict[str, Any]]]:
    """Everything that nobody may change, as the database's owner sees it."""
    found = {}
    for table in TABLES:
        order = "md5(t::text)" if table != "api_key" else "id"
        found[table] = house.sql(f"SELECT * FROM evergrant.{table} t ORDER BY {order}")
    for key in found["api_key"]:
        del key["last_used_at"]
    return found
