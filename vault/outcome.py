"""What became of one POST to a token endpoint, in classes that different rules follow (docs/concepts.md)."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from vault.model import Answer


class Refreshed(NamedTuple):
    """The provider gave a new token."""

    answer: Answer


class NotSent(NamedTuple):
    """Not a byte of the request left: nothing was spent."""

    cause: str


class Ambiguous(NamedTuple):
    """It may have been processed and no readable answer came: a time-out, a reset, a 5xx, an unreadable 200."""

    cause: str
    retry_after: timedelta | None = None


class Throttled(NamedTuple):
    """The provider asks for patience and says it processed nothing (429, 425, a 4xx that is no OAuth answer)."""

    cause: str
    retry_after: timedelta | None = None


class Misconfigured(NamedTuple):
    """Our own registration or settings were refused; no grant is to blame."""

    code: str


class Dead(NamedTuple):
    """The provider says this refresh token is no good; whether that is conclusive, the protocol decides (S7)."""

    code: str


class StepNeeded(NamedTuple):
    """The owner must do something at the provider."""

    code: str


class Unknown(NamedTuple):
    """A rejection no table knows."""

    code: str


Outcome = Refreshed | NotSent | Ambiguous | Throttled | Misconfigured | Dead | StepNeeded | Unknown
