"""``make fuzz``: millions of malformed envelopes, keys and texts. Exit code 0 only if every one was refused rightly."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tests.fuzz.campaign import SHARES, Report, run, run_chunk

COUNT = 20_000_000
HARMLESS = """harmless: another way of writing the same value (hex in capitals, padding, the space around a text); or
another system's data key altered, which only its KMS can tell"""
OUTCOMES = ("refused", "genuine opened", "harmless", "wrong", "other error")


def main(arguments: Sequence[str] | None = None) -> int:
    """Throw what was asked for, and print what came of it."""
    given = _parser().parse_args(arguments)
    cases = given.count if given.count or given.seconds is not None else COUNT
    console = Console(stderr=True)
    console.print(f"seed {given.seed}", highlight=False)
    if given.chunk is not None:
        report = run_chunk(given.seed, given.chunk)
    else:
        report = _watched(console, given.seed, cases, given.seconds)
    show(Console(width=None if sys.stdout.isatty() else 120), report, given.seed)
    return 0 if report.passed else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--count", type=int, metavar="N", help=f"how many; {COUNT:,} if nothing else is said")
    parser.add_argument("--seconds", type=float, metavar="S", help="for so long instead")
    parser.add_argument("--seed", default=secrets.token_hex(8), help="of an earlier run, to have the same again")
    parser.add_argument("--chunk", type=int, metavar="N", help="this chunk of the seed alone, as a failure names it")
    return parser


def _watched(console: Console, seed: str, cases: int | None, seconds: float | None) -> Report:
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=cases)
        said = 0.0

        def tell(report: Report) -> None:
            nonlocal said
            bad = report.count("wrong") + report.count("other error")
            progress.update(
                task, completed=report.cases, description=f"{report.cases / report.seconds:,.0f}/s, {bad} bad"
            )
            if not console.is_terminal and report.seconds >= said + 30:
                said = report.seconds
                console.print(f"{report.cases:,} thrown in {said:.0f} s, {bad} bad", highlight=False)

        return run(seed, cases, seconds, tell)


def show(console: Console, report: Report, seed: str) -> None:
    """Print what came out."""
    table = Table("", "thrown", *OUTCOMES, title="Fuzz")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in SHARES:
        numbers = [report.outcomes[name, outcome] for outcome in OUTCOMES]
        table.add_row(name, *(f"{number:,}" for number in (sum(numbers), *numbers)))
    table.add_section()
    numbers = [report.count(outcome) for outcome in OUTCOMES]
    table.add_row("all", *(f"{number:,}" for number in (report.cases, *numbers)), style="bold")
    console.print(table)
    for failure in report.failures:
        console.print(failure, highlight=False, markup=False)
    words = "passed" if report.passed else "FAILED"
    console.print(f"{words}: {report.cases:,} in {report.seconds:.0f} s, seed {seed}", highlight=False)
    console.print(HARMLESS, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
