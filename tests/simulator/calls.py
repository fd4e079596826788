"""A request on its way through an endpoint, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tests.simulator.faults import Fault
from tests.simulator.provider import Provider
from tests.simulator.wire import Head


@dataclass(slots=True)
class Call:
    """One request to one provider."""

    provider: Provider
    head: Head
    form: dict[str, str]
    number: int
    now: float
    base_uri: str
    fault: Fault | None = None
    body: bytes = b""


class Honest(NamedTuple):
    """What the provider wants to say: the bytes, and the event they belong to (0 when losing them costs nothing)."""

    payload: bytes
    event: int = 0


Endpoint = Callable[[Call], Honest]
