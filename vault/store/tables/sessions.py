"""Sessions of the user's own service."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

from vault.store.tables.base import SCHEMA, blob, instant, metadata, text

user_sessions = sa.Table(
    "user_sessions",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    text("tenant"),
    text("user_id"),
    text("device", default=""),
    text("subscription"),
    text("scopes", default=""),
    blob("token_fp"),
    blob("token_hash"),
    sa.Column("version", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("data_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.data_key.id"), nullable=True),
    blob("metadata_envelope", nullable=True),
    instant("created_at", default=True),
    instant("changed_at", default=True),
    instant("expires_at"),
    instant("revoked_at", nullable=True),
    sa.CheckConstraint("subscription IN ('free', 'plus', 'pro')", name="user_sessions_subscription"),
    sa.Index("user_sessions_of_user", "tenant", "user_id", "device", unique=True),
    sa.Index("user_sessions_by_token", "tenant", "token_fp", unique=True),
    sa.Index("user_sessions_by_tenant", "tenant", "id"),
    sa.Index("user_sessions_ending", "expires_at"),
    sa.Index("user_sessions_revoked", "revoked_at", postgresql_where=sa.text("revoked_at IS NOT NULL")),
    sa.Index("user_sessions_by_key", "data_key_id", postgresql_where=sa.text("data_key_id IS NOT NULL")),
)
"""A row is found by the keyed fingerprint of its token. ``version`` is that of the metadata, and the envelope is bound
to it. Of a token nothing is kept but what bcrypt made of its HMAC."""
