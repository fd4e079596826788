"""Keys of programs that ask over HTTP, and tickets of browsers that are about to connect an account."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from vault.store.tables.base import blob, instant, metadata, text

api_key = sa.Table(
    "api_key",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    text("tenant"),
    text("name"),
    blob("digest"),
    sa.Column("scopes", sa.ARRAY(sa.Text), nullable=False),
    instant("created_at", default=True),
    instant("expires_at", nullable=True),
    instant("revoked_at", nullable=True),
    instant("last_used_at", nullable=True),
    sa.Index("api_key_by_digest", "digest", unique=True),
    sa.Index("api_key_by_tenant", "tenant", "created_at"),
)

connect_ticket = sa.Table(
    "connect_ticket",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    text("tenant"),
    text("provider"),
    sa.Column("request", JSONB, nullable=False),
    instant("expires_at"),
    sa.Index("connect_ticket_expiry", "expires_at"),
)
