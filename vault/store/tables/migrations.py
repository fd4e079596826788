"""What was moved out of other systems."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from vault.store.tables.base import blob, instant, metadata, text

migration_row = sa.Table(
    "migration_row",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    text("tenant"),
    sa.Column("connection_id", UUID, nullable=False),  # no foreign key: what an owner had erased is not moved again
    blob("kept_fp"),
    blob("token_fp"),
    instant("at", default=True),
    sa.Index("migration_row_by_connection", "connection_id"),
)

migration_run = sa.Table(
    "migration_run",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    text("cursor", nullable=True),
    sa.Column("counts", JSONB, nullable=False, server_default=sa.text("'{}'")),
    instant("began_at", default=True),
    instant("changed_at", default=True),
)
