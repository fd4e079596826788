"""Tenants' own KEKs; which data keys a tenant key wraps; when keys were used last; open audits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, the columns and the indexes."""
    op.create_table(
        "tenant_kek",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=True),
        sa.Column("former_uris", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant"),
        schema="evergrant",
    )
    op.create_table(
        "open_audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("cannot_open", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema="evergrant",
    )
    for table, column in (("tenant_key", "replaced_at"), ("tenant_key", "retired_at"), ("data_key", "retired_at")):
        op.add_column(table, sa.Column(column, sa.DateTime(timezone=True), nullable=True), schema="evergrant")
    op.execute("UPDATE evergrant.data_key SET retired_at = now() WHERE state = 'retired'")
    op.create_index("data_key_by_tenant_key", "data_key", ["tenant_key_id", "id"], schema="evergrant")
    retired = sa.text("state = 'retired'")
    op.create_index("data_key_retired", "data_key", ["retired_at"], schema="evergrant", postgresql_where=retired)


def downgrade() -> None:
    """Forget what tenants brought."""
    op.drop_index("data_key_retired", "data_key", schema="evergrant")
    op.drop_index("data_key_by_tenant_key", "data_key", schema="evergrant")
    for table, column in (("data_key", "retired_at"), ("tenant_key", "retired_at"), ("tenant_key", "replaced_at")):
        op.drop_column(table, column, schema="evergrant")
    op.drop_table("open_audit", schema="evergrant")
    op.drop_table("tenant_kek", schema="evergrant")
