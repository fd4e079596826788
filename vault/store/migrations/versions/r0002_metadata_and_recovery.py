"""What an app keeps with a connection, sealed; which trouble a kept answer ends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and make room for what ``begin()`` is given."""
    op.create_table(
        "connection_metadata",
        sa.Column("connection_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("data_key_id", sa.UUID(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["evergrant.connection.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["data_key_id"], ["evergrant.data_key.id"]),
        sa.PrimaryKeyConstraint("connection_id"),
        schema="evergrant",
    )
    op.create_index("connection_metadata_by_key", "connection_metadata", ["data_key_id"], schema="evergrant")
    op.add_column(
        "connect_attempt", sa.Column("metadata_envelope", sa.LargeBinary(), nullable=True), schema="evergrant"
    )
    recovered_from = sa.Column("recovered_from", sa.Text(), nullable=True)
    op.add_column("candidate", recovered_from, schema="evergrant")


def downgrade() -> None:
    """Forget what apps kept."""
    op.drop_column("candidate", "recovered_from", schema="evergrant")
    op.drop_column("connect_attempt", "metadata_envelope", schema="evergrant")
    op.drop_table("connection_metadata", schema="evergrant")
