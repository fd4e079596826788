"""The ``evergrant`` command: everything a worker does, at an operator's word, and a look at what is there.

Exit codes: 0 done; 1 it could not be done, and the message says why; 2 the command or the settings are wrong; 3
health is degraded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import click
import structlog
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from vault import ConfigurationError, Connection, Maintenance, Refresh, Vault, VaultError

EXIT_FAILED, EXIT_USAGE, EXIT_DEGRADED = 1, 2, 3


class _Command(click.Group):
    """Turns our errors into one readable message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            click.echo(str(error), err=True)
            ctx.exit(EXIT_USAGE)
        except VaultError as error:
            click.echo(f"{type(error).__name__}: {error}", err=True)
            ctx.exit(EXIT_FAILED)


class _Output:
    """Says things to a person, or as one JSON document to a machine."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(stderr=as_json)

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Print named values."""
        if self.as_json:
            self.document(dict(facts))
            return
        table = Table.grid(padding=(0, 2))
        for name, value in facts.items():
            table.add_row(name.replace("_", " "), _shown(value))
        self.console.print(table)

    def document(self, document: object) -> None:
        """Print a JSON document."""
        click.echo(json.dumps(document, default=_plain, indent=2))

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[Any], None]]:
        """Show that something is going on; yields what to tell it of each step."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(what)
            yield lambda step: bar.update(task, description=f"{what}: {_step(step)}")


@click.group(cls=_Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@click.version_option(package_name="evergrant")
@click.pass_context
def main(ctx: click.Context, *, as_json: bool) -> None:
    """Keep other people's credentials alive and safe.

    Settings come from VAULT_* in the environment; docs/configuration.md lists them.
    """
    structlog.configure(logger_factory=_log_to_stderr)  # what a command prints may be read by a machine
    ctx.obj = _Output(as_json=as_json)


@main.group()
def db() -> None:
    """Look after the database schema."""


@db.command("upgrade")
@click.pass_obj
def db_upgrade(output: _Output) -> None:
    """Bring the schema to what this version needs; safe to run from several places at once."""
    with output.progress("upgrading"):
        revision = _maintenance().upgrade_schema()
    output.facts({"schema": revision})


@main.command()
@click.pass_obj
def check(output: _Output) -> None:
    """Check settings, schema and KMS before anything is started; says all that is wrong."""
    output.facts({"settings": "ok", "schema": "ok", "master_key": _maintenance().check()})


@main.command()
@click.pass_obj
def health(output: _Output) -> None:
    """Look at every part of the running system; exit code 3 when something is not well."""
    found = _maintenance().health_check()
    output.facts({"healthy": found.healthy, **found.parts})
    if not found.healthy:
        sys.exit(EXIT_DEGRADED)


@main.command("list")
@click.option("--owner", help="Only this owner's.")
@click.option("--provider", help="Only this provider's.")
@click.option("--status", help="Only with this status.")
@click.option("--after", type=click.UUID, help="Go on after this id.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@click.pass_obj
def list_(output: _Output, /, **filters: Any) -> None:
    """List connections, without their secrets."""
    found = _vault().connections(**filters)
    if output.as_json:
        output.document([_facts(connection) for connection in found])
        return
    table = Table(Column("id", no_wrap=True), "owner", "provider", "status", "token ends", "refreshed")
    for each in found:
        table.add_row(
            str(each.id),
            each.owner,
            each.provider,
            each.status.value,
            _shown(each.expires_at),
            _shown(each.refreshed_at),
        )
    output.console.print(table)


@main.command()
@click.argument("connection_id", type=click.UUID)
@click.pass_obj
def show(output: _Output, connection_id: UUID) -> None:
    """Show one connection, without its secrets."""
    output.facts(_facts(_vault().connection(connection_id)))


@main.command()
@click.argument("connection_id", type=click.UUID)
@click.option("--reveal", is_flag=True, help="Print the access token itself; mind who looks on.")
@click.pass_obj
def get(output: _Output, connection_id: UUID, *, reveal: bool) -> None:
    """Ask for a token as an app would."""
    token = _vault().get(connection_id)
    shown = token.access_token.reveal() if reveal else repr(token.access_token)
    output.facts({"access_token": shown, "token_type": token.token_type, "expires_at": token.expires_at})


@main.command()
@click.argument("connection_id", type=click.UUID, required=False)
@click.option("--due", is_flag=True, help="Everything that is due.")
@click.option(
    "--for", "seconds", type=float, default=5.0, show_default=True, help="Seconds to go on claiming due rows."
)
@click.pass_obj
def refresh(output: _Output, connection_id: UUID | None, *, due: bool, seconds: float) -> None:
    """Refresh one connection, or all that is due, in this very process."""
    if due == (connection_id is not None):
        raise click.UsageError("name a connection, or say --due")
    maintenance = _maintenance()
    with output.progress("refreshing"):
        if connection_id is not None:
            _vault().enqueue(Refresh(connection_id))  # also one that is backing off: somebody insists
            tally = maintenance.refresh(connection_id)
        else:
            tally = maintenance.refresh_scan(timedelta(seconds=seconds))
        maintenance.close()
    output.facts(tally._asdict())


@main.command()
@click.option("--older-than-days", type=float, help="Age of data keys to replace; default VAULT_DATA_KEY_MAX_AGE_DAYS.")
@click.pass_obj
def rotate(output: _Output, older_than_days: float | None) -> None:
    """Replace data keys past their age and re-seal what stands under replaced ones."""
    age = None if older_than_days is None else timedelta(days=older_than_days)
    with output.progress("rotating") as step:
        replaced = _maintenance().rotate_data_keys(age, step)
    output.facts({"data_keys_replaced": replaced})


@main.command()
@click.pass_obj
def rewrap(output: _Output) -> None:
    """Wrap every tenant key under the master key in use: after it was rotated or replaced."""
    maintenance = _maintenance()
    with output.progress("rewrapping") as step:
        rewrapped = maintenance.rewrap(step)
    output.facts({"tenant_keys_rewrapped": rewrapped, "master_key": maintenance.check()})


@main.command()
@click.pass_obj
def keys(output: _Output) -> None:
    """Count keys and sealed values by method, version and master key; reads every row."""
    found = _maintenance().key_counts()
    if output.as_json:
        output.document([each._asdict() for each in found])
        return
    table = Table("what", "method", "version", "under", Column("number", justify="right"))
    for what, method, version, under, number in found:
        table.add_row(what, method, version, under, f"{number:,}")
    output.console.print(table)


@main.command()
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.pass_obj
def cleanup(output: _Output, *, dry_run: bool) -> None:
    """Remove what has had its day."""
    output.facts(_maintenance().cleanup(dry_run=dry_run))


def _log_to_stderr(*_: object) -> structlog.PrintLogger:
    return structlog.PrintLogger(sys.stderr)


def _maintenance() -> Maintenance:
    return Maintenance.from_env()


def _vault() -> Vault:
    return Vault.from_env()


def _facts(connection: Connection) -> dict[str, Any]:
    names = ("id", "owner", "provider", "account", "status", "reason", "requested_scopes", "granted_scopes",
             "missing_scopes", "labels", "connected_at", "refreshed_at", "expires_at", "grant_ends_at")  # fmt: skip
    return {name: getattr(connection, name) for name in names}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value)) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {found}" for name, found in value.items()) or "-"
    return str(value)


def _step(step: Any) -> str:
    return _shown(step._asdict()) if hasattr(step, "_asdict") else str(step)


if __name__ == "__main__":
    main()
