"""Keys with which programs ask over HTTP: what they look like, and what they may do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, NamedTuple
from uuid import UUID

from vault.errors import ConfigurationError

PREFIX: Final = "egk_"
"""Begins every key, so that scanners of leaked secrets, and people, know one when they see one."""
SCOPES: Final = {
    "tokens:read": "access tokens of connections",
    "connections:read": "connections, without their secrets",
    "connections:write": "connect, refresh, report as rejected, disconnect",
    "credentials:read": "credentials, without their values",
    "credentials:reveal": "values of credentials",
    "credentials:write": "replace, rotate and roll back values of credentials",
    "tokens:introspect": "whether tokens that are presented to your service are good",
    "statistics:read": "figures of the tenant",
    "admin": "all of the above",
    "metrics:read": "metrics of the whole process, which know of no tenant",
}
"""What a key may be allowed, and what that is. Whatever an endpoint asks for is one of these."""
ADMIN: Final = "admin"
_BEYOND_ADMIN: Final = frozenset({"metrics:read"})
"""What concerns more than one tenant is asked for by name."""
_FORM: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
LONGEST_NAME: Final = 200


class ApiKey(NamedTuple):
    """A key without its secret. Instants are aware UTC."""

    id: UUID
    tenant: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    """None: never."""
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To about a minute."""

    def allows(self, scope: str) -> bool:
        """Whether it may be used for this."""
        return scope in self.scopes or (ADMIN in self.scopes and scope not in _BEYOND_ADMIN)


class FoundKey(NamedTuple):
    """A key as the database has it, at the instant of its reading."""

    key: ApiKey
    left: timedelta | None
    """Life left, by the database's clock; None: it has no end."""


def looks_like_a_key(text: str) -> bool:
    """Whether it could be one; what could not is asked of nobody."""
    return _FORM.fullmatch(text) is not None


def digest_of(key: str) -> bytes:
    """Return what is kept of a key: of 256 random bits a plain hash gives nothing away, however fast it is."""
    return sha256(key.encode()).digest()


def check_words(name: str, scopes: Sequence[str]) -> None:
    """Raise ``ConfigurationError`` for words that a key cannot have."""
    problems = [f"there is no scope {scope[:64]!r}: {', '.join(SCOPES)}" for scope in scopes if scope not in SCOPES]
    if not scopes:
        problems.append("a key without any scope is of no use")
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        problems.append(f"a key has a name of up to {LONGEST_NAME} printable characters")
    if problems:
        raise ConfigurationError(problems)
