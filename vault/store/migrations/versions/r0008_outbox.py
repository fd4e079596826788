"""What tenant admins are told, whom it is sent to, and how far it has come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

NOW = sa.text("now()")
PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    """Create the three tables."""
    op.create_table(
        "event",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("fact", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.UUID(), nullable=True),
        sa.Column("credential_id", sa.UUID(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("spread_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema="evergrant",
    )
    op.create_index("event_fact", "event", ["tenant", "fact"], unique=True, schema="evergrant")
    op.create_index("event_by_tenant", "event", ["tenant", "created_at", "id"], schema="evergrant")
    op.create_index("event_by_age", "event", ["created_at"], schema="evergrant")
    told_of = sa.text("connection_id IS NOT NULL")
    op.create_index(
        "event_by_connection", "event", ["connection_id", "created_at"], schema="evergrant", postgresql_where=told_of
    )
    new = sa.text("spread_at IS NULL")
    op.create_index("event_new", "event", ["created_at"], schema="evergrant", postgresql_where=new)
    op.create_table(
        "endpoint",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("types", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema="evergrant",
    )
    op.create_index("endpoint_by_tenant", "endpoint", ["tenant", "id"], schema="evergrant")
    op.create_table(
        "delivery",
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("endpoint_id", sa.UUID(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), server_default=sa.text("to_timestamp(0)"), nullable=False),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["evergrant.event.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["endpoint_id"], ["evergrant.endpoint.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("event_id", "endpoint_id"),
        schema="evergrant",
    )
    op.create_index("delivery_by_endpoint", "delivery", ["endpoint_id", "event_id"], schema="evergrant")
    for index, column in (("delivery_due", "next_at"), ("delivery_leased", "lease_until")):
        op.create_index(index, "delivery", ["endpoint_id", column], schema="evergrant", postgresql_where=PENDING)


def downgrade() -> None:
    """Forget what was told, and whom."""
    for table in ("delivery", "endpoint", "event"):
        op.drop_table(table, schema="evergrant")
