"""Which rows of other systems have become connections, and how far runs of workers have come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the two tables."""
    op.create_table(
        "migration_row",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.UUID(), nullable=False),
        sa.Column("kept_fp", sa.LargeBinary(), nullable=False),
        sa.Column("token_fp", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("source", "key"),
        schema="evergrant",
    )
    op.create_index("migration_row_by_connection", "migration_row", ["connection_id"], schema="evergrant")
    op.create_table(
        "migration_run",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.Column("counts", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        schema="evergrant",
    )


def downgrade() -> None:
    """Forget what was moved; the connections stay."""
    op.drop_table("migration_run", schema="evergrant")
    op.drop_table("migration_row", schema="evergrant")
