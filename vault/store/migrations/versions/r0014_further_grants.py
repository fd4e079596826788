"""Further grants: connections that go with another, as Slack's user goes with its bot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns that are empty for every connection there is: no row is written, or read for long."""
    op.add_column("connection", sa.Column("part_of", sa.UUID(), nullable=True), schema="evergrant")
    op.add_column("connection", sa.Column("grant_name", sa.Text(), nullable=True), schema="evergrant")
    op.create_check_constraint(
        "connection_part", "connection", "(part_of IS NULL) = (grant_name IS NULL)", schema="evergrant"
    )
    op.create_foreign_key(
        "connection_part_of_fkey",
        "connection",
        "connection",
        ["part_of"],
        ["id"],
        source_schema="evergrant",
        referent_schema="evergrant",
        ondelete="CASCADE",
    )
    op.create_index(
        "connection_by_part",
        "connection",
        ["part_of"],
        schema="evergrant",
        postgresql_where=sa.text("part_of IS NOT NULL"),
    )


def downgrade() -> None:
    """Take the columns away; what went with another connection stands by itself then."""
    op.drop_index("connection_by_part", "connection", schema="evergrant")
    for name in ("part_of", "grant_name"):
        op.drop_column("connection", name, schema="evergrant")
