"""The tables, in the PostgreSQL schema ``evergrant``.

The hot row, ``oauth_grant``, holds what ``get()`` needs and changes at every refresh: nothing indexed in it changes
then, so updates stay HOT, and its values stay inline instead of in TOAST (docs/performance.md). When a grant is
due lies in the narrow ``schedule`` beside it.
"""

from vault.store.tables.audit import audit, audit_cursor, audit_head, audit_link, audit_start
from vault.store.tables.base import NEVER_LEASED, SCHEMA, Xid8, metadata
from vault.store.tables.callers import api_key, connect_ticket
from vault.store.tables.credentials import credential, credential_rotation, credential_version, policy_state
from vault.store.tables.grants import (
    candidate,
    connect_attempt,
    connection,
    connection_metadata,
    grant_end,
    oauth_client,
    oauth_grant,
    revocation,
    schedule,
)
from vault.store.tables.keys import data_key, open_audit, tenant_kek, tenant_key
from vault.store.tables.migrations import migration_row, migration_run
from vault.store.tables.outbox import delivery, endpoint, event
from vault.store.tables.sessions import user_sessions
from vault.store.tables.standing import health_sweep, tally, tally_change, worker_sign

__all__ = [
    "NEVER_LEASED",
    "SCHEMA",
    "Xid8",
    "api_key",
    "audit",
    "audit_cursor",
    "audit_head",
    "audit_link",
    "audit_start",
    "candidate",
    "connect_attempt",
    "connect_ticket",
    "connection",
    "connection_metadata",
    "credential",
    "credential_rotation",
    "credential_version",
    "data_key",
    "delivery",
    "endpoint",
    "event",
    "grant_end",
    "health_sweep",
    "metadata",
    "migration_row",
    "migration_run",
    "oauth_client",
    "oauth_grant",
    "open_audit",
    "policy_state",
    "revocation",
    "schedule",
    "tally",
    "tally_change",
    "tenant_kek",
    "tenant_key",
    "user_sessions",
    "worker_sign",
]
