"""Sessions of the user's own service, and counters of them and of validations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from vault.store.migrations import tally_functions
from vault.store.migrations.session_functions import CREATE, DROP, OF_THE_OWNER, TRIGGERS

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NOW = sa.text("now()")
_INDEXES = {
    "user_sessions_of_user": (["tenant", "user_id", "device"], True, None),
    "user_sessions_by_token": (["tenant", "token_fp"], True, None),
    "user_sessions_by_tenant": (["tenant", "id"], False, None),
    "user_sessions_ending": (["expires_at"], False, None),
    "user_sessions_revoked": (["revoked_at"], False, "revoked_at IS NOT NULL"),
    "user_sessions_by_key": (["data_key_id"], False, "data_key_id IS NOT NULL"),
}


def upgrade() -> None:
    """Create the table, and what counts its rows."""
    op.create_table(
        "user_sessions",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), server_default="", nullable=False),
        sa.Column("subscription", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), server_default="", nullable=False),
        sa.Column("token_fp", sa.LargeBinary(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("data_key_id", sa.UUID(), nullable=True),
        sa.Column("metadata_envelope", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("subscription IN ('free', 'plus', 'pro')", name="user_sessions_subscription"),
        sa.ForeignKeyConstraint(["data_key_id"], ["evergrant.data_key.id"]),
        sa.PrimaryKeyConstraint("id"),
        schema="evergrant",
    )
    for name, (columns, unique, where) in _INDEXES.items():
        only = None if where is None else sa.text(where)
        op.create_index(name, "user_sessions", columns, unique=unique, schema="evergrant", postgresql_where=only)
    for statement in (*CREATE, *TRIGGERS):
        op.execute(sa.text(statement.replace(":", r"\:")))
    for function in OF_THE_OWNER:
        op.execute(f"REVOKE EXECUTE ON FUNCTION evergrant.{function} FROM PUBLIC")


def downgrade() -> None:
    """Forget the sessions: everybody signs in again; and the counters of what nobody counts any more."""
    op.drop_table("user_sessions", schema="evergrant")
    for statement in (*DROP, tally_functions.RECOUNT.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")):
        op.execute(sa.text(statement.replace(":", r"\:")))
    for table in ("tally", "tally_change"):
        op.execute(f"DELETE FROM evergrant.{table} WHERE what IN ('session', 'validation')")
