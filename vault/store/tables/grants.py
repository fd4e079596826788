"""Connections and their grants, and whatever is on its way."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from vault.store.tables.base import NEVER_LEASED, SCHEMA, blob, connection_key, instant, metadata, text

connection = sa.Table(
    "connection",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    text("tenant"),
    text("owner"),
    text("provider"),
    text("account", nullable=True),
    text("requested_scopes", default=""),
    text("granted_scopes", default=""),
    sa.Column("labels", JSONB, nullable=False, server_default=sa.text("'{}'")),
    instant("created_at", default=True),
    instant("connected_at", default=True),
    sa.Column("part_of", UUID, sa.ForeignKey(f"{SCHEMA}.connection.id", ondelete="CASCADE")),
    text("grant_name", nullable=True),
    sa.CheckConstraint("(part_of IS NULL) = (grant_name IS NULL)", name="connection_part"),
    sa.Index("connection_by_part", "part_of", postgresql_where=sa.text("part_of IS NOT NULL")),
    sa.Index("connection_by_owner", "tenant", "owner"),
    sa.Index("connection_by_tenant", "tenant", "id"),
    sa.Index("connection_by_age", "tenant", "provider", "connected_at"),
    sa.Index("connection_by_labels", "labels", postgresql_using="gin", postgresql_ops={"labels": "jsonb_path_ops"}),
)

oauth_grant = sa.Table(
    "oauth_grant",
    metadata,
    connection_key(),
    text("tenant"),
    text("status"),
    text("reason", nullable=True),
    sa.Column("consent", sa.Integer, nullable=False, server_default="1"),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=False),
    text("client_id"),
    text("token_type", default="Bearer"),
    instant("expires_at"),
    instant("refreshed_at"),
    instant("stale_at"),
    instant("grant_ends_at", nullable=True),
    blob("refresh_fp", nullable=True),
    blob("access_envelope", nullable=True),
    blob("refresh_envelope", nullable=True),
    sa.Index("oauth_grant_by_key", "data_key_id"),
    sa.Index("oauth_grant_unwell", "status", postgresql_where=sa.text("status <> 'active'")),
    postgresql_with={"fillfactor": "65", "toast_tuple_target": "8160"},
)

connection_metadata = sa.Table(
    "connection_metadata",
    metadata,
    connection_key(),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=False),
    blob("envelope"),
    instant("changed_at", default=True),
    sa.Index("connection_metadata_by_key", "data_key_id"),
)

grant_end = sa.Table(
    "grant_end",
    metadata,
    connection_key(),
    instant("ends_at"),
    sa.Column("look_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("to_timestamp(0)")),
    sa.Index("grant_end_ending", "ends_at"),
    sa.Index("grant_end_looking", "look_at"),
)
"""Consents whose end is known. Triggers on ``oauth_grant`` note an end that is new or comes sooner; one that refreshes
put off stays as it was last seen, so that they pay nothing for it."""

schedule = sa.Table(
    "schedule",
    metadata,
    connection_key(),
    text("client"),
    sa.Column("urgent", sa.Boolean, nullable=False, server_default=sa.text("false")),
    instant("next_at", nullable=True),
    sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False, server_default=NEVER_LEASED),
    sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    blob("intent_fp", nullable=True),
    instant("intent_at", nullable=True),
    sa.Index("schedule_due", "client", "urgent", "next_at"),
    sa.Index("schedule_suspect", "next_at", postgresql_where=sa.text("attempt >= 1")),
    sa.Index("schedule_failing", "next_at", postgresql_where=sa.text("failures > 0 AND next_at IS NOT NULL")),
    postgresql_with={"fillfactor": "70"},
)

candidate = sa.Table(
    "candidate",
    metadata,
    connection_key(),
    sa.Column("refresh_fp", sa.LargeBinary, primary_key=True),
    text("tenant"),
    sa.Column("consent", sa.Integer, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    blob("parent_fp"),
    sa.Column("parent_version", sa.BigInteger, nullable=False),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=False),
    blob("access_envelope"),
    blob("refresh_envelope"),
    text("token_type"),
    text("scopes", nullable=True),
    instant("sent_at"),
    instant("expires_at"),
    instant("next_at"),
    instant("grant_ends_at", nullable=True),
    sa.Column("fragile", sa.Boolean, nullable=False),
    text("recovered_from", nullable=True),
    instant("kept_at", default=True),
)

revocation = sa.Table(
    "revocation",
    metadata,
    sa.Column("id", UUID, primary_key=True, server_default=sa.text("gen_random_uuid()")),
    sa.Column("connection_id", UUID, nullable=False),
    text("tenant"),
    text("owner"),
    text("provider"),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=False),
    blob("refresh_envelope", nullable=True),
    blob("access_envelope", nullable=True),
    text("client_id", nullable=True),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    instant("created_at", default=True),
    sa.Index("revocation_due", "next_at"),
)

connect_attempt = sa.Table(
    "connect_attempt",
    metadata,
    sa.Column("state_digest", sa.LargeBinary, primary_key=True),
    text("tenant"),
    text("owner"),
    text("provider"),
    text("redirect_uri"),
    text("return_to", nullable=True),
    text("scopes"),
    blob("browser_digest", nullable=True),
    sa.Column("connection_id", UUID, nullable=False),
    sa.Column("reconnect", sa.Boolean, nullable=False),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=False),
    blob("verifier_envelope"),
    blob("metadata_envelope", nullable=True),
    sa.Column("labels", JSONB, nullable=False, server_default=sa.text("'{}'")),
    text("client_id", nullable=True),
    instant("expires_at"),
    sa.Index("connect_attempt_expiry", "expires_at"),
)

oauth_client = sa.Table(
    "oauth_client",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    text("provider"),
    sa.Column("generation", sa.Integer, nullable=False),
    text("client_id"),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=False),
    blob("secret_envelope", nullable=True),
    blob("other_envelope", nullable=True),
    instant("created_at", default=True),
    instant("changed_at", default=True),
    sa.Index("oauth_client_by_id", "provider", "client_id", unique=True),
    sa.Index("oauth_client_by_generation", "provider", "generation", unique=True),
)
