"""Our registrations at providers, sealed; which of them revocations and flows belong to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and the columns."""
    op.create_table(
        "oauth_client",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("data_key_id", sa.UUID(), nullable=False),
        sa.Column("secret_envelope", sa.LargeBinary(), nullable=True),
        sa.Column("other_envelope", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["data_key_id"], ["evergrant.data_key.id"]),
        sa.PrimaryKeyConstraint("id"),
        schema="evergrant",
    )
    for index, column in (("oauth_client_by_id", "client_id"), ("oauth_client_by_generation", "generation")):
        op.create_index(index, "oauth_client", ["provider", column], unique=True, schema="evergrant")
    for table in ("revocation", "connect_attempt"):
        op.add_column(table, sa.Column("client_id", sa.Text(), nullable=True), schema="evergrant")
    # Revocations that wait are of the client that got the consent, which the grant still names.
    op.execute(
        "UPDATE evergrant.revocation r SET client_id = g.client_id FROM evergrant.oauth_grant g"
        " WHERE g.connection_id = r.connection_id"
    )


def downgrade() -> None:
    """Forget the registrations: they are to be in the environment before."""
    for table in ("connect_attempt", "revocation"):
        op.drop_column(table, "client_id", schema="evergrant")
    op.drop_table("oauth_client", schema="evergrant")
