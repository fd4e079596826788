"""Keys of programs that ask over HTTP, and tickets of browsers that are about to connect an account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "api_key",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema="evergrant",
    )
    op.create_index("api_key_by_digest", "api_key", ["digest"], unique=True, schema="evergrant")
    op.create_index("api_key_by_tenant", "api_key", ["tenant", "created_at"], schema="evergrant")
    op.create_table(
        "connect_ticket",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("request", JSONB(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        schema="evergrant",
    )
    op.create_index("connect_ticket_expiry", "connect_ticket", ["expires_at"], schema="evergrant")


def downgrade() -> None:
    """Forget every key: whoever has one must get another."""
    for table in ("connect_ticket", "api_key"):
        op.drop_table(table, schema="evergrant")
