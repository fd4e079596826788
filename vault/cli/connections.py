"""Commands about connections."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import click
from rich.table import Column, Table

from vault import Connection, Maintenance, Refresh, Vault
from vault.cli.output import Output, shown


@click.command("list")
@click.option("--owner", help="Only this owner's.")
@click.option("--provider", help="Only this provider's.")
@click.option("--status", help="Only with this status.")
@click.option("--after", type=click.UUID, help="Go on after this id.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@click.pass_obj
def list_(output: Output, /, **filters: Any) -> None:
    """List connections and their further grants, without their secrets."""
    found = Vault.from_env().connections(**filters, further=True)
    if output.as_json:
        output.document([_facts(connection) for connection in found])
        return
    table = Table(Column("id", no_wrap=True), "owner", "provider", "grant", "status", "token ends", "refreshed")
    for each in found:
        table.add_row(
            str(each.id),
            each.owner,
            each.provider,
            each.grant or "",
            each.status.value,
            shown(each.expires_at),
            shown(each.refreshed_at),
        )
    output.console.print(table)


@click.command()
@click.argument("connection_id", type=click.UUID)
@click.pass_obj
def show(output: Output, connection_id: UUID) -> None:
    """Show one connection, without its secrets, and its further grants by name."""
    vault = Vault.from_env()
    further = {f"grant {each.grant}": f"{each.id} {each.status.value}" for each in vault.grants(connection_id)}
    output.facts({**_facts(vault.connection(connection_id)), **further})


@click.command()
@click.argument("connection_id", type=click.UUID)
@click.option("--grant", help="Of which further grant, such as Slack's user.")
@click.option("--reveal", is_flag=True, help="Print the access token itself; mind who looks on.")
@click.pass_obj
def get(output: Output, connection_id: UUID, *, grant: str | None, reveal: bool) -> None:
    """Ask for a token as an app would."""
    token = Vault.from_env().get(connection_id, grant=grant)
    shown = token.access_token.reveal() if reveal else repr(token.access_token)
    output.facts({"access_token": shown, "token_type": token.token_type, "expires_at": token.expires_at})


@click.command()
@click.argument("connection_id", type=click.UUID, required=False)
@click.option("--due", is_flag=True, help="Everything that is due.")
@click.option(
    "--for", "seconds", type=float, default=5.0, show_default=True, help="Seconds to go on claiming due rows."
)
@click.pass_obj
def refresh(output: Output, connection_id: UUID | None, *, due: bool, seconds: float) -> None:
    """Refresh one connection, or all that is due, in this very process."""
    if due == (connection_id is not None):
        raise click.UsageError("name a connection, or say --due")
    maintenance = Maintenance.from_env()
    with output.progress("refreshing"):
        if connection_id is not None:
            Vault.from_env().enqueue(Refresh(connection_id))  # also one that is backing off: somebody insists
            tally = maintenance.refresh(connection_id)
        else:
            tally = maintenance.refresh_scan(timedelta(seconds=seconds))
        maintenance.close()
    output.facts(tally._asdict())


def _facts(connection: Connection) -> dict[str, Any]:
    names = ("id", "owner", "provider", "account", "status", "reason", "requested_scopes", "granted_scopes",
             "missing_scopes", "labels", "connected_at", "refreshed_at", "expires_at", "grant_ends_at",
             "grant", "part_of")  # fmt: skip
    return {name: getattr(connection, name) for name in names}
