"""The command behind `make bench`; see the package."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog
from rich.console import Console

from tests import benchmarks
from tests.benchmarks import (
    auditing,
    claiming,
    counting,
    enqueueing,
    keys,
    migrating,
    reading,
    refreshing,
    report,
    sealing,
    serving,
)
from tests.benchmarks.measure import Effort

BENCHMARKS = {
    "get": reading.run,
    "seal": sealing.run,
    "claim": claiming.run,
    "enqueue": enqueueing.run,
    "audit": auditing.run,
    "statistics": counting.run,
    "migrate": migrating.run,
    "keys": keys.run,
    "http": serving.run,
    "engine": refreshing.run,
}
QUICK = 0.1


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for, and print each table as soon as it is known."""
    given = _parser().parse_args(arguments)
    names = given.names or list(BENCHMARKS)
    effort = Effort(given.share or (QUICK if given.quick else 1.0), given.ten_million)
    console = Console(width=None if sys.stdout.isatty() else 150)
    described = report.machine()
    console.print(" · ".join(f"{key} {value}" for key, value in described.items()), style="dim")
    sections = []
    for name in names:
        for section in BENCHMARKS[name](effort):
            report.show(section, console)
            sections.append(section)
    if given.json:
        given.json.write_text(report.as_json(sections, described) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bench", description=benchmarks.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*BENCHMARKS, []]  # an empty list: what argparse holds against the choices when nothing is named
    told = f"of {', '.join(BENCHMARKS)}; all if none is given"
    parser.add_argument("names", nargs="*", metavar="NAME", choices=known, help=told)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK * 100:.0f} percent of the counts")
    parser.add_argument("--share", type=float, metavar="X", help="this share of the counts")
    parser.add_argument("--ten-million", action="store_true", help="claim from ten million rows too (minutes, 10 GB)")
    return parser


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # the tables are the output
    main()
