"""How things stand: in numbers, part by part, and connection by connection."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any
from uuid import UUID

import click
from rich.table import Column, Table

from vault import HealthSummary, Maintenance, Miscounted, Statistics, Vault
from vault.cli.output import Output, shown

EXIT_DEGRADED = 3


@click.command()
@click.option("--tenant", help="Only this one's.")
@click.option("--fold", is_flag=True, help="First add up what writers left behind, as workers do each minute.")
@click.option(
    "--recount", is_flag=True, help="First count every row anew and mend the counters; exit code 1: some were."
)
@click.pass_obj
def stats(output: Output, tenant: str | None, *, fold: bool, recount: bool) -> None:
    """Count connections, credentials and the work there is."""
    maintenance = Maintenance.from_env()
    if fold:
        maintenance.fold_statistics()
    wrong: Sequence[Miscounted] = ()
    if recount:
        with output.progress("counting every row"):
            wrong = maintenance.recount_statistics()
    found = maintenance.statistics(tenant)
    maintenance.close()
    if output.as_json:
        mended = {"mended": [_miscounted(each) for each in wrong]} if recount else {}
        output.document({**_plain(found), **mended})
    else:
        _tell(output, found)
        for each in wrong:
            click.echo("mended: " + ", ".join(f"{name} {value}" for name, value in _miscounted(each).items()))
    if wrong:
        sys.exit(1)


@click.command()
@click.argument("connection_id", type=click.UUID, required=False, metavar="[CONNECTION]")
@click.option("--all", "every", is_flag=True, help="Look at every connection.")
@click.option("--tenant", help="With --all: only this one's.")
@click.pass_obj
def health(output: Output, connection_id: UUID | None, tenant: str | None, *, every: bool) -> None:
    """Look at every part of the running system, at one CONNECTION, or at all; exit code 3 when something is not well.

    With --all that is a connection that needs an operator or its owner. Providers are not asked.
    """
    if (every and connection_id is not None) or (tenant is not None and not every):
        raise click.UsageError("name a connection, or say --all, for which there is --tenant")
    if connection_id is not None:
        found = Vault.from_env().connection_health(connection_id)
        output.facts(found._asdict())
        well = found.well
    elif every:
        well = _every(output, tenant)
    else:
        look = Maintenance.from_env().health_check()
        facts = {"status": look.status, "healthy": look.healthy, **look.parts}
        output.facts({**facts, "lag_s": look.lag, "audit_lag_s": look.audit_lag, "alive": look.workers})
        well = look.healthy
    if not well:
        sys.exit(EXIT_DEGRADED)


def _every(output: Output, tenant: str | None) -> bool:
    maintenance = Maintenance.from_env()
    with output.bar("looking at connections", maintenance.statistics(tenant).connections) as show:
        found = maintenance.health_check_all(tenant, progress=lambda step: show(step.connections), anew=True)
    maintenance.close()
    output.facts(found._asdict())
    return not any(found.needs.get(whom) for whom in ("operator", "reconnect"))


def _miscounted(each: Miscounted) -> dict[str, Any]:
    counter = each.counter._asdict()
    return {"tenant": each.tenant, **counter, "was": each.was}


def _plain(found: Statistics) -> dict[str, Any]:
    """As nested names and values."""
    return {name: value._asdict() if hasattr(value, "_asdict") else value for name, value in found._asdict().items()}


def _tell(output: Output, found: Statistics) -> None:
    whose = "all tenants" if found.tenant is None else f"tenant {found.tenant}"
    output.console.print(f"[bold]{whose}[/], {shown(found.at)}", highlight=False)
    _side_by_side(
        output,
        {
            f"connections {found.connections:,}": found.by_status,
            "… by provider": found.connections_by_provider,
            f"credentials {found.credentials:,}": found.by_state,
            "… by kind": {kind: number for kind, number in found.by_kind.items() if kind != "oauth"},
            "… by provider ": found.credentials_by_provider,
        },
    )
    work = found.work
    _side_by_side(
        output,
        {
            "credentials end": found.ends._asdict(),
            "refreshes": found.refreshes._asdict(),
            "on their way": work._asdict(),
            "key cache (here)": found.cache._asdict(),
            _title(found.health): _health(found.health),
        },
    )
    if found.sessions or found.validations.by_outcome:
        ends = found.validations.by_outcome
        _side_by_side(output, {"sessions": found.sessions, f"validations {sum(ends.values()):,}": ends})


def _title(health: HealthSummary | None) -> str:
    return "looked at: never" if health is None else f"looked at {shown(health.ended_at)}"


def _health(health: HealthSummary | None) -> Mapping[str, int]:
    if health is None:
        return {}
    needs = {f"needs {whom}": number for whom, number in health.needs.items() if whom != "nothing"}
    return {"connections": health.connections, "well": health.well, "expired": health.expired, **needs}


LONGEST = 12
"""Of a list for a person; the rest is added up."""


def _side_by_side(output: Output, columns: Mapping[str, Mapping[str, int]]) -> None:
    table = Table(*(Column(title, overflow="fold") for title in columns))
    for row in zip_longest(*(_lines(counted) for counted in columns.values()), fillvalue=""):
        table.add_row(*row)
    output.console.print(table)


def _lines(counted: Mapping[str, int]) -> Sequence[str]:
    def line(name: str, number: int) -> str:
        return f"{number:>7,} {name.replace('_', ' ')}"

    items: Iterable[tuple[str, int]] = counted.items()
    first = list(items)
    rest = first[LONGEST:]
    lines = [line(*each) for each in first[:LONGEST]]
    return [*lines, line(f"in {len(rest)} more", sum(number for _, number in rest))] if rest else lines
