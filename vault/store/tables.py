"""The tables, in the PostgreSQL schema ``evergrant``.

The hot row, ``oauth_grant``, holds what ``get()`` needs and changes at every refresh: nothing indexed in it changes
then, so updates stay HOT, and its values stay inline instead of in TOAST (docs/performance.md). When a grant is
due lies in the narrow ``schedule`` beside it.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

SCHEMA = "evergrant"
metadata = sa.MetaData(schema=SCHEMA)

NEVER_LEASED = sa.text("to_timestamp(0)")
"""Lease end of a row in nobody's hands: comparable, and representable in every client."""


def _instant(name: str, *, nullable: bool = False, default: bool = False) -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), nullable=nullable, server_default=sa.text("now()") if default else None
    )


def _bytes(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.LargeBinary, nullable=nullable)


def _text(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.Text, nullable=nullable, server_default=default)


def _connection_id() -> sa.Column[object]:
    return sa.Column(
        "connection_id", UUID, sa.ForeignKey(f"{SCHEMA}.connection.id", ondelete="CASCADE"), primary_key=True
    )


tenant_key = sa.Table(
    "tenant_key",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    _text("tenant"),
    _text("state"),
    _text("kek_id"),
    _text("algorithm"),
    _bytes("wrapped"),
    _instant("created_at", default=True),
    _instant("rewrapped_at", nullable=True),
    _instant("replaced_at", nullable=True),
    _instant("retired_at", nullable=True),
    sa.Index("tenant_key_current", "tenant", unique=True, postgresql_where=sa.text("state = 'current'")),
    sa.Index("tenant_key_by_kek", "kek_id"),
)

tenant_kek = sa.Table(
    "tenant_kek",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    _text("uri", nullable=True),
    sa.Column("former_uris", sa.ARRAY(sa.Text), nullable=False),
    _instant("changed_at", default=True),
)

data_key = sa.Table(
    "data_key",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    _text("tenant"),
    _text("owner"),
    _text("provider"),
    _text("purpose"),
    _text("state"),
    sa.Column("tenant_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.tenant_key.id"), nullable=False),
    _bytes("wrapped"),
    _instant("created_at", default=True),
    _instant("replaced_at", nullable=True),
    _instant("retired_at", nullable=True),
    sa.Index(
        "data_key_current",
        "tenant",
        "owner",
        "provider",
        "purpose",
        unique=True,
        postgresql_where=sa.text("state = 'current'"),
    ),
    sa.Index("data_key_by_age", "created_at", postgresql_where=sa.text("state = 'current' AND purpose = 'grant'")),
    sa.Index("data_key_replaced", "id", postgresql_where=sa.text("state = 'previous'")),
    sa.Index("data_key_by_tenant_key", "tenant_key_id", "id"),
    sa.Index("data_key_retired", "retired_at", postgresql_where=sa.text("state = 'retired'")),
)

open_audit = sa.Table(
    "open_audit",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _instant("started_at"),
    sa.Column("opened", sa.BigInteger, nullable=False),
    sa.Column("cannot_open", sa.BigInteger, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False),
)

connection = sa.Table(
    "connection",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    _text("tenant"),
    _text("owner"),
    _text("provider"),
    _text("account", nullable=True),
    _text("requested_scopes", default=""),
    _text("granted_scopes", default=""),
    sa.Column("labels", JSONB, nullable=False, server_default=sa.text("'{}'")),
    _instant("created_at", default=True),
    _instant("connected_at", default=True),
    sa.Index("connection_by_owner", "tenant", "owner"),
    sa.Index("connection_by_tenant", "tenant", "id"),
)

oauth_grant = sa.Table(
    "oauth_grant",
    metadata,
    _connection_id(),
    _text("tenant"),
    _text("status"),
    _text("reason", nullable=True),
    sa.Column("consent", sa.Integer, nullable=False, server_default="1"),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=False),
    _text("client_id"),
    _text("token_type", default="Bearer"),
    _instant("expires_at"),
    _instant("refreshed_at"),
    _instant("stale_at"),
    _instant("grant_ends_at", nullable=True),
    _bytes("refresh_fp", nullable=True),
    _bytes("access_envelope", nullable=True),
    _bytes("refresh_envelope", nullable=True),
    sa.Index("oauth_grant_by_key", "data_key_id"),
    sa.Index("oauth_grant_unwell", "status", postgresql_where=sa.text("status <> 'active'")),
    postgresql_with={"fillfactor": "65", "toast_tuple_target": "8160"},
)

oauth_client = sa.Table(
    "oauth_client",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    _text("provider"),
    sa.Column("generation", sa.Integer, nullable=False),
    _text("client_id"),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=False),
    _bytes("secret_envelope", nullable=True),
    _bytes("other_envelope", nullable=True),
    _instant("created_at", default=True),
    _instant("changed_at", default=True),
    sa.Index("oauth_client_by_id", "provider", "client_id", unique=True),
    sa.Index("oauth_client_by_generation", "provider", "generation", unique=True),
)

connection_metadata = sa.Table(
    "connection_metadata",
    metadata,
    _connection_id(),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=False),
    _bytes("envelope"),
    _instant("changed_at", default=True),
    sa.Index("connection_metadata_by_key", "data_key_id"),
)

schedule = sa.Table(
    "schedule",
    metadata,
    _connection_id(),
    _text("client"),
    sa.Column("urgent", sa.Boolean, nullable=False, server_default=sa.text("false")),
    _instant("next_at", nullable=True),
    sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False, server_default=NEVER_LEASED),
    sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    _bytes("intent_fp", nullable=True),
    _instant("intent_at", nullable=True),
    sa.Index("schedule_due", "client", "urgent", "next_at"),
    sa.Index("schedule_suspect", "next_at", postgresql_where=sa.text("attempt >= 1")),
    postgresql_with={"fillfactor": "70"},
)

candidate = sa.Table(
    "candidate",
    metadata,
    _connection_id(),
    sa.Column("refresh_fp", sa.LargeBinary, primary_key=True),
    _text("tenant"),
    sa.Column("consent", sa.Integer, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    _bytes("parent_fp"),
    sa.Column("parent_version", sa.BigInteger, nullable=False),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=False),
    _bytes("access_envelope"),
    _bytes("refresh_envelope"),
    _text("token_type"),
    _text("scopes", nullable=True),
    _instant("sent_at"),
    _instant("expires_at"),
    _instant("next_at"),
    _instant("grant_ends_at", nullable=True),
    sa.Column("fragile", sa.Boolean, nullable=False),
    _text("recovered_from", nullable=True),
    _instant("kept_at", default=True),
)

revocation = sa.Table(
    "revocation",
    metadata,
    sa.Column("id", UUID, primary_key=True, server_default=sa.text("gen_random_uuid()")),
    sa.Column("connection_id", UUID, nullable=False),
    _text("tenant"),
    _text("owner"),
    _text("provider"),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=False),
    _bytes("refresh_envelope"),
    _text("client_id", nullable=True),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    _instant("created_at", default=True),
    sa.Index("revocation_due", "next_at"),
)

connect_attempt = sa.Table(
    "connect_attempt",
    metadata,
    sa.Column("state_digest", sa.LargeBinary, primary_key=True),
    _text("tenant"),
    _text("owner"),
    _text("provider"),
    _text("redirect_uri"),
    _text("return_to", nullable=True),
    _text("scopes"),
    _bytes("browser_digest", nullable=True),
    sa.Column("connection_id", UUID, nullable=False),
    sa.Column("reconnect", sa.Boolean, nullable=False),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=False),
    _bytes("verifier_envelope"),
    _bytes("metadata_envelope", nullable=True),
    sa.Column("labels", JSONB, nullable=False, server_default=sa.text("'{}'")),
    _text("client_id", nullable=True),
    _instant("expires_at"),
    sa.Index("connect_attempt_expiry", "expires_at"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")),
    _text("tenant"),
    _text("event"),
    sa.Column("connection_id", UUID, nullable=True),
    sa.Column("detail", JSONB, nullable=False, server_default=sa.text("'{}'")),
    sa.Index("audit_by_connection", "connection_id", "id"),
)

migration_row = sa.Table(
    "migration_row",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    _text("tenant"),
    sa.Column("connection_id", UUID, nullable=False),  # no foreign key: what an owner had erased is not moved again
    _bytes("kept_fp"),
    _bytes("token_fp"),
    _instant("at", default=True),
    sa.Index("migration_row_by_connection", "connection_id"),
)

migration_run = sa.Table(
    "migration_run",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    _text("cursor", nullable=True),
    sa.Column("counts", JSONB, nullable=False, server_default=sa.text("'{}'")),
    _instant("began_at", default=True),
    _instant("changed_at", default=True),
)

credential = sa.Table(
    "credential",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    _text("tenant"),
    _text("owner"),
    _text("provider"),
    sa.Column("connection_id", UUID, nullable=True),  # no foreign key: it may serve longer than the connection lives
    _text("kind"),
    _text("name"),
    sa.Column("tags", JSONB, nullable=False, server_default=sa.text("'{}'")),
    sa.Column("policy", JSONB, nullable=False, server_default=sa.text("'{}'")),
    _text("state"),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("latest", sa.BigInteger, nullable=False),
    sa.Column("facts", JSONB, nullable=False, server_default=sa.text("'{}'")),
    _instant("created_at", default=True),
    _instant("rotated_at", default=True),
    _instant("expires_at", nullable=True),
    _instant("rotate_at", nullable=True),
    _instant("warn_at", nullable=True),
    _text("rotator", default=""),
    _instant("deleted_at", nullable=True),
    _instant("purge_at", nullable=True),
    sa.Index("credential_by_tenant", "tenant", "id"),
    sa.Index("credential_by_connection", "connection_id", postgresql_where=sa.text("connection_id IS NOT NULL")),
    sa.Index("credential_by_owner", "tenant", "owner"),
    sa.Index("credential_by_tags", "tags", postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}),
    sa.Index("credential_expiring", "expires_at", postgresql_where=sa.text("state = 'active'")),
    sa.Index("credential_aged", "rotate_at", postgresql_where=sa.text("state = 'active'")),
    sa.Index("credential_rotating", "rotate_at", postgresql_where=sa.text("state = 'active' AND rotator <> ''")),
    sa.Index("credential_warning", "warn_at", postgresql_where=sa.text("state = 'active'")),
    sa.Index("credential_purging", "purge_at", postgresql_where=sa.text("state = 'deleted'")),
)

credential_version = sa.Table(
    "credential_version",
    metadata,
    sa.Column("credential_id", UUID, sa.ForeignKey(f"{SCHEMA}.credential.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    _text("tenant"),
    _text("stage"),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=True),
    _bytes("envelope", nullable=True),
    _bytes("fp", nullable=True),
    sa.Column("facts", JSONB, nullable=False, server_default=sa.text("'{}'")),
    _instant("expires_at", nullable=True),
    _instant("created_at", default=True),
    _instant("current_at", nullable=True),
    _instant("replaced_at", nullable=True),
    _instant("serves_until", nullable=True),
    sa.Index("credential_version_by_key", "data_key_id"),
)

credential_rotation = sa.Table(
    "credential_rotation",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    _text("tenant"),
    sa.Column("credential_id", UUID, sa.ForeignKey(f"{SCHEMA}.credential.id", ondelete="CASCADE"), nullable=False),
    _text("rotator"),
    sa.Column("from_version", sa.BigInteger, nullable=False),
    sa.Column("to_version", sa.BigInteger, nullable=True),
    _text("step"),
    sa.Column("overlap", sa.Interval, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    _text("reason", default=""),
    _instant("next_at", default=True),
    sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False, server_default=NEVER_LEASED),
    _instant("begun_at", default=True),
    _instant("ended_at", nullable=True),
    sa.Index("credential_rotation_due", "next_at", postgresql_where=sa.text("ended_at IS NULL")),
    sa.Index("credential_rotation_of", "credential_id"),
    sa.Index(
        "credential_rotation_making",
        "credential_id",
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL AND step NOT IN ('retire', 'undo')"),
    ),
)
