"""The two credentials of a grant, under ids that follow from its connection's: the app needs to keep only one.

The access token has the connection's own id. The refresh token has the same with another version number (8 instead of
4, RFC 9562 section 5.8), so that it can be told from every other id and sorts as its connection does.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

_BETWEEN_VERSIONS: Final = 0xC << 76
"""What turns version 4 into 8, and back."""
_REFRESH_VERSION: Final = 8
_BELOW_VERSION: Final = 1 << 76


def refresh_token_id(connection_id: UUID) -> UUID:
    """Return the id of a grant's refresh token."""
    return UUID(int=connection_id.int ^ _BETWEEN_VERSIONS)


def is_refresh_token_id(credential_id: UUID) -> bool:
    """Whether an id is of a refresh token."""
    return credential_id.version == _REFRESH_VERSION


def connection_of(credential_id: UUID) -> UUID:
    """Return whose token an id names, if it names one."""
    return refresh_token_id(credential_id) if is_refresh_token_id(credential_id) else credential_id


def place_among_refresh_tokens(after: UUID) -> UUID:
    """Return the id of a connection, real or not: refresh tokens of later ones, and no others, sort after an id."""
    above, version = after.int >> 80 << 80, after.int >> 76 & 0xF
    if version == _REFRESH_VERSION:
        return refresh_token_id(after)
    lowest = above | 4 * _BELOW_VERSION
    return UUID(int=lowest - 1 if version < _REFRESH_VERSION else lowest + _BELOW_VERSION - 1)
