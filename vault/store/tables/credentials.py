"""Credentials that are no grant's, every version of their values, and their rotations."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from vault.store.tables.base import NEVER_LEASED, SCHEMA, blob, instant, metadata, text

credential = sa.Table(
    "credential",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    text("tenant"),
    text("owner"),
    text("provider"),
    sa.Column("connection_id", UUID, nullable=True),  # no foreign key: it may serve longer than the connection lives
    text("kind"),
    text("name"),
    sa.Column("tags", JSONB, nullable=False, server_default=sa.text("'{}'")),
    sa.Column("policy", JSONB, nullable=False, server_default=sa.text("'{}'")),
    text("state"),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("latest", sa.BigInteger, nullable=False),
    sa.Column("facts", JSONB, nullable=False, server_default=sa.text("'{}'")),
    instant("created_at", default=True),
    instant("rotated_at", default=True),
    instant("expires_at", nullable=True),
    instant("rotate_at", nullable=True),
    instant("warn_at", nullable=True),
    text("rotator", default=""),
    instant("deleted_at", nullable=True),
    instant("purge_at", nullable=True),
    sa.Index("credential_by_tenant", "tenant", "id"),
    sa.Index("credential_by_connection", "connection_id", postgresql_where=sa.text("connection_id IS NOT NULL")),
    sa.Index("credential_by_owner", "tenant", "owner"),
    sa.Index("credential_by_tags", "tags", postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}),
    sa.Index("credential_expiring", "expires_at", postgresql_where=sa.text("state = 'active'")),
    sa.Index("credential_aged", "rotate_at", postgresql_where=sa.text("state = 'active'")),
    sa.Index("credential_rotating", "rotate_at", postgresql_where=sa.text("state = 'active' AND rotator <> ''")),
    sa.Index(
        *("credential_expiring_of", "tenant", "expires_at"),
        postgresql_where=sa.text("state = 'active' AND expires_at IS NOT NULL"),
    ),
    sa.Index(
        *("credential_aged_of", "tenant", "rotate_at"),
        postgresql_where=sa.text("state = 'active' AND rotate_at IS NOT NULL"),
    ),
    sa.Index("credential_warning", "warn_at", postgresql_where=sa.text("state = 'active'")),
    sa.Index("credential_purging", "purge_at", postgresql_where=sa.text("state = 'deleted'")),
)

policy_state = sa.Table(
    "policy_state",
    metadata,
    sa.Column("singleton", sa.Boolean, primary_key=True, server_default=sa.text("true")),
    blob("digest"),
    sa.Column("place", UUID, nullable=True),
    instant("begun_at", default=True),
    sa.CheckConstraint("singleton", name="policy_state_singleton_check"),
)
"""By which policies credentials are dated, and up to which one; no place: all are."""

credential_version = sa.Table(
    "credential_version",
    metadata,
    sa.Column("credential_id", UUID, sa.ForeignKey(f"{SCHEMA}.credential.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    text("tenant"),
    text("stage"),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=True),
    blob("envelope", nullable=True),
    blob("fp", nullable=True),
    sa.Column("facts", JSONB, nullable=False, server_default=sa.text("'{}'")),
    instant("expires_at", nullable=True),
    instant("created_at", default=True),
    instant("current_at", nullable=True),
    instant("replaced_at", nullable=True),
    instant("serves_until", nullable=True),
    sa.Index("credential_version_by_key", "data_key_id"),
)

credential_rotation = sa.Table(
    "credential_rotation",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    text("tenant"),
    sa.Column("credential_id", UUID, sa.ForeignKey(f"{SCHEMA}.credential.id", ondelete="CASCADE"), nullable=False),
    text("rotator"),
    sa.Column("from_version", sa.BigInteger, nullable=False),
    sa.Column("to_version", sa.BigInteger, nullable=True),
    text("step"),
    sa.Column("overlap", sa.Interval, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    text("reason", default=""),
    instant("next_at", default=True),
    sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False, server_default=NEVER_LEASED),
    instant("begun_at", default=True),
    instant("ended_at", nullable=True),
    sa.Index("credential_rotation_due", "next_at", postgresql_where=sa.text("ended_at IS NULL")),
    sa.Index("credential_rotation_of", "credential_id"),
    sa.Index("credential_rotation_ended", "ended_at", postgresql_where=sa.text("ended_at IS NOT NULL")),
    sa.Index(
        "credential_rotation_making",
        "credential_id",
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL AND step NOT IN ('retire', 'undo')"),
    ),
)
