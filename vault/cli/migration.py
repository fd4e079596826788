"""``evergrant migrate``: moving grants out of another system."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from vault import ConfigurationError, Maintenance, Migration, MigrationSummary, Secret
from vault.cli.output import Output

EXIT_FAILED = 1
FORMATS = ("csv", "jsonl")
NUMBERS = ("total", "ok", "already", "skipped", "failed", "credentials", "cleared")


@click.command()
@click.argument("source", required=False, metavar="[URL|FILE]")
@click.option("--source-url-file", type=click.Path(path_type=Path), help="Read the database's URL from this file.")
@click.option("--name", help="Do what the files of VAULT_MIGRATIONS say under this name.")
@click.option("--enqueue", is_flag=True, help="With --name: ask the workers, and do not wait.")
@click.option("--table", help="Table, or schema.table, in the database.")
@click.option("--format", "format_", type=click.Choice(FORMATS), help="Of a file, where its name does not say.")
@click.option("--map", "maps", multiple=True, metavar="FIELD=COLUMN", help="Which column is what; repeat it.")
@click.option("--set", "sets", multiple=True, metavar="FIELD=WORD", help="What stands for a field without a column.")
@click.option("--as", "called", help="Name of the source in the record of what was moved; default: where it lies.")
@click.option("--batch", type=click.IntRange(1, 1000), default=10, show_default=True, help="Rows that share a commit.")
@click.option("--dry-run", is_flag=True, help="Open and check everything; change nothing.")
@click.option("--tenant", help="Only rows of this tenant.")
@click.option("--provider", help="Only rows of this provider.")
@click.option("--clear-source", is_flag=True, help="Empty the tokens of rows there once they are proven to stand here.")
@click.option("--limit", type=click.IntRange(1), help="At most so many rows, beyond those moved before.")
@click.pass_obj
def migrate(output: Output, /, *, name: str | None, enqueue: bool, batch: int, dry_run: bool, tenant: str | None,
            provider: str | None, limit: int | None, **described: Any) -> None:  # fmt: skip
    """Move grants out of another system's table or file; docs/migration.md says how to cut over.

    Resumable at any point: what was moved before is left as it is. Exit code 1 when any row failed.
    """
    said = [word for word, value in described.items() if value]
    if (name is not None) == bool(set(said) - {"clear_source"}):
        raise click.UsageError("say --name and nothing about the source, or describe the source")
    if enqueue and (name is None or dry_run or tenant or provider or limit or described["clear_source"]):
        raise click.UsageError("--enqueue goes with --name, and with nothing that changes it")
    maintenance = Maintenance.from_env()
    if name is not None and enqueue:
        maintenance.begin_migration(name)
        output.facts({"asked_for": name})
        return
    migration = _described(**described) if name is None else maintenance.migration(name)
    if described["clear_source"]:
        migration = migration.clearing()
    with _bar(dry_run=dry_run) as progress:
        done = maintenance.migrate(migration, batch=batch, dry_run=dry_run, tenant=tenant, provider=provider,
                                   limit=limit, progress=progress)  # fmt: skip
    maintenance.close()
    _tell(output, done, dry_run=dry_run)
    if done.failed:
        sys.exit(EXIT_FAILED)


def _described(
    *,
    source: str | None,
    source_url_file: Path | None,
    table: str | None,
    format_: str | None,
    maps: Sequence[str],
    sets: Sequence[str],
    called: str | None,
    clear_source: bool,
) -> Migration:
    """Return the migration that the command's words describe."""
    if (source is None) == (source_url_file is None):
        raise click.UsageError("name one source: a URL, a file, or --source-url-file")
    is_url = source_url_file is not None or "://" in str(source)
    return Migration.planned(
        columns=_pairs("--map", maps),
        constants=_pairs("--set", sets),
        url=(_url_in(source_url_file) if source_url_file else Secret(str(source))) if is_url else None,
        table=table,
        file=None if is_url else Path(str(source)),
        format=format_,
        called=called,
        clear=clear_source,
    )


def _pairs(option: str, words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        field, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not field or field in found:
            raise click.UsageError(f"{option} {word[:64]!r} must read FIELD=..., each field once")
        found[field] = value
    return found


def _url_in(file: Path) -> Secret:
    try:
        return Secret(file.read_text().strip())
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError([f"--source-url-file {file} cannot be read ({cause})"]) from None


@contextmanager
def _bar(*, dry_run: bool) -> Iterator[Callable[[MigrationSummary], None]]:
    """Show how far it is, in rows and rows a second; yields what to tell it of each batch."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
               TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("checking" if dry_run else "moving", total=None, rate="")

        def show(step: MigrationSummary) -> None:
            rate = f"{step.done / step.seconds:,.0f}/s" if step.seconds else ""
            bar.update(task, total=max(step.total, step.done), completed=step.done, rate=rate)

        yield show


def _tell(output: Output, done: MigrationSummary, *, dry_run: bool) -> None:
    errors = {reason: trouble._asdict() for reason, trouble in sorted(done.errors.items())}
    facts = {"dry_run": dry_run, **{name: getattr(done, name) for name in NUMBERS}, "seconds": round(done.seconds, 3)}
    if output.as_json:
        output.document({**facts, "errors": errors})
        return
    output.facts(facts)
    if errors:
        table = Table("reason", Column("rows", justify="right"), "such as")
        for reason, trouble in errors.items():
            keys = ", ".join(each if each.isprintable() else repr(each) for each in trouble["keys"])
            table.add_row(reason, f"{trouble['rows']:,}", escape(keys))
        output.console.print(table)
