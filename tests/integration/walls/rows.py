"""A row of every table for a tenant, put there by the owner."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg

from vault.store.shares import WALLED

OF_THE_SYSTEM = ("oauth_client",)
"""Tables whose rows are no tenant's."""
_ROWS = {
    "tenant_key": "(id, tenant, state, kek_id, algorithm, wrapped) VALUES (%(key)s, %(t)s, 'current', 'k', 'a', 'w')",
    "tenant_kek": "(tenant, former_uris) VALUES (%(t)s, '{}')",
    "data_key": "(id, tenant, owner, provider, purpose, state, tenant_key_id, wrapped)"
    " VALUES (%(dek)s, %(t)s, 'o', 'acme', 'grant', 'current', %(key)s, 'w')",
    "connection": "(id, tenant, owner, provider) VALUES (%(id)s, %(t)s, 'o', 'acme')",
    "oauth_grant": "(connection_id, tenant, status, version, data_key_id, client_id, expires_at, refreshed_at,"
    " stale_at, grant_ends_at, refresh_fp, access_envelope, refresh_envelope)"
    " VALUES (%(id)s, %(t)s, 'active', 1, %(dek)s, 'c', now() + interval '1 day', now(), now() + interval '1 hour',"
    " now() + interval '1 year', 'f', 'access', 'REFRESH')",
    "schedule": "(connection_id, client, next_at) VALUES (%(id)s, 'acme', now())",
    "connection_metadata": "(connection_id, version, data_key_id, envelope) VALUES (%(id)s, 1, %(dek)s, 'm')",
    "candidate": "(connection_id, refresh_fp, tenant, consent, epoch, parent_fp, parent_version, data_key_id,"
    " access_envelope, refresh_envelope, token_type, sent_at, expires_at, next_at, fragile) VALUES (%(id)s, 'x', %(t)s,"
    " 1, 1, 'f', 1, %(dek)s, 'access', 'REFRESH', 'Bearer', now(), now(), now(), false)",
    "revocation": "(connection_id, tenant, owner, provider, version, data_key_id, refresh_envelope)"
    " VALUES (%(id)s, %(t)s, 'o', 'acme', 1, %(dek)s, 'REFRESH')",
    "connect_attempt": "(state_digest, tenant, owner, provider, redirect_uri, scopes, connection_id, reconnect,"
    " data_key_id, verifier_envelope, expires_at) VALUES (convert_to(%(t)s, 'UTF8'), %(t)s, 'o', 'acme', 'u', '',"
    " %(id)s, false, %(dek)s, 'v', now() + interval '1 hour')",
    "credential": "(id, tenant, owner, provider, kind, name, state, version, latest)"
    " VALUES (%(id)s, %(t)s, 'o', 'acme', 'api_key', '', 'active', 1, 1)",
    "credential_version": "(credential_id, version, tenant, stage, data_key_id, envelope)"
    " VALUES (%(id)s, 1, %(t)s, 'current', %(dek)s, 'v')",
    "credential_rotation": "(id, tenant, credential_id, rotator, from_version, step, overlap, next_at)"
    " VALUES (%(id)s, %(t)s, %(id)s, 'r', 1, 'create', '0', now())",
    "user_sessions": "(id, tenant, user_id, subscription, token_fp, token_hash, data_key_id, expires_at)"
    " VALUES (%(id)s, %(t)s, 'u', 'free', convert_to(%(t)s, 'UTF8'), 'h', %(dek)s, now() + interval '1 day')",
    "api_key": "(id, tenant, name, scopes, digest) VALUES (%(id)s, %(t)s, 'k', '{}', convert_to(%(t)s, 'UTF8'))",
    "connect_ticket": "(digest, tenant, provider, request, expires_at)"
    " VALUES (convert_to(%(t)s, 'UTF8'), %(t)s, 'acme', '{}', now() + interval '1 hour')",
    "event": "(id, tenant, type, fact, body) VALUES (%(id)s, %(t)s, 'ping', 'f', '{}')",
    "endpoint": "(id, tenant, kind, url, types, state) VALUES (%(id)s, %(t)s, 'webhook', 'https://x', '{}', 'active')",
    "delivery": "(event_id, endpoint_id, state) VALUES (%(id)s, %(id)s, 'pending')",
    "health_sweep": "(tenant) VALUES (%(t)s)",
    "migration_row": "(source, key, tenant, connection_id, kept_fp, token_fp)"
    " VALUES ('s', %(t)s, %(t)s, %(id)s, 'k', 't')",
    "audit": "(tenant, event) VALUES (%(t)s, 'x')",
    "audit_link": "VALUES (%(t)s, 1, hashtext(%(t)s), 'd')",
    "audit_head": "(tenant, seq, digest) VALUES (%(t)s, 1, 'd')",
    "audit_start": "(tenant, seq, digest) VALUES (%(t)s, 0, 'd')",
    "tally": "VALUES (%(t)s, 'connection', 'acme', 'oauth', 'active', 1)",
}
_OF_THE_SYSTEM = {
    "oauth_client": "(id, provider, generation, client_id, version, data_key_id, secret_envelope)"
    " VALUES (gen_random_uuid(), 'acme', 1, 'c', 1, %(dek)s, 'SECRET')"
}
BY_TRIGGERS = ("grant_end", "tally_change")


def put_in(session: psycopg.Connection[Any], tenant: str) -> dict[str, Any]:
    """Put a row of each table there; returns the ids they have."""
    given = {"t": tenant, **{name: uuid4() for name in ("id", "key", "dek")}}
    for table, row in _ROWS.items():
        session.execute(f"INSERT INTO evergrant.{table} {row}".encode(), given)
    return given


def put_in_of_the_system(session: psycopg.Connection[Any]) -> None:
    """Put a row there of each table whose rows are no tenant's."""
    given = put_in(session, "*")
    for table, row in _OF_THE_SYSTEM.items():
        session.execute(f"INSERT INTO evergrant.{table} {row}".encode(), given)


assert {*_ROWS, *_OF_THE_SYSTEM, *BY_TRIGGERS} == set(WALLED), "a new table needs a row here, to be tried at the wall"
