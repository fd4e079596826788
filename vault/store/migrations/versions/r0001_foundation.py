"""The first tables: keys, connections, grants, schedule, candidates, revocations, connect attempts, audit."""

from __future__ import annotations

from alembic import op

from vault.store import tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the schema and its tables; the storage of sealed values is set before the first row comes."""
    op.execute(f"CREATE SCHEMA IF NOT EXISTS {tables.SCHEMA}")
    tables.metadata.create_all(op.get_bind())
    for table, column in tables.INLINE:
        op.execute(f"ALTER TABLE {tables.SCHEMA}.{table} ALTER COLUMN {column} SET STORAGE EXTERNAL")


def downgrade() -> None:
    """Remove everything: only for an empty try-out."""
    tables.metadata.drop_all(op.get_bind())
