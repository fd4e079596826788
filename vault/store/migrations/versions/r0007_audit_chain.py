"""The audit as a chain for each tenant: append-only, linked by a job of its own, forgotten from its beginning only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from vault.store.migrations.audit_functions import CREATE, DROP, FUNCTIONS_OF_THE_OWNER, GUARDED

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say of each row which transaction wrote it, make the tables of the chain, and close both to changes.

    Rows of before get this transaction's number: the default is worked out once, and no row is rewritten.
    """
    op.execute("ALTER TABLE evergrant.audit ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id()")
    op.create_index("audit_by_transaction", "audit", ["xid", "id"], schema="evergrant")
    op.create_table(
        "audit_link",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("audit_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "seq"),
        schema="evergrant",
    )
    op.create_index("audit_link_by_row", "audit_link", ["audit_id"], unique=True, schema="evergrant")
    for table in ("audit_head", "audit_start"):
        op.create_table(
            table,
            sa.Column("tenant", sa.Text(), nullable=False),
            sa.Column("seq", sa.BigInteger(), nullable=False),
            sa.Column("digest", sa.LargeBinary(), nullable=False),
            sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
            sa.PrimaryKeyConstraint("tenant"),
            schema="evergrant",
        )
    op.execute(
        "CREATE TABLE evergrant.audit_cursor (singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton), place text,"
        " xid xid8 NOT NULL DEFAULT '0', id bigint NOT NULL DEFAULT 0, resume_xid xid8)"
    )
    op.execute("INSERT INTO evergrant.audit_cursor DEFAULT VALUES")
    for statement in CREATE:
        op.execute(sa.text(statement.replace(":", r"\:")))
    for function in FUNCTIONS_OF_THE_OWNER:
        op.execute(f"REVOKE EXECUTE ON FUNCTION evergrant.{function} FROM PUBLIC")
    for table in GUARDED:
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON evergrant.{table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION evergrant.audit_refuse()"
        )


def downgrade() -> None:
    """Forget the chain; the rows stay."""
    op.execute("DROP TRIGGER append_only ON evergrant.audit")
    for table in ("audit_cursor", "audit_start", "audit_head", "audit_link"):
        op.drop_table(table, schema="evergrant")
    for statement in DROP:
        op.execute(statement)
    op.drop_index("audit_by_transaction", "audit", schema="evergrant")
    op.drop_column("audit", "xid", schema="evergrant")
