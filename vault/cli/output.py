"""What commands print: to a person as text, to a machine as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table


class Steps:
    """Shows each step, and remembers the last."""

    def __init__(self, show: Callable[[Any], None]) -> None:
        self._show = show
        self.last: Any = None

    def __call__(self, step: Any) -> None:
        """Show a step."""
        self.last = step
        self._show(step)


class Output:
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
            table.add_row(name.replace("_", " "), shown(value))
        self.console.print(table)

    def document(self, document: object) -> None:
        """Print a JSON document."""
        click.echo(json.dumps(document, default=_plain, indent=2))

    @contextmanager
    def progress(self, what: str) -> Iterator[Steps]:
        """Show that something is going on; yields what to tell it of each step."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(what)
            yield Steps(lambda step: bar.update(task, description=f"{what}: {_step(step)}"))

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show how much of a total is done; yields what to tell it."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done, total=max(total, done))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def shown(value: object) -> str:
    """Write a value for a person."""
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
    return shown(step._asdict()) if hasattr(step, "_asdict") else str(step)
