"""Python code that is told of events: entry points of the group ``evergrant.events``, each ``(Event) -> None``."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import structlog

from vault.events import Event

log = structlog.get_logger(__name__)

GROUP: Final = "evergrant.events"
Hook = Callable[[Event], object]


def installed() -> dict[str, Hook]:
    """Return every hook of this environment by name; one that cannot be imported fails whenever it is called."""
    return {found.name: _load(found) for found in entry_points(group=GROUP)}


def _load(found: EntryPoint) -> Hook:
    try:
        loaded: Hook = found.load()
    except Exception as error:  # noqa: BLE001  # whatever their import does, our deliveries go on
        log.error("hook.unusable", hook=found.name, error=type(error).__name__)
        return _unusable
    return loaded


def _unusable(_: Event) -> None:
    raise ImportError("the hook cannot be imported")
