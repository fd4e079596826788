"""What was done, and the chain that it is linked in."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from vault.store.tables.base import Xid8, blob, instant, metadata, text

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")),
    text("tenant"),
    text("event"),
    sa.Column("connection_id", UUID, nullable=True),
    sa.Column("detail", JSONB, nullable=False, server_default=sa.text("'{}'")),
    sa.Column("xid", Xid8, nullable=False, server_default=sa.text("pg_current_xact_id()")),
    sa.Index("audit_by_connection", "connection_id", "id"),
    sa.Index("audit_by_transaction", "xid", "id"),
)

audit_link = sa.Table(
    "audit_link",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("audit_id", sa.BigInteger, nullable=False),
    blob("digest"),
    sa.Index("audit_link_by_row", "audit_id", unique=True),
)

audit_head, audit_start = (
    sa.Table(
        name,
        metadata,
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        blob("digest"),
        instant("at", default=True),
    )
    for name in ("audit_head", "audit_start")
)
"""Where each tenant's chain ends, and where it begins: the last link that was forgotten."""

audit_cursor = sa.Table(
    "audit_cursor",
    metadata,
    sa.Column("singleton", sa.Boolean, primary_key=True, server_default=sa.text("true")),
    text("place", nullable=True),
    sa.Column("xid", Xid8, nullable=False, server_default=sa.text("'0'")),
    sa.Column("id", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("resume_xid", Xid8, nullable=True),
)
