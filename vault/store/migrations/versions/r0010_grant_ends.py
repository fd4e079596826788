"""When consents end, beside the hot row, noted by the database itself; by which policies credentials are dated."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_NOTE = """
CREATE FUNCTION evergrant.grant_end_note() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO evergrant.grant_end (connection_id, ends_at) VALUES (NEW.connection_id, NEW.grant_ends_at)
  ON CONFLICT (connection_id) DO UPDATE SET ends_at = EXCLUDED.ends_at, look_at = EXCLUDED.look_at;
  RETURN NULL;
END $$
"""
"""In the owner's name: a role that was granted its rights before this table was there goes on refreshing."""
_CLOSED = "REVOKE EXECUTE ON FUNCTION evergrant.grant_end_note() FROM PUBLIC"
"""Nobody else is to hang it on a table of their own."""
_TRIGGERS = (
    "CREATE TRIGGER grant_end_new AFTER INSERT ON evergrant.oauth_grant FOR EACH ROW"
    " WHEN (NEW.grant_ends_at IS NOT NULL) EXECUTE FUNCTION evergrant.grant_end_note()",
    # An end that a refresh puts off is left as it was noted: whoever looks then finds out.
    "CREATE TRIGGER grant_end_changed AFTER UPDATE ON evergrant.oauth_grant FOR EACH ROW"
    " WHEN (NEW.grant_ends_at IS NOT NULL AND (OLD.grant_ends_at IS NULL OR NEW.grant_ends_at < OLD.grant_ends_at"
    "       OR NEW.consent <> OLD.consent)) EXECUTE FUNCTION evergrant.grant_end_note()",
)


def upgrade() -> None:
    """Create the table and note the ends there are."""
    op.create_table(
        "grant_end",
        sa.Column("connection_id", sa.UUID(), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("look_at", sa.DateTime(timezone=True), server_default=sa.text("to_timestamp(0)"), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["evergrant.connection.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("connection_id"),
        schema="evergrant",
    )
    op.create_table(
        "policy_state",
        sa.Column("singleton", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("place", sa.UUID(), nullable=True),
        sa.Column("begun_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("singleton"),
        sa.PrimaryKeyConstraint("singleton"),
        schema="evergrant",
    )
    op.create_index(
        "credential_rotation_ended", "credential_rotation", ["ended_at"], schema="evergrant",
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )  # fmt: skip
    op.create_index("grant_end_ending", "grant_end", ["ends_at"], schema="evergrant")
    op.create_index("grant_end_looking", "grant_end", ["look_at"], schema="evergrant")
    op.create_index("connection_by_age", "connection", ["tenant", "provider", "connected_at"], schema="evergrant")
    op.create_index(
        "connection_by_labels", "connection", ["labels"], schema="evergrant", postgresql_using="gin",
        postgresql_ops={"labels": "jsonb_path_ops"},
    )  # fmt: skip
    op.execute(
        "INSERT INTO evergrant.grant_end (connection_id, ends_at)"
        " SELECT connection_id, grant_ends_at FROM evergrant.oauth_grant WHERE grant_ends_at IS NOT NULL"
    )
    for statement in (_NOTE, _CLOSED, *_TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    """Forget the ends; each grant knows its own."""
    for trigger in ("grant_end_new", "grant_end_changed"):
        op.execute(f"DROP TRIGGER {trigger} ON evergrant.oauth_grant")
    op.execute("DROP FUNCTION evergrant.grant_end_note()")
    for index in ("connection_by_labels", "connection_by_age"):
        op.drop_index(index, "connection", schema="evergrant")
    op.drop_index("credential_rotation_ended", "credential_rotation", schema="evergrant")
    for table in ("policy_state", "grant_end"):
        op.drop_table(table, schema="evergrant")
