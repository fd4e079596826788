"""Showing how far the demo is: live on a terminal, line by line elsewhere, always on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text


class Counters(NamedTuple):
    """What moves while one watches."""

    connections: int = 0
    refreshes: int = 0
    in_flight: int = 0
    served: int = 0
    stale: int = 0
    errors: int = 0
    restarts: int = 0


@dataclass
class Step:
    """One thing that is done, or being done."""

    title: str
    began: float
    took: float | None = None
    found: str = ""
    failed: bool = False


class Progress:
    """Steps, ticked off, and counters."""

    def __init__(self) -> None:
        """Nothing is shown before it is entered."""
        self._console = Console(stderr=True)
        self._steps: list[Step] = []
        self._counters = Counters()
        self._spinner = Spinner("dots")
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=8)

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Show that something is being done; yields what to tell its result."""
        step = Step(title, time.monotonic())
        self._steps.append(step)

        def say(found: str) -> None:
            step.found = found

        try:
            yield say
        except BaseException:
            step.failed = True
            raise
        finally:
            step.took = time.monotonic() - step.began
            if not self._console.is_terminal:
                self._console.print(self._line(step), soft_wrap=True)

    def counters(self, counters: Counters) -> None:
        """Show new counts."""
        self._counters = counters

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def _line(self, step: Step) -> Text:
        mark, style = ("✗", "red") if step.failed else ("✓", "green")
        return Text.assemble(
            (f"{mark} ", style), step.title, (f"  {step.found}", "cyan"), (f"  {step.took or 0:.1f} s", "dim")
        )

    def _render(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        now = time.monotonic()
        for step in self._steps:
            done = step.took is not None
            mark: RenderableType = self._spinner
            if done:
                mark = Text("✗", "red") if step.failed else Text("✓", "green")
            took = now - step.began if step.took is None else step.took
            grid.add_row(mark, step.title, Text(step.found, "cyan"), Text(f"{took:.1f} s", "dim"))
        return Group(grid, Text(), self._numbers(), Text())

    def _numbers(self) -> Table:
        table = Table.grid(padding=(0, 3))
        names = [name.replace("_", " ") for name in Counters._fields]
        table.add_row(*(Text(name, "dim") for name in names))
        table.add_row(*(Text(f"{value:,}", "bold") for value in self._counters))
        return table
