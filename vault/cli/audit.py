"""Commands about the audit."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import click
from rich.table import Column, Table

from vault import Audit, AuditAnchor, AuditCheck, AuditRow, Maintenance, anchor_line, read_anchors, row_fields
from vault.cli.output import Output, shown

_tenant = click.option("--tenant", help="Only this tenant's chain; default all.")
_file = click.Path(dir_okay=False, allow_dash=True, path_type=Path)
_utc = click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"))


@click.group()
def audit() -> None:
    """Read, verify and export the audit, which is a chain for each tenant."""


@audit.command()
@click.pass_obj
def chain(output: Output) -> None:
    """Link what was told to the audit since the last time: what workers do each minute."""
    with output.progress("linking") as step:
        linked = _audit().chain(progress=step)
    output.facts({"rows_linked": linked})


@audit.command()
@_tenant
@click.option("--anchors", type=_file, metavar="FILE", help="Hold the chains against anchors taken earlier.")
@click.option("--file", "export", type=_file, metavar="FILE", help="Verify an export, without the database.")
@click.pass_obj
def verify(output: Output, tenant: str | None, anchors: Path | None, export: Path | None) -> None:
    """Work out every chain anew; exit code 1 when anything was edited, exchanged, put in, taken out or cut off."""
    known = _anchors(anchors) if anchors else []
    with output.progress("verifying") as step:
        if export is None:
            found = _audit().verify(tenant, known, step)
        elif tenant is not None:
            raise click.UsageError("a file is verified whole")
        else:
            with _reading(export) as lines:
                found = Audit.verify_lines(lines, known, step)
    _tell(output, found)


def _tell(output: Output, found: AuditCheck) -> None:
    """Say what came of it; exit code 1 when anything does not fit."""
    facts = {**found._asdict(), "passed": found.passed}
    named = [{**problem._asdict(), "what": problem.what.value} for problem in facts.pop("named")]
    output.facts(facts if not output.as_json else {**facts, "named": named})
    if named and not output.as_json:
        table = Table("tenant", Column("number", justify="right"), Column("audit id", justify="right"), "what")
        for problem in found.named:
            table.add_row(problem.tenant, shown(problem.seq), shown(problem.audit_id), problem.what.value)
        output.console.print(table)
    if not found.passed:
        raise click.exceptions.Exit(1)


@audit.command()
@click.argument("file", type=_file)
@_tenant
@click.option("--since", type=_utc, metavar="UTC", help="From the first act at or after this instant.")
@click.option("--until", type=_utc, metavar="UTC", help="To the last act before this instant.")
@click.pass_obj
def export(output: Output, file: Path, tenant: str | None, since: datetime | None, until: datetime | None) -> None:
    """Write chains to FILE as lines of JSON that anybody can verify; - is stdout. The last lines are anchors."""
    chains = _audit()
    with output.progress("exporting") as step, _writing(file) as sink:
        done = chains.export(
            lambda line: sink.write(f"{line}\n"), tenant=tenant, since=_aware(since), until=_aware(until), progress=step
        )
    if sink is not sys.stdout:
        output.facts(done._asdict())


@audit.command()
@_tenant
@click.pass_obj
def anchor(output: Output, tenant: str | None) -> None:
    """Print where each chain ends now, as lines to be kept where nobody who writes to the database can write."""
    anchors = _audit().anchors(tenant)
    if output.as_json:
        output.document([json.loads(anchor_line(each)) for each in anchors])
        return
    for each in anchors:
        click.echo(anchor_line(each))


@audit.command()
@_tenant
@click.option("-n", "--number", type=click.IntRange(0, 100_000), default=20, show_default=True, help="So many rows.")
@click.option("--follow", is_flag=True, help="Go on with whatever comes, until Ctrl-C.")
@click.pass_obj
def tail(output: Output, tenant: str | None, number: int, *, follow: bool) -> None:
    """Print the newest rows, a line each; with --json each is a document."""
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        for row in _audit().tail(number, tenant, follow=follow):
            click.echo(json.dumps(row_fields(row)) if output.as_json else _line(row))


def _line(row: AuditRow) -> str:
    of = "-" if row.connection_id is None else str(row.connection_id)
    return f"{shown(row.instant)}  {row.tenant}  {row.event}  {of}  {row.detail}"


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[TextIO]:
    if str(file) == "-":
        yield sys.stdin
        return
    try:
        source = file.open(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read ({error.strerror})") from None
    with source:
        yield source


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[TextIO]:
    if str(file) == "-":
        yield sys.stdout
        return
    try:
        sink = file.open("w", encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{file} cannot be written ({error.strerror})") from None
    with sink:
        yield sink


def _anchors(file: Path) -> list[AuditAnchor]:
    with _reading(file) as lines:
        try:
            return list(read_anchors(lines))
        except ValueError as error:
            raise click.UsageError(f"{file}: {error}") from None


def _aware(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(tzinfo=UTC)


def _audit() -> Audit:
    return Maintenance.from_env().audit
