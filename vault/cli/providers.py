"""Commands about the registry of providers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from vault import Registry
from vault.cli.output import Output, shown

EXIT_WRONG = 1


@click.group()
def providers() -> None:
    """Look at the registry: the providers that come with Evergrant, and yours of VAULT_PROVIDERS."""


@providers.command("list")
@click.pass_obj
def providers_list(output: Output) -> None:
    """List providers; those with a client id have a registration in the environment."""
    found = Registry.from_env().list()
    if output.as_json:
        output.document([each._asdict() for each in found])
        return
    table = Table("provider", "strategy", "rotation", "client id")
    for each in found:
        table.add_row(each.name, each.strategy, each.rotation, shown(each.client_id))
    output.console.print(table)


@providers.command("show")
@click.argument("provider")
@click.pass_obj
def providers_show(output: Output, provider: str) -> None:
    """Show PROVIDER as a file would have it, all files taken together and defaults left out."""
    found = Registry.from_env().show(provider)
    if output.as_json:
        output.document({"name": provider, **found})
        return
    click.echo(toml(provider, found))


@providers.command("check")
@click.argument("files", nargs=-1, type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def providers_check(ctx: click.Context, files: tuple[Path, ...]) -> None:
    """Check the files of VAULT_PROVIDERS, and FILES over them: each problem with file, provider and field."""
    output: Output = ctx.obj
    problems = Registry.from_env().check(files)
    if output.as_json:
        output.document({"problems": list(problems)})
    else:
        click.echo("\n".join(problems) if problems else "no problems")
    ctx.exit(EXIT_WRONG if problems else 0)


@providers.command("discover")
@click.argument("issuer")
@click.option("--name", default="provider", show_default=True, help="What to call it.")
@click.pass_obj
def providers_discover(output: Output, issuer: str, name: str) -> None:
    """Ask ISSUER for its addresses, and print them as the beginning of a file of yours."""
    found = Registry.from_env().discover(issuer)
    if output.as_json:
        output.document(found)
        return
    click.echo(toml(name, found))


def toml(name: str, found: dict[str, Any]) -> str:
    """Return a table as TOML has it, tables within it after its own fields."""
    tables = [key for key, value in found.items() if _is_table(value)]
    lines = [f"{key} = {_value(value)}" for key, value in found.items() if key not in tables]
    return "\n".join([f"[{name}]", *lines, *("\n" + toml(f"{name}.{key}", found[key]) for key in tables)])


def _is_table(value: Any) -> bool:
    """Whether it is worth lines of its own."""
    return isinstance(value, dict) and (len(value) > 1 or any(isinstance(each, dict) for each in value.values()))


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return json.dumps(value)
