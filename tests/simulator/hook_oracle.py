"""Which secrets of webhooks a provider had registered at every instant, by its own journal."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple


class Registered(NamedTuple):
    """A secret, and when it was registered, by the simulator's clock."""

    shape: str
    of: str
    secret: str
    since: float
    until: float


def registered(lines: Iterable[str], provider: str) -> list[Registered]:
    """Return every registration there ever was; of one that lasts, the end is infinite."""
    ended: list[Registered] = []
    there: dict[tuple[str, str], Registered] = {}
    for line in lines:
        if '"hook"' not in line:
            continue
        event = json.loads(line)
        if event["event"] != "hook" or event["provider"] != provider:
            continue
        place, at = (event["shape"], event["of"]), event["ts"]
        before = there.get(place)
        if before is not None and (event["what"] == "removed" or before.secret != event["secret"]):
            ended.append(there.pop(place)._replace(until=at))
        if event["what"] != "removed" and place not in there:
            there[place] = Registered(*place, event["secret"], at, float("inf"))
    return [*ended, *there.values()]
