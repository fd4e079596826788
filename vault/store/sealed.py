"""Which tables hold envelopes, and to what each is bound."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from vault.store.tables import (
    candidate,
    connect_attempt,
    connection,
    connection_metadata,
    oauth_grant,
    revocation,
)


class Sealed(NamedTuple):
    """A table whose rows hold envelopes under a data key."""

    table: sa.Table
    fields: tuple[tuple[str, str], ...]
    """What each envelope is, and its column."""
    version: Any
    """The version an envelope is bound to."""
    tenant: Any
    """The tenant it is bound to; beside tenant, field and version it is bound to the connection's id."""

    @property
    def source(self) -> Any:
        """What to select from, so that every column can be read."""
        return self.table.join(connection) if self.tenant is connection.c.tenant else self.table

    @property
    def key(self) -> list[Any]:
        """The columns that tell its rows apart."""
        return [*self.table.primary_key.columns]


_TOKENS = (("access_token", "access_envelope"), ("refresh_token", "refresh_envelope"))
SEALED: Final = (
    Sealed(oauth_grant, _TOKENS, oauth_grant.c.version, oauth_grant.c.tenant),
    Sealed(connection_metadata, (("metadata", "envelope"),), connection_metadata.c.version, connection.c.tenant),
)
"""Tables whose rows are re-sealed when their key is replaced; what lives for days only is waited for instead."""

_FLOW = (("code_verifier", "verifier_envelope"), ("metadata", "metadata_envelope"))
EVERYWHERE: Final = (
    *SEALED,
    Sealed(candidate, _TOKENS, candidate.c.parent_version + 1, candidate.c.tenant),
    Sealed(revocation, (("refresh_token", "refresh_envelope"),), revocation.c.version, revocation.c.tenant),
    Sealed(connect_attempt, _FLOW, sa.literal(0), connect_attempt.c.tenant),
)
