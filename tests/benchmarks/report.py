"""Figures, and how they are shown: a table for people, JSON for machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pycurl
from rich.console import Console
from rich.table import Table


class Goal(NamedTuple):
    """A bound for a figure's ratio; `required` is looser than what is wanted, when it is given."""

    sign: str
    wanted: float
    required: float | None = None
    of_value: bool = False
    """The bound is for the value itself, not for the ratio."""

    def met(self, number: float) -> bool:
        """Whether the number is within the bound wanted."""
        return self._holds(number, self.wanted)

    def verdict(self, number: float) -> str:
        """Say in colours how the number stands."""
        if self.met(number):
            return "[green]yes[/]"
        if self.required is not None and self._holds(number, self.required):
            return "[yellow]required only[/]"
        return "[red]no[/]"

    def _holds(self, number: float, bound: float) -> bool:
        return number <= bound if self.sign == "≤" else number >= bound

    def __str__(self) -> str:
        required = "" if self.required is None else f" (required {self.required:g})"
        return f"{self.sign} {self.wanted:g}{required}"


def at_most(wanted: float, required: float | None = None, *, of_value: bool = False) -> Goal:
    """Return a goal that is met from below."""
    return Goal("≤", wanted, required, of_value)


def at_least(wanted: float, required: float | None = None) -> Goal:
    """Return a goal that is met from above."""
    return Goal("≥", wanted, required)


@dataclass(frozen=True)
class Figure:
    """One line of a table."""

    what: str
    value: float
    unit: str
    ratio: float | None = None
    beside: str = ""
    """What the ratio is to."""
    goal: Goal | None = None
    note: str = ""


@dataclass(frozen=True)
class Absent:
    """A line for what was to be measured, and why it was not."""

    what: str
    why: str


@dataclass(frozen=True)
class Section:
    """One table."""

    name: str
    title: str
    figures: Sequence[Figure]
    absent: Sequence[Absent] = ()


def show(section: Section, console: Console) -> None:
    """Print one table."""
    table = Table(title=section.title, title_justify="left", title_style="bold")
    table.add_column("what")
    for heading in ("figure", "ratio"):
        table.add_column(heading, justify="right")
    for heading in ("beside", "goal", "met", "note"):
        table.add_column(heading)
    for figure in section.figures:
        table.add_row(*_cells(figure))
    for absent in section.absent:
        table.add_row(absent.what, "–", "", "", "", "", absent.why)
    console.print(table)


def _cells(figure: Figure) -> tuple[str, ...]:
    ratio = "" if figure.ratio is None else f"{figure.ratio:.3g} ×"
    value = f"{figure.value:,.0f} {figure.unit}" if figure.value >= 1000 else f"{figure.value:.3g} {figure.unit}"
    goal = figure.goal
    if goal is None:
        return figure.what, value, ratio, figure.beside, "", "", figure.note
    number = figure.value if goal.of_value or figure.ratio is None else figure.ratio
    return figure.what, value, ratio, figure.beside, str(goal), goal.verdict(number), figure.note


def machine() -> dict[str, str]:
    """Describe the machine and what runs on it."""
    packages = ("cryptography", "psycopg", "sqlalchemy", "celery", "redis", "requests-oauthlib")
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": f"{os.getloadavg()[0]:.2f} when it began",
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "libcurl": next((p for p in pycurl.version.split() if p.startswith("libcurl/")), pycurl.version),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def as_json(sections: Sequence[Section], described: dict[str, str]) -> str:
    """Return everything measured, for a machine to read."""
    return json.dumps({"machine": described, "sections": [asdict(section) for section in sections]}, indent=1)
