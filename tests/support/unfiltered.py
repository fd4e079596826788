"""Our own filters by tenant, taken away: what is left are the database's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from vault.model import SealedToken
from vault.store import reads

_CONDITIONS = re.compile(r"\b(?:WHERE|ON(?! CONFLICT))\b")
_FILTER = re.compile(
    r"((?:\w+\.)*\btenant) (=|!=) (%\(\w+\)s(?:::\w+)?|%b|%s|'\*'(?= AND)|:\w+|(?:\w+\.)?(?:tenant)\b)(?!\s*,)",
    re.ASCII,
)
_LEFT = re.compile(
    r"\btenant\b\W*?(?:=|<>|!=|\bIN\b|\bIS\b|\bLIKE\b)|(?:=|<>|!=)\s*(?:\w+\.)*tenant\b|\bUSING \([^)]*\btenant\b",
    re.ASCII,
)
"""Wider than what is rewritten: whatever compares a tenant with anything."""


class Gone(NamedTuple):
    """What became of the statements that went to the database."""

    rewritten: list[str]
    left: set[str]
    """Those that ask for a tenant still, in a form that nobody has thought of here."""


class _Everybodys(str):
    """A tenant that is whichever one is asked for."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


@lru_cache(4096)
def _without_filters(statement: str) -> str:
    """Return a statement that asks for no tenant in its conditions; what it is given, it is given still."""
    conditions = _CONDITIONS.search(statement)
    if conditions is None or "set_config" in statement:
        return statement
    head, tail = statement[: conditions.start()], statement[conditions.start() :]
    return head + _FILTER.sub(lambda found: f"({found[3]})::text IS NOT NULL", tail)


def _told(statement: Any, gone: Gone) -> Any:
    text = statement.decode() if isinstance(statement, bytes) else statement
    if not isinstance(text, str):
        return statement  # the driver's own, about types
    changed = _without_filters(text)
    if changed != text:
        gone.rewritten.append(changed)
    if _LEFT.search(changed):
        gone.left.add(changed)
    return changed.encode() if isinstance(statement, bytes) else changed


@contextmanager
def filters_gone() -> Iterator[Gone]:
    """Rewrite whatever goes to the database, and take rows of any tenant for ours; yields what was rewritten."""
    execute, many, sealed = psycopg.Cursor.execute, psycopg.Cursor.executemany, SealedToken
    gone = Gone([], set())

    def rewriting(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        return execute(self, _told(query, gone), *arguments, **options)

    def rewriting_many(self: Any, query: Any, *arguments: Any, **options: Any) -> None:
        many(self, _told(query, gone), *arguments, **options)

    def of_anybody(connection_id: UUID, tenant: str, *rest: Any) -> SealedToken:
        return SealedToken(connection_id, _Everybodys(tenant), *rest)

    psycopg.Cursor.execute = rewriting  # type: ignore[method-assign]
    psycopg.Cursor.executemany = rewriting_many  # type: ignore[method-assign]
    vars(reads)["SealedToken"] = of_anybody
    try:
        yield gone
    finally:
        psycopg.Cursor.execute = execute  # type: ignore[method-assign]
        psycopg.Cursor.executemany = many  # type: ignore[method-assign]
        vars(reads)["SealedToken"] = sealed
