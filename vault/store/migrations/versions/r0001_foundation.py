"""The first tables: keys, connections, grants, schedule, candidates, revocations, connect attempts, audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INLINE = ("oauth_grant", "candidate")
"""Tables whose envelopes are stored without compression, which gains nothing on ciphertext, and inline."""


def upgrade() -> None:
    """Create the tables; the storage of sealed values is set before the first row comes."""
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.UUID(), nullable=True),
        sa.Column("detail", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema="evergrant",
    )
    op.create_index("audit_by_connection", "audit", ["connection_id", "id"], unique=False, schema="evergrant")
    op.create_table(
        "connection",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("requested_scopes", sa.Text(), server_default="", nullable=False),
        sa.Column("granted_scopes", sa.Text(), server_default="", nullable=False),
        sa.Column("labels", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("connected_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema="evergrant",
    )
    op.create_index("connection_by_owner", "connection", ["tenant", "owner"], unique=False, schema="evergrant")
    op.create_index("connection_by_tenant", "connection", ["tenant", "id"], unique=False, schema="evergrant")
    op.create_table(
        "tenant_key",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("kek_id", sa.Text(), nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("rewrapped_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema="evergrant",
    )
    op.create_index("tenant_key_by_kek", "tenant_key", ["kek_id"], unique=False, schema="evergrant")
    op.create_index(
        "tenant_key_current",
        "tenant_key",
        ["tenant"],
        unique=True,
        schema="evergrant",
        postgresql_where=sa.text("state = 'current'"),
    )
    op.create_table(
        "data_key",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tenant_key_id", sa.UUID(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_key_id"],
            ["evergrant.tenant_key.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        schema="evergrant",
    )
    op.create_index(
        "data_key_by_age",
        "data_key",
        ["created_at"],
        unique=False,
        schema="evergrant",
        postgresql_where=sa.text("state = 'current' AND purpose = 'grant'"),
    )
    op.create_index(
        "data_key_current",
        "data_key",
        ["tenant", "owner", "provider", "purpose"],
        unique=True,
        schema="evergrant",
        postgresql_where=sa.text("state = 'current'"),
    )
    op.create_index(
        "data_key_replaced",
        "data_key",
        ["id"],
        unique=False,
        schema="evergrant",
        postgresql_where=sa.text("state = 'previous'"),
    )
    op.create_table(
        "schedule",
        sa.Column("connection_id", sa.UUID(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("urgent", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), server_default=sa.text("to_timestamp(0)"), nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("intent_fp", sa.LargeBinary(), nullable=True),
        sa.Column("intent_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["connection_id"], ["evergrant.connection.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("connection_id"),
        schema="evergrant",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("schedule_due", "schedule", ["client", "urgent", "next_at"], unique=False, schema="evergrant")
    op.create_index(
        "schedule_suspect",
        "schedule",
        ["next_at"],
        unique=False,
        schema="evergrant",
        postgresql_where=sa.text("attempt >= 1"),
    )
    op.create_table(
        "candidate",
        sa.Column("connection_id", sa.UUID(), nullable=False),
        sa.Column("refresh_fp", sa.LargeBinary(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("consent", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("parent_fp", sa.LargeBinary(), nullable=False),
        sa.Column("parent_version", sa.BigInteger(), nullable=False),
        sa.Column("data_key_id", sa.UUID(), nullable=False),
        sa.Column("access_envelope", sa.LargeBinary(), nullable=False),
        sa.Column("refresh_envelope", sa.LargeBinary(), nullable=False),
        sa.Column("token_type", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("grant_ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fragile", sa.Boolean(), nullable=False),
        sa.Column("kept_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["evergrant.connection.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["data_key_id"],
            ["evergrant.data_key.id"],
        ),
        sa.PrimaryKeyConstraint("connection_id", "refresh_fp"),
        schema="evergrant",
    )
    op.create_table(
        "connect_attempt",
        sa.Column("state_digest", sa.LargeBinary(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("return_to", sa.Text(), nullable=True),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("browser_digest", sa.LargeBinary(), nullable=True),
        sa.Column("connection_id", sa.UUID(), nullable=False),
        sa.Column("reconnect", sa.Boolean(), nullable=False),
        sa.Column("data_key_id", sa.UUID(), nullable=False),
        sa.Column("verifier_envelope", sa.LargeBinary(), nullable=False),
        sa.Column("labels", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["data_key_id"],
            ["evergrant.data_key.id"],
        ),
        sa.PrimaryKeyConstraint("state_digest"),
        schema="evergrant",
    )
    op.create_index("connect_attempt_expiry", "connect_attempt", ["expires_at"], unique=False, schema="evergrant")
    op.create_table(
        "oauth_grant",
        sa.Column("connection_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("consent", sa.Integer(), server_default="1", nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("data_key_id", sa.UUID(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("token_type", sa.Text(), server_default="Bearer", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("refreshed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stale_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("grant_ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refresh_fp", sa.LargeBinary(), nullable=True),
        sa.Column("access_envelope", sa.LargeBinary(), nullable=True),
        sa.Column("refresh_envelope", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["connection_id"], ["evergrant.connection.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["data_key_id"],
            ["evergrant.data_key.id"],
        ),
        sa.PrimaryKeyConstraint("connection_id"),
        schema="evergrant",
        postgresql_with={"fillfactor": "65", "toast_tuple_target": "8160"},
    )
    op.create_index("oauth_grant_by_key", "oauth_grant", ["data_key_id"], unique=False, schema="evergrant")
    op.create_index(
        "oauth_grant_unwell",
        "oauth_grant",
        ["status"],
        unique=False,
        schema="evergrant",
        postgresql_where=sa.text("status <> 'active'"),
    )
    op.create_table(
        "revocation",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("connection_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("data_key_id", sa.UUID(), nullable=False),
        sa.Column("refresh_envelope", sa.LargeBinary(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["data_key_id"],
            ["evergrant.data_key.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        schema="evergrant",
    )
    op.create_index("revocation_due", "revocation", ["next_at"], unique=False, schema="evergrant")
    for table in INLINE:
        for column in ("access_envelope", "refresh_envelope"):
            op.execute(f"ALTER TABLE evergrant.{table} ALTER COLUMN {column} SET STORAGE EXTERNAL")


def downgrade() -> None:
    """Remove everything: only for an empty try-out."""
    for table in ("audit", "connect_attempt", "revocation", "candidate", "schedule", "oauth_grant", "connection"):
        op.drop_table(table, schema="evergrant")
    for table in ("data_key", "tenant_key"):
        op.drop_table(table, schema="evergrant")
