"""Commands about events, and the endpoints they are sent to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import click
from rich.table import Table

from vault import Events, EventType, Maintenance
from vault.cli.output import Output, shown

TYPES = click.Choice([each.value for each in EventType if each is not EventType.PING])


@click.group()
def event() -> None:
    """See what tenant admins were told, and send it again."""


@event.command("list")
@click.option("--tenant", help="Only of this one; * for what concerns operators.")
@click.option("--type", "type_", type=TYPES, help="Only of this type.")
@click.option("--connection", type=click.UUID, help="Only of this connection.")
@click.option("--before", type=click.UUID, metavar="ID", help="The last event of the page before.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.pass_obj
def event_list(
    output: Output, tenant: str | None, type_: str | None, connection: UUID | None, before: UUID | None, limit: int
) -> None:
    """List events, newest first."""
    found = _events().events(tenant, type=type_, connection_id=connection, before=before, limit=limit)
    rows = [each._asdict() for each in found]
    _rows(output, rows, ("id", "created_at", "tenant", "type", "connection_id", "credential_id"))


@event.command("show")
@click.argument("event_id")
@click.pass_obj
def event_show(output: Output, event_id: str) -> None:
    """Show an event, and how far it has come."""
    events = _events()
    found, deliveries = events.event(event_id), events.deliveries(event_id)
    if output.as_json:
        output.document({**found._asdict(), "deliveries": [each._asdict() for each in deliveries]})
        return
    output.facts({name: value for name, value in found._asdict().items() if value is not None})
    _rows(
        output,
        [each._asdict() for each in deliveries],
        ("endpoint_id", "state", "attempt", "next_at", "last_status", "last_error"),
    )


@event.command("replay")
@click.argument("event_id")
@click.option("--endpoint", metavar="ID", help="To this one alone.")
@click.pass_obj
def event_replay(output: Output, event_id: str, endpoint: str | None) -> None:
    """Send an event again, the same as before."""
    output.facts({"event": event_id, "endpoints": _events().replay(event_id, endpoint)})


@click.group()
def endpoint() -> None:
    """Look after where events are sent."""


@endpoint.command("list")
@click.option("--tenant", help="Only of this one; * for what concerns operators.")
@click.pass_obj
def endpoint_list(output: Output, tenant: str | None) -> None:
    """List endpoints, without secrets."""
    rows = [each._asdict() for each in _events().endpoints(tenant)]
    _rows(output, rows, ("id", "tenant", "kind", "url", "types", "state", "reason", "former_until", "created_at"))


@endpoint.command("add")
@click.argument("url")
@click.option("--tenant", help="Whose events; * for what concerns operators. Default: VAULT_TENANT.")
@click.option("--type", "types", type=TYPES, multiple=True, help="Only of this type; may be given several times.")
@click.pass_obj
def endpoint_add(output: Output, url: str, tenant: str | None, types: tuple[str, ...]) -> None:
    """Send a tenant's events to URL from now on. Prints the secret they are signed with, this once."""
    maintenance = Maintenance.from_env()
    endpoint_id, secret = maintenance.events.add_endpoint(tenant or maintenance.settings.tenant, url, types)
    output.facts({"endpoint": endpoint_id, "secret": secret.reveal()})


@endpoint.command("test")
@click.argument("endpoint_id")
@click.pass_obj
def endpoint_test(output: Output, endpoint_id: str) -> None:
    """Send a ping now; exit code 1 when it was not taken."""
    found = _events().test(endpoint_id)
    output.facts(
        {"event": found.event_id, "state": found.state, "status": found.last_status, "error": found.last_error}
    )
    if found.state != "delivered":
        sys.exit(1)


@endpoint.command("disable")
@click.argument("endpoint_id")
@click.pass_obj
def endpoint_disable(output: Output, endpoint_id: str) -> None:
    """Send nothing more; what comes meanwhile is held."""
    _events().disable(endpoint_id)
    output.facts({"endpoint": endpoint_id, "state": "disabled"})


@endpoint.command("enable")
@click.argument("endpoint_id")
@click.pass_obj
def endpoint_enable(output: Output, endpoint_id: str) -> None:
    """Send again, what was held at once."""
    _events().enable(endpoint_id)
    output.facts({"endpoint": endpoint_id, "state": "active"})


@endpoint.command("rotate-secret")
@click.argument("endpoint_id")
@click.option("--overlap-hours", type=click.FloatRange(0, 720), default=168.0, show_default=True,
              help="The secret before signs too for so long; 0 when it is known to others.")  # fmt: skip
@click.option("--force", is_flag=True, help="Also while an overlap is running, which then ends.")
@click.pass_obj
def endpoint_rotate_secret(output: Output, endpoint_id: str, overlap_hours: float, *, force: bool) -> None:
    """Make a new secret, and print it, this once."""
    secret = _events().rotate_secret(endpoint_id, timedelta(hours=overlap_hours), force=force)
    output.facts({"endpoint": endpoint_id, "secret": secret.reveal()})


@endpoint.command("remove")
@click.argument("endpoint_id")
@click.pass_obj
def endpoint_remove(output: Output, endpoint_id: str) -> None:
    """Forget an endpoint, and what is on its way to it."""
    _events().remove(endpoint_id)
    output.facts({"endpoint": endpoint_id, "state": "removed"})


def _rows(output: Output, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    if output.as_json:
        output.document(rows)
        return
    table = Table(*[name.replace("_", " ") for name in columns])
    for row in rows:
        table.add_row(*[shown(row[name]) for name in columns])
    output.console.print(table)


def _events() -> Events:
    return Maintenance.from_env().events
