"""Our own filters by tenant, taken away: what is left are the database's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg

from vault.model import SealedToken
from vault.store import reads

_FILTER = re.compile(
    r"((?:\w+\.)*\btenant) (=|!=) (%\(\w+\)s(?:::\w+)?|%b|%s|'\*'(?= AND)|:\w+|(?:\w+\.)?(?:tenant)\b)(?!\s*,)",
    re.ASCII,
)


class _Everybodys(str):
    """A tenant that is whichever one is asked for."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def _without_filters(statement: Any) -> Any:
    """Return a statement that asks for no tenant in its conditions; what it is given, it is given still."""
    text = statement.decode() if isinstance(statement, bytes) else statement
    if not isinstance(text, str) or "set_config" in text:
        return statement
    head, where, tail = text.partition("WHERE")
    changed = head + where + _FILTER.sub(lambda found: f"({found[3]})::text IS NOT NULL", tail)
    return changed.encode() if isinstance(statement, bytes) else changed


@contextmanager
def filters_gone() -> Iterator[list[str]]:
    """Rewrite whatever goes to the database, and take rows of any tenant for ours; yields what was rewritten."""
    execute, sealed, rewritten = psycopg.Cursor.execute, SealedToken, list[str]()

    def rewriting(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        changed = _without_filters(query)
        if changed != query:
            rewritten.append(str(changed))
        return execute(self, changed, *arguments, **options)

    def of_anybody(connection_id: UUID, tenant: str, *rest: Any) -> SealedToken:
        return SealedToken(connection_id, _Everybodys(tenant), *rest)

    psycopg.Cursor.execute = rewriting  # type: ignore[method-assign]
    vars(reads)["SealedToken"] = of_anybody
    try:
        yield rewritten
    finally:
        psycopg.Cursor.execute = execute  # type: ignore[method-assign]
        vars(reads)["SealedToken"] = sealed
