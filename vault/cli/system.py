"""Commands about the system as a whole."""

from __future__ import annotations

import contextlib
import json
import sys

import click

from vault import Maintenance, metrics_text, serve_metrics
from vault.cli.output import Output

PARTS = ("worker", "web", "auditor")


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


@db.command("grant")
@click.argument("role")
@click.option("--as", "part", type=click.Choice(PARTS), required=True, help="What connects as this role.")
@click.pass_obj
def db_grant(output: Output, role: str, part: str) -> None:
    """Give the PostgreSQL role ROLE what one kind of process needs, and take the rest; repeat it after upgrades."""
    Maintenance.from_env().grant_rights(role, part)
    output.facts({"role": role, "as": part})


@click.command()
@click.pass_obj
def check(output: Output) -> None:
    """Check settings, schema, KMS, Redis, clock and spool before anything is started; exit code 1 says mend it."""
    maintenance = Maintenance.from_env()
    found = {"settings": "ok", "schema": "ok", "master_key": maintenance.check()}
    rest = maintenance.preflight()
    output.facts({**found, **rest})
    if any(word != "ok" for word in rest.values()):
        sys.exit(1)


@click.command()
@click.option("--listen", metavar="HOST:PORT", help="Serve them at /metrics until Ctrl-C.")
@click.pass_obj
def metrics(output: Output, listen: str | None) -> None:
    """Print all metrics as Prometheus reads them, of the processes that share PROMETHEUS_MULTIPROC_DIR."""
    if listen is None:
        click.echo(metrics_text() if not output.as_json else json.dumps({"metrics": metrics_text()}))
        return
    host, _, port = listen.rpartition(":")
    if not port.isdecimal():
        raise click.BadParameter("write HOST:PORT, such as 127.0.0.1:9100", param_hint="--listen")
    server, thread = serve_metrics(host or "127.0.0.1", int(port))
    click.echo(f"http://{host or '127.0.0.1'}:{server.server_port}/metrics", err=True)
    with contextlib.suppress(KeyboardInterrupt):
        thread.join()
    server.shutdown()


@click.command()
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.pass_obj
def cleanup(output: Output, *, dry_run: bool) -> None:
    """Remove what has had its day: flows, deleted credentials, rotations, events, rows of the audit, as each may go."""
    output.facts(Maintenance.from_env().cleanup(dry_run=dry_run))
