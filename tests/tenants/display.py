"""Shows what campaigns came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Column, Table

from tests.tenants.campaign import Report

Figure = tuple[str, Callable[[Report], object]]
SHOWN = 20
"""Problems that are named."""

FIGURES: Sequence[Figure] = (
    ("seconds", lambda r: f"{r.seconds:.0f}"),
    ("calls", lambda r: f"{r.found.calls.total():,}"),
    ("  a second", lambda r: f"{r.found.calls.total() / max(r.seconds, 0.001):.0f}"),
    ("endpoints", lambda r: len(r.found.calls)),
    ("answers", lambda r: _listed(r.found.statuses)),
    ("statements rewritten", lambda r: "-" if r.gone is None else f"{len(r.gone.rewritten):,}"),
    ("  with a filter left", lambda r: "-" if r.gone is None else len(r.gone.left)),
    ("leaks", lambda r: f"{len(r.found.leaks):,}"),
    ("server errors", lambda r: len(r.found.errors)),
    ("  answers with either", lambda r: r.found.noticed.total()),
    ("  endpoints with either", lambda r: len(r.found.calls) - len(_tight(r))),
    ("tables changed", lambda r: ", ".join(r.changed) or "none"),
    ("wanted", lambda r: "leaks" if r.plan.is_control else "none of these"),
    ("passed", lambda r: "yes" if r.passed else "NO"),
)


def show(console: Console, reports: Sequence[Report]) -> None:
    """Print what came of it."""
    table = Table("", *(Column(report.plan.name, overflow="fold") for report in reports), title="Tenants")
    for name, value in FIGURES:
        table.add_row(name, *(str(value(report)) for report in reports))
    console.print(table)
    for report in reports:
        if report.plan.is_control and _tight(report):
            console.print(f"{report.plan.name}: nothing noticed of {', '.join(_tight(report))}", highlight=False)
        for problem in _problems(report):
            console.print(f"{report.plan.name}: {problem}", highlight=False)


def _problems(report: Report) -> list[str]:
    """Name some of what should not be there; in a control, only what made it worthless."""
    left = [] if report.gone is None else [f"a filter is left: {each}" for each in sorted(report.gone.left)[:SHOWN]]
    if report.plan.is_control:
        return left if report.found.leaks else [*left, "nothing leaked, so a leak would not be seen elsewhere"]
    return [*left, *report.found.leaks[:SHOWN], *report.found.errors[:SHOWN]]


def _tight(report: Report) -> list[str]:
    """Name endpoints at which nothing was noticed."""
    return sorted(what for what in report.found.calls if not report.found.noticed[what])


def _listed(counted: Mapping[int, int]) -> str:
    return ", ".join(f"{what} {number:,}" for what, number in sorted(counted.items()))
