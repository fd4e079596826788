"""Shows what campaigns came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from tests.rotation.campaign import Report

Figure = tuple[str, Callable[[Report], object]]
SHOWN = 20
"""Problems that are named."""

FIGURES: Sequence[Figure] = (
    ("seconds", lambda r: f"{r.seconds:.0f}"),
    ("values", lambda r: f"{r.verdict.values:,}"),
    ("processes killed", lambda r: r.killing.kills.total()),
    ("  at named points", lambda r: r.deaths.total()),
    ("  of what kind", lambda r: _listed(r.killing.kills)),
    ("came to their end", lambda r: _listed(r.killing.finished)),
    ("ended with an error", lambda r: _listed(r.killing.failed)),
    ("reads", lambda r: f"{r.reading.reads:,} ({r.reading.reads / r.reading.seconds:.0f} a second)"),
    ("  failed", lambda r: r.reading.failed.total()),
    ("  wrong tokens", lambda r: r.verdict.wrong_reads),
    ("  p50, p99, longest, ms", lambda r: ", ".join(f"{ms:.1f}" for ms in r.took)),
    ("  began late by, at most, ms", lambda r: f"{r.reading.latest * 1000:.0f}"),
    ("refreshes meanwhile", lambda r: _listed(r.refreshing)),
    ("  of so many connections", lambda r: r.verdict.refreshed),
    ("old keys destroyed", lambda r: ", ".join(f"{n:,} {what}" for what, n in r.made.items())),
    ("left", lambda r: ", ".join(f"{n} {what}" for what, n in r.left.items())),
    ("undecryptable", lambda r: r.verdict.undecryptable),
    ("not what the provider gave last", lambda r: r.verdict.wrong),
    ("keys verify", lambda r: "passed" if r.audited else "FAILED"),
    ("passed", lambda r: "yes" if r.passed else "NO"),
)  # fmt: skip


def show(console: Console, report: Report) -> None:
    """Print what came of it."""
    table = Table("", report.plan.name, title="Rotation under fire")
    for name, value in FIGURES:
        table.add_row(name, str(value(report)))
    console.print(table)
    console.print(f"last came to: {_listed(report.killing.places)}", highlight=False)
    console.print(f"deaths at points: {_listed(report.deaths)}", highlight=False)
    problems = [*report.reading.failed, *report.verdict.problems]
    for problem in [*problems[:SHOWN], *report.log[-SHOWN:]]:
        console.print(problem, highlight=False, markup=False)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
