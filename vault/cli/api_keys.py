"""Commands about API keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import click
from rich.table import Column, Table

from vault import SCOPES, ApiKey, ApiKeys, Maintenance
from vault.cli.output import Output, shown
from vault.cli.values import tenant_option


@click.group("api-key")
def api_key() -> None:
    """Look after keys with which programs ask over HTTP."""


@api_key.command("create")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(list(SCOPES)), help="Repeatable.")
@click.option("--days", type=click.FloatRange(0, 36_600, min_open=True), help="Days it can be used; default: always.")
@tenant_option
@click.pass_obj
def create(output: Output, name: str, scopes: tuple[str, ...], days: float | None, tenant: str | None) -> None:
    """Make a key called NAME; it is shown this once, and only a digest of it is kept."""
    life = None if days is None else timedelta(days=days)
    made = _keys().create(name, scopes, tenant=tenant, life=life)
    output.facts({**_facts(made.key), "key": made.secret.reveal()})


@api_key.command("list")
@click.option("--tenant", help="Only this one's.")
@click.pass_obj
def list_(output: Output, tenant: str | None) -> None:
    """List keys, without their secrets, also those that have ended."""
    found = _keys().list(tenant)
    if output.as_json:
        output.document([_facts(each) for each in found])
        return
    table = Table(Column("id", no_wrap=True), "tenant", "name", "scopes", Column("state", no_wrap=True), "ends", "used")
    for each in found:
        ends, used = shown(each.expires_at), shown(each.last_used_at)
        table.add_row(str(each.id), each.tenant, each.name, shown(each.scopes), _state(each), ends, used)
    output.console.print(table)


@api_key.command("revoke")
@click.argument("key_id", type=click.UUID)
@click.pass_obj
def revoke(output: Output, key_id: UUID) -> None:
    """End a key; processes that have it at hand notice within VAULT_HTTP_KEY_CACHE_S."""
    output.facts(_facts(_keys().revoke(key_id)))


def _facts(key: ApiKey) -> dict[str, Any]:
    return {**key._asdict(), "state": _state(key)}


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    over = key.expires_at is not None and key.expires_at <= datetime.now(UTC)
    return "expired" if over else "active"


def _keys() -> ApiKeys:
    return Maintenance.from_env().api_keys
