"""Commands about the system as a whole."""

from __future__ import annotations

import sys

import click

from vault import Maintenance
from vault.cli.output import Output

EXIT_DEGRADED = 3


@click.group()
def db() -> None:
    """Look after the database schema."""


@db.command("upgrade")
@click.pass_obj
def db_upgrade(output: Output) -> None:
    """Bring the schema to what this version needs; safe to run from several places at once."""
    with output.progress("upgrading"):
        revision = Maintenance.from_env().upgrade_schema()
    output.facts({"schema": revision})


@click.command()
@click.pass_obj
def check(output: Output) -> None:
    """Check settings, schema and KMS before anything is started; says all that is wrong."""
    output.facts({"settings": "ok", "schema": "ok", "master_key": Maintenance.from_env().check()})


@click.command()
@click.pass_obj
def health(output: Output) -> None:
    """Look at every part of the running system; exit code 3 when something is not well."""
    found = Maintenance.from_env().health_check()
    output.facts({"healthy": found.healthy, **found.parts})
    if not found.healthy:
        sys.exit(EXIT_DEGRADED)


@click.command()
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.pass_obj
def cleanup(output: Output, *, dry_run: bool) -> None:
    """Remove what has had its day."""
    output.facts(Maintenance.from_env().cleanup(dry_run=dry_run))
