"""Commands about our registrations at providers."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Column, Table

from vault import Clients, Maintenance
from vault.cli.output import Output, shown
from vault.cli.values import file_type, read_value


@click.group()
def client() -> None:
    """Look after our registrations at providers that are kept, sealed, in the store."""


@client.command("list")
@click.pass_obj
def client_list(output: Output) -> None:
    """List registrations, without secrets, and how many grants each got; reads every grant."""
    found = _clients().list()
    if output.as_json:
        output.document([each._asdict() for each in found])
        return
    numbers = (Column("secrets", justify="right"), Column("grants", justify="right"))
    table = Table("provider", "generation", "client id", "where", "current", *numbers, "changed at")
    for each in found:
        current = "yes" if each.current else ""
        counted = (str(each.secrets), f"{each.grants:,}")
        table.add_row(
            each.provider, shown(each.generation), each.client_id, each.where, current, *counted, shown(each.changed_at)
        )
    output.console.print(table)


@client.command("set")
@click.argument("provider")
@click.argument("client_id")
@click.option("--secret-file", type=file_type, help="Read it there; - is stdin.")
@click.option("--public", is_flag=True, help="The client has no secret.")
@click.option("--mistyped", is_flag=True, help="Forget the secret set last, and keep the one before it as the other.")
@click.pass_obj
def client_set(
    output: Output, provider: str, client_id: str, secret_file: Path | None, *, public: bool, mistyped: bool
) -> None:
    """Keep the secret of CLIENT_ID at PROVIDER: asked for, or read from stdin when that is no terminal.

    A new client id is the next generation, which new consents are asked for with. Of a known one the secret before
    stays valid beside the new one until 'evergrant client end-roll'.
    """
    if public and secret_file is not None:
        raise click.UsageError("a public client has no secret")
    secret = None if public else read_value(secret_file, "Client secret")
    generation = _clients().set(provider, client_id, secret, mistyped=mistyped)
    output.facts({"provider": provider, "client_id": client_id, "generation": generation})


@client.command("end-roll")
@click.argument("provider")
@click.argument("client_id")
@click.pass_obj
def client_end_roll(output: Output, provider: str, client_id: str) -> None:
    """Forget the other secret of CLIENT_ID, the new one being in use everywhere."""
    _clients().end_roll(provider, client_id)
    output.facts({"provider": provider, "client_id": client_id, "secrets": 1})


@client.command("remove")
@click.argument("provider")
@click.argument("client_id")
@click.option("--force", is_flag=True, help="Also when grants need it, whose owners must then connect again.")
@click.pass_obj
def client_remove(output: Output, provider: str, client_id: str, *, force: bool) -> None:
    """Forget CLIENT_ID at PROVIDER; refused while grants need it."""
    needed = _clients().remove(provider, client_id, force=force)
    output.facts({"provider": provider, "client_id": client_id, "grants_that_needed_it": needed})


def _clients() -> Clients:
    return Maintenance.from_env().clients
