"""What a token must bring for each method of the user's service, out of TOML files.

    [change-playlists]
    method = "POST /v1/playlists/*"
    any = ["playlists", "admin"]
    subscription = "plus"

``*`` stands for one part of a name, ``**`` at its end for everything that follows. Parts are separated by a slash, a
dot, a colon or a space. Where several rules fit, the most exact one holds, compared part by part from the left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from vault.credentials.rules import read_tables
from vault.errors import ConfigurationError
from vault.validation.sessions import Subscription, checked_scopes

LONGEST_METHOD: Final = 512
ANY_PART, ANY_REST = "*", "**"
_SEPARATORS: Final = re.compile(r"([/.: ])")
_FIELDS: Final = ("method", "all", "any", "subscription", "refresh")
_EXACTNESS: Final = {ANY_PART: 1, ANY_REST: 0}


class MethodRule(NamedTuple):
    """What one sort of call needs."""

    name: str
    """Of the table it stands in."""
    methods: tuple[tuple[str, ...], ...]
    """Names and patterns, each in parts."""
    all: tuple[str, ...] = ()
    """Scopes of which none may be missing."""
    any: tuple[str, ...] = ()
    """Scopes of which one will do."""
    subscription: Subscription = Subscription.FREE
    refresh: bool = True
    """Whether a connection's token that is near its end may be refreshed for it."""

    def missing(self, scopes: Sequence[str]) -> tuple[str, ...]:
        """Return the scopes that are missing; of those of which one will do, all or none."""
        held = set(scopes)
        lacking = tuple(scope for scope in self.all if scope not in held)
        return lacking if not self.any or held.intersection(self.any) else (*lacking, *self.any)


class MethodRules:
    """All rules. There being none, no call needs anything."""

    def __init__(self, rules: Sequence[MethodRule] = ()) -> None:
        by_pattern = [(pattern, rule) for rule in rules for pattern in rule.methods]
        self._exact = {pattern: rule for pattern, rule in by_pattern if not _is_open(pattern)}
        self._open = [each for each in by_pattern if _is_open(each[0])]
        self._open.sort(key=lambda each: _exactness(each[0]), reverse=True)

    def __bool__(self) -> bool:
        return bool(self._exact or self._open)

    def of(self, method: str) -> MethodRule | None:
        """Return the rule that holds for a method; None: nobody has thought of it."""
        if len(method) > LONGEST_METHOD:
            return None
        parts = _parts(method)
        found = self._exact.get(parts)
        return found or next((rule for pattern, rule in self._open if _fits(pattern, parts)), None)


def read_method_rules(files: Sequence[Path]) -> MethodRules:
    """Read the rules of files; a table replaces one of the same name in a file before.

    Raises ``ConfigurationError`` with every problem at once, by file, table and field.
    """
    wrong: list[str] = []
    rules: dict[str, tuple[Path, MethodRule]] = {}
    for file in files:
        for name, table in read_tables("scope rule", file, wrong).items():
            trouble: list[str] = []
            rules[name] = (file, _rule(name, table, trouble))
            wrong += [f"scope rule file {file}: {name}: {problem}" for problem in trouble]
    wrong += _doubles(rules.values())
    if wrong:
        raise ConfigurationError(wrong)
    return MethodRules([rule for _, rule in rules.values()])


def _rule(name: str, table: Mapping[str, Any], trouble: list[str]) -> MethodRule:
    unknown = sorted(table.keys() - set(_FIELDS))
    trouble += [f"{field}: there is no such field; known: {', '.join(_FIELDS)}" for field in unknown]
    level = table.get("subscription", Subscription.FREE)
    if level not in list(Subscription):
        trouble.append(f"subscription: must be one of {', '.join(Subscription)}")
        level = Subscription.FREE
    refresh = table.get("refresh", True)
    if not isinstance(refresh, bool):
        trouble.append("refresh: must be true or false")
    scopes = {field: _scopes(field, table.get(field, []), trouble) for field in ("all", "any")}
    if table.get("any") == []:
        trouble.append("any: must name a scope, or be left out: nobody can bring one of none")
    methods = _methods(table.get("method"), trouble)
    return MethodRule(name, methods, scopes["all"], scopes["any"], Subscription(level), bool(refresh))


def _methods(given: object, trouble: list[str]) -> tuple[tuple[str, ...], ...]:
    said = [given] if isinstance(given, str) else given
    if not isinstance(said, list) or not said or not all(isinstance(each, str) for each in said):
        trouble.append("method: must be the name of a method, or a list of names")
        return ()
    trouble += [f"method: {problem}" for each in said if (problem := _problem(each))]
    return tuple(map(_parts, said))


def _problem(method: str) -> str:
    parts = _parts(method)
    if not method or len(method) > LONGEST_METHOD or not method.isprintable():
        return f"a name has 1 to {LONGEST_METHOD} printable characters"
    if any(ANY_PART in part and part not in _EXACTNESS for part in parts):
        return f"{method[:80]!r}: * stands for a whole part between / . : and spaces"
    if ANY_REST in parts[:-1]:
        return f"{method[:80]!r}: ** stands at the end"
    return ""


def _scopes(field: str, given: object, trouble: list[str]) -> tuple[str, ...]:
    try:
        if isinstance(given, list):
            return checked_scopes(given)
    except ValueError as error:
        trouble.append(f"{field}: {error}")
    else:
        trouble.append(f"{field}: must be a list of scopes")
    return ()


def _doubles(rules: Any) -> list[str]:
    found: list[str] = []
    first: dict[tuple[str, ...], str] = {}
    for file, rule in rules:
        for pattern in rule.methods:
            before = first.setdefault(pattern, rule.name)
            if before != rule.name:
                method = "".join(pattern)[:80]
                found.append(f"scope rule file {file}: {rule.name}: method: {method!r} is {before}'s already")
    return found


def _parts(method: str) -> tuple[str, ...]:
    return tuple(_SEPARATORS.split(method))


def _is_open(pattern: tuple[str, ...]) -> bool:
    return any(part in _EXACTNESS for part in pattern)


def _exactness(pattern: tuple[str, ...]) -> list[int]:
    return [_EXACTNESS.get(part, 2) for part in pattern]


def _fits(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    rest = pattern[-1] == ANY_REST
    head = pattern[:-1] if rest else pattern
    if len(parts) < len(pattern) or (not rest and len(parts) != len(pattern)):
        return False
    fits = all(wanted == part or (wanted == ANY_PART and part) for wanted, part in zip(head, parts, strict=False))
    return fits and (not rest or bool("".join(parts[len(head) :])))
