"""What the database role of a web app may see of each table, and do with it: one row of ``SHARES`` for every table.

Rights say which columns, policies which rows. A table that is not named here is a defect, which a test finds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vault.store.lane import SETTING
from vault.store.tables import SCHEMA

ACTING: Final = f"nullif(current_setting('{SETTING}', true), '')"
"""For whom a statement acts; NULL, which equals nothing, when nobody has said so."""
OWN: Final = f"tenant = {ACTING}"
"""Rows of the tenant that is acted for."""
OF_CONNECTION: Final = f"EXISTS (SELECT FROM {SCHEMA}.connection c WHERE c.id = connection_id AND c.{OWN})"
OF_ENDPOINT: Final = f"EXISTS (SELECT FROM {SCHEMA}.endpoint p WHERE p.id = endpoint_id AND p.{OWN})"
OF_ALL: Final = f"{ACTING} = '*'"
"""Rows that concern all tenants: for who acts for the system, which only the registry of clients does."""
OF_WHOEVER: Final = f"({OWN} OR {OF_ALL})"

ALL: Final = ("*",)
NONE: Final = ()
Columns = tuple[str, ...]


class Share(NamedTuple):
    """What a web app's role may see of a table and do with it; columns by name, all of them, or all ``but`` some."""

    rows: str | None
    """Which rows; None: there are none of tenants in it, and no policy."""
    read: Columns = NONE
    add: Columns = NONE
    change: Columns = NONE
    remove: bool = False


def but(*names: str) -> Columns:
    """All columns but these."""
    return ("-", *names)


_TOLD: Final = ("tenant", "event", "connection_id", "detail")
"""What a process says of an act. Its number, its instant and its transaction are the database's to say."""
_GIVEN_BACK: Final = (
    *("connection_id", "tenant", "owner", "provider", "version", "data_key_id", "refresh_envelope", "client_id"),
)
"""Of a grant that a web app got and could not keep. Who writes such a row can have revoked what he could end anyway."""
_KEPT_OUT = Share(OWN)
"""There are rows of tenants, and web apps have no business with them."""
_OF_NOBODY = Share(None)

SHARES: Final[dict[str, Share]] = {
    # What a connection consists of. A new consent is written, envelope and all; what was written is not read.
    "connection": Share(OWN, ALL, ALL, ("account", "requested_scopes", "granted_scopes", "labels", "connected_at")),
    "oauth_grant": Share(OWN, but("refresh_envelope"), ALL, but("connection_id", "tenant")),
    "connection_metadata": Share(OF_CONNECTION, ALL, ALL, but("connection_id"), remove=True),
    "schedule": Share(OF_CONNECTION, ALL, ALL, but("connection_id")),
    "grant_end": Share(OF_CONNECTION, ALL),
    "candidate": Share(OWN, ("connection_id", "tenant"), remove=True),
    "revocation": Share(OWN, add=_GIVEN_BACK),
    "connect_attempt": Share(OWN, ALL, ALL, remove=True),
    "oauth_client": Share(OF_ALL, ALL),  # web apps exchange codes, and need our client secrets for it
    # Credentials are theirs to look after.
    "credential": Share(OWN, ALL, ALL, but("id", "tenant", "created_at")),
    "credential_version": Share(OWN, ALL, ALL, but("credential_id", "version", "tenant")),
    "credential_rotation": Share(OWN, ALL, ALL, ("step", "attempt", "epoch", "next_at")),
    "policy_state": _OF_NOBODY,
    # Keys are wrapped, and made where the first value is sealed; replacing and ending them is for others.
    "tenant_key": Share(OWN, ALL, ALL),
    "tenant_kek": Share(OWN, ALL),
    "data_key": Share(OWN, ALL, ALL),
    "open_audit": _OF_NOBODY,
    # Who asks over HTTP is found by a digest, before anybody knows whose key or ticket it is.
    "api_key": Share(OF_WHOEVER, ALL, NONE, ("last_used_at",)),
    "connect_ticket": Share(OF_WHOEVER, ALL, ALL, remove=True),
    # Users sign in and out.
    "user_sessions": Share(OWN, ALL, ALL, but("id", "tenant", "user_id", "device"), remove=True),
    # What is told.
    "event": Share(OWN, ALL, ("id", "tenant", "type", "fact", "connection_id", "credential_id", "body")),
    "endpoint": Share(OWN, ("id", "tenant", "kind", "state")),  # addresses may hold keys
    "delivery": Share(OF_ENDPOINT, ("event_id", "endpoint_id", "state")),
    "audit": Share(OWN, ALL, _TOLD),
    "audit_link": _KEPT_OUT,
    "audit_head": _KEPT_OUT,
    "audit_start": _KEPT_OUT,
    "audit_cursor": _OF_NOBODY,
    # How things stand.
    "tally": Share(OWN, ALL),
    "tally_change": Share(OWN, ALL),
    "health_sweep": Share(OWN, ALL),
    "worker_sign": _OF_NOBODY,
    # What was moved in.
    "migration_row": _KEPT_OUT,
    "migration_run": _OF_NOBODY,
}
WALLED: Final = tuple(name for name, share in SHARES.items() if share.rows is not None)
"""Tables with rows of tenants: row-level security is enabled on each, by the revision that made it or by 0013."""


def named(columns: Columns, table: tuple[str, ...]) -> tuple[str, ...]:
    """Spell out which columns of a table are meant."""
    if columns == ALL:
        return table
    if columns[:1] == ("-",):
        return tuple(name for name in table if name not in columns[1:])
    return columns
