"""Which tables hold envelopes, and to what each is bound."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from vault.model import SYSTEM
from vault.store.tables import (
    candidate,
    connect_attempt,
    connection,
    connection_metadata,
    credential_version,
    oauth_client,
    oauth_grant,
    revocation,
    user_sessions,
)


class Sealed(NamedTuple):
    """A table whose rows hold envelopes under a data key."""

    table: sa.Table
    fields: tuple[tuple[str, str], ...]
    """What each envelope is, and its column."""
    version: Any
    """The version an envelope is bound to."""
    tenant: Any
    """The tenant it is bound to, as the row itself says."""
    subject: Any
    """The id it is bound to, beside tenant, field and version."""

    @property
    def source(self) -> Any:
        """What to select from, so that every column can be read."""
        return self.table.join(connection) if self.tenant is connection.c.tenant else self.table

    @property
    def key(self) -> list[Any]:
        """The columns that tell its rows apart."""
        return [*self.table.primary_key.columns]


_TOKENS = (("access_token", "access_envelope"), ("refresh_token", "refresh_envelope"))
_SECRETS = (("client_secret", "secret_envelope"), ("other_client_secret", "other_envelope"))
SEALED: Final = (
    Sealed(oauth_grant, _TOKENS, oauth_grant.c.version, oauth_grant.c.tenant, oauth_grant.c.connection_id),
    Sealed(
        connection_metadata,
        (("metadata", "envelope"),),
        connection_metadata.c.version,
        connection.c.tenant,
        connection_metadata.c.connection_id,
    ),
    Sealed(oauth_client, _SECRETS, oauth_client.c.version, sa.literal(SYSTEM), oauth_client.c.id),
    Sealed(
        credential_version,
        (("value", "envelope"),),
        credential_version.c.version,
        credential_version.c.tenant,
        credential_version.c.credential_id,
    ),
    Sealed(
        user_sessions,
        (("session_metadata", "metadata_envelope"),),
        user_sessions.c.version,
        user_sessions.c.tenant,
        user_sessions.c.id,
    ),
)
"""Tables whose rows are re-sealed when their key is replaced; what lives for days only is waited for instead."""

_FLOW = (("connect_flow", "verifier_envelope"), ("metadata", "metadata_envelope"))
EVERYWHERE: Final = (
    *SEALED,
    Sealed(candidate, _TOKENS, candidate.c.parent_version + 1, candidate.c.tenant, candidate.c.connection_id),
    Sealed(revocation, _TOKENS, revocation.c.version, revocation.c.tenant, revocation.c.connection_id),
    Sealed(connect_attempt, _FLOW, sa.literal(0), connect_attempt.c.tenant, connect_attempt.c.connection_id),
)
