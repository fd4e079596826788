"""Rules that override policies, out of TOML files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vault.credentials.kinds import Kind
from vault.credentials.policies import Rule, problems
from vault.errors import ConfigurationError

_WORDS: Final = ("tenant", "provider", "kind")


def read_rules(files: Sequence[Path]) -> list[Rule]:
    """Read rules; each is a table, its name being where a number comes from.

        [partners]
        provider = "salesforce"
        kind = "api_key"
        max_age = 30

    Raises ``ConfigurationError`` with every problem at once, by file, rule and number.
    """
    wrong: list[str] = []
    found: dict[str, Rule] = {}
    for file in files:
        for name, table in read_tables("policy", file, wrong).items():
            rule, trouble = _rule(name, table)
            wrong += [f"policy file {file}: {name}: {problem}" for problem in trouble]
            found[name] = rule
    if wrong:
        raise ConfigurationError(wrong)
    return list(found.values())


def read_tables(what: str, file: Path, wrong: list[str]) -> dict[str, dict[str, Any]]:
    """Read a file whose every entry is a table; what is wrong with it, as a file of what, is added to ``wrong``."""
    try:
        tables = tomllib.loads(file.read_text())
    except OSError as error:
        wrong.append(f"{what} file {file}: cannot be read ({error.strerror})")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        wrong.append(f"{what} file {file}: is not TOML ({error})")
        return {}
    stray = [name for name, table in tables.items() if not isinstance(table, dict)]
    wrong += [f"{what} file {file}: {name} is not a table" for name in stray]
    return {name: table for name, table in tables.items() if name not in stray}


def _rule(name: str, table: Mapping[str, Any]) -> tuple[Rule, list[str]]:
    said = {word: table.get(word, "") for word in _WORDS}
    trouble = [f"{word}: must be text" for word, value in said.items() if not isinstance(value, str)]
    if said["kind"] and said["kind"] not in list(Kind):
        trouble.append(f"kind: must be one of {', '.join(Kind)}")
    changes = {field: _number(value) for field, value in table.items() if field not in _WORDS}
    return Rule(name, said["tenant"], said["provider"], said["kind"], changes), trouble + problems(changes)


def _number(value: object) -> object:
    """TOML has no null: ``max_age = "never"`` is it."""
    return None if value == "never" else value
