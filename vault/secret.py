"""A value that does not leave its place by accident."""

from __future__ import annotations

import hmac
from typing import Any, NoReturn

MASK = "Secret(***)"


class Secret:
    """Text that shows itself only to ``reveal()``.

    ``repr``, ``str``, ``format`` and f-strings give a mask; pickling, copying into JSON and hashing are refused, so a
    secret cannot travel in a message, a log record, a traceback with locals, or a set. Comparing is constant-time.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text itself. Every reader of a secret can be found by searching for this name."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret in a dict or a set outlives its owner's care

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a Secret refuses to be pickled or copied: pass an id and read it where it is needed")
