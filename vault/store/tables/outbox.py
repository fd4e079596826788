"""What tenants are told, whom, and how far that has come."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

from vault.store.tables.base import NEVER_LEASED, SCHEMA, instant, metadata, text

event = sa.Table(
    "event",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    text("tenant"),
    text("type"),
    text("fact"),
    sa.Column("connection_id", UUID, nullable=True),  # no foreign key: events are kept, and go, by themselves
    sa.Column("credential_id", UUID, nullable=True),
    text("body"),
    instant("created_at", default=True),
    instant("spread_at", nullable=True),
    sa.Index("event_fact", "tenant", "fact", unique=True),
    sa.Index("event_by_tenant", "tenant", "created_at", "id"),
    sa.Index("event_by_age", "created_at"),
    sa.Index(
        "event_by_connection", "connection_id", "created_at", postgresql_where=sa.text("connection_id IS NOT NULL")
    ),
    sa.Index("event_new", "created_at", postgresql_where=sa.text("spread_at IS NULL")),
)

endpoint = sa.Table(
    "endpoint",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    text("tenant"),
    text("kind"),
    text("url"),
    sa.Column("types", sa.ARRAY(sa.Text), nullable=False),
    text("state"),
    text("reason", nullable=True),
    instant("created_at", default=True),
    sa.Index("endpoint_by_tenant", "tenant", "id"),
)
"""What a webhook is signed with is the credential that has the endpoint's id."""

delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("event_id", UUID, sa.ForeignKey(f"{SCHEMA}.event.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("endpoint_id", UUID, sa.ForeignKey(f"{SCHEMA}.endpoint.id", ondelete="CASCADE"), primary_key=True),
    text("state"),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False, server_default=NEVER_LEASED),
    sa.Column("last_status", sa.Integer, nullable=True),
    text("last_error", nullable=True),
    sa.Index("delivery_by_endpoint", "endpoint_id", "event_id"),
    sa.Index("delivery_due", "endpoint_id", "next_at", postgresql_where=sa.text("state = 'pending'")),
    sa.Index("delivery_leased", "endpoint_id", "lease_until", postgresql_where=sa.text("state = 'pending'")),
)
