"""Reading what other systems write: instants, scopes, labels and tokens in the forms they occur in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal

MILLISECONDS_FROM = 1e11
"""A number from here on counts milliseconds: as seconds it would be the year 5138, as milliseconds it is 1973."""
LATEST_S = 220_000_000_000
"""Seconds, in the year 8941: room below the last year that can be written."""
LONGEST_TOKEN = 64 * 1024
LONGEST_NAMES = 2_000
"""Bytes: PostgreSQL indexes tenant, owner and provider together, and refuses what is much longer."""

_TOKEN = re.compile(r"[\x20-\x7e]+")  # VSCHAR: RFC 6749, appendices A.12 and A.17
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


class Unreadable(Exception):  # said once, caught once
    """A value cannot be what its column says; ``reason`` is one of the documented words."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def text(value: object) -> str | None:
    """Return text that PostgreSQL can keep; None for nothing. Raises ``Unreadable``."""
    if value is None:
        return None
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value).decode("utf-8", "surrogateescape")
    found = value if isinstance(value, str) else str(value)
    if "\0" in found or not _encodable(found):
        raise Unreadable("not_text")
    return found.strip() or None


def _encodable(found: str) -> bool:
    try:
        found.encode()
    except UnicodeEncodeError:
        return False
    return True


def instant(value: object, reason: str) -> datetime | None:
    """Return an aware instant: from ISO 8601, a date and time, or seconds or milliseconds since 1970.

    What names no time zone is UTC. Raises ``Unreadable`` with ``reason``.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        found = _instant(value)
    except (ValueError, OverflowError, TypeError, OSError):
        raise Unreadable(reason) from None
    if not 0 <= found.timestamp() <= LATEST_S:
        raise Unreadable(reason)
    return found


def _instant(value: object) -> datetime:
    if isinstance(value, str):
        value = value.strip()
        value = float(value) if _NUMBER.fullmatch(value) else datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise ValueError
    seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError
    return datetime.fromtimestamp(seconds / 1000 if seconds >= MILLISECONDS_FROM else seconds, UTC)


def scopes(value: object) -> str:
    """Return scopes separated by spaces: from a list, a JSON list, or words between commas or spaces."""
    words = value if isinstance(value, (list, tuple, set, frozenset)) else _listed(text(value) or "")
    found = [text(word) for word in words if word is None or isinstance(word, str)]
    if len(found) != len(words):
        raise Unreadable("unreadable_scopes")
    return " ".join(dict.fromkeys(word for word in found if word))


def _listed(found: str) -> list[object]:
    if found.startswith("["):
        listed = _json(found, "unreadable_scopes")
        if not isinstance(listed, list):
            raise Unreadable("unreadable_scopes")
        return listed
    return [*re.split(r"[\s,]+", found)]


def labels(value: object) -> dict[str, str]:
    """Return labels: from an object, or a JSON object, of plain values. Raises ``Unreadable``."""
    if not isinstance(value, Mapping):
        written = text(value)
        value = {} if written is None else _json(written, "unreadable_labels")
    if not isinstance(value, Mapping):
        raise Unreadable("unreadable_labels")
    found = {}
    for name, word in value.items():
        if isinstance(word, (list, dict)):
            raise Unreadable("unreadable_labels")
        if word is not None:
            found[text(name) or ""] = text(word) or ""
    return found


def _json(written: str, reason: str) -> object:
    try:
        found: object = json.loads(written)
    except (ValueError, RecursionError):
        raise Unreadable(reason) from None
    return found


def token(opened: str) -> str:
    """Return a token that a header can carry. Raises ``Unreadable``."""
    if len(opened) > LONGEST_TOKEN:
        raise Unreadable("too_long")
    if not _TOKEN.fullmatch(opened):
        raise Unreadable("not_a_token")
    return opened


def names(*parts: str) -> None:
    """Raise ``Unreadable`` when names are too long together to be indexed."""
    if sum(len(part.encode()) for part in parts) > LONGEST_NAMES:
        raise Unreadable("too_long")
