"""How long a token lives, in whatever way a provider says it: the one parser, at the edge."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from vault.provider import LONGEST_LIFE

SECOND: Final = timedelta(seconds=1)
MILLISECONDS_SINCE: Final = 100_000_000_000
"""A number of the epoch that is greater counts milliseconds: as seconds it would be the year 5138."""
_CLOCK: Final = re.compile(r"(\d{1,5}):(\d{1,2}):(\d{1,2})")


def life(value: object, unit: timedelta = SECOND) -> timedelta | None:
    """Read a duration: a number or text of ``unit``, or ``D:HH:MM``; None for anything else, which means the default.

    More than ten years is ten years.
    """
    if isinstance(value, str) and (found := _CLOCK.fullmatch(value.strip())):
        days, hours, minutes = map(int, found.groups())
        return _bounded(timedelta(days=min(days, LONGEST_LIFE.days), hours=hours, minutes=minutes))
    number = _number(value)
    if number is None:
        return None
    return _bounded(min(number, LONGEST_LIFE / unit) * unit)


def until(value: object, now: datetime) -> timedelta | None:
    """Read an instant, of ISO 8601 or of the epoch in seconds or milliseconds, as what is left until then."""
    number = _number(value)
    try:
        if number is not None:
            seconds = number / 1000 if number > MILLISECONDS_SINCE else number
            at = datetime.fromtimestamp(seconds, UTC)
        elif isinstance(value, str):
            at = datetime.fromisoformat(value.strip())
        else:
            return None
        return _bounded((at if at.tzinfo else at.replace(tzinfo=UTC)) - now)
    except (ValueError, OverflowError, OSError):
        return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 < number < float("inf") else None


def _bounded(found: timedelta) -> timedelta | None:
    return min(found, LONGEST_LIFE) if found > timedelta(0) else None
