"""Counters of connections and credentials, kept by triggers; looks at all connections; signs of life of workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from vault.store.migrations.tally_functions import CREATE, DROP, DROP_TRIGGERS, FUNCTIONS_OF_THE_OWNER, TRIGGERS

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_COUNTED = ("tenant", "what", "provider", "kind", "state")
_NOW = sa.text("now()")
_INDEXES = {
    "schedule_failing": ("schedule", ["next_at"], "failures > 0 AND next_at IS NOT NULL"),
    "credential_expiring_of": ("credential", ["tenant", "expires_at"], "state = 'active' AND expires_at IS NOT NULL"),
    "credential_aged_of": ("credential", ["tenant", "rotate_at"], "state = 'active' AND rotate_at IS NOT NULL"),
}


def upgrade() -> None:
    """Create tables and triggers, then count what is there: making a trigger keeps writers away until the commit."""
    op.create_table(
        "tally",
        *(sa.Column(name, sa.Text(), nullable=False) for name in _COUNTED),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*_COUNTED),
        schema="evergrant",
    )
    op.create_table(
        "tally_change",
        *(sa.Column(name, sa.Text(), nullable=False) for name in _COUNTED),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        schema="evergrant",
        postgresql_with={"autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "5000"},
    )
    op.create_table(
        "health_sweep",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("place", sa.UUID(), nullable=True),
        sa.Column("counts", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("last_counts", JSONB(), nullable=True),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=True) for name in ("last_began_at", "last_ended_at")),
        sa.PrimaryKeyConstraint("tenant"),
        schema="evergrant",
    )
    op.create_table(
        "worker_sign",
        sa.Column("node", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.DateTime(timezone=True), server_default=_NOW, nullable=False)
            for name in ("since", "seen_at")
        ),
        sa.Column("alive_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("node"),
        schema="evergrant",
    )
    for name, (table, columns, where) in _INDEXES.items():
        op.create_index(name, table, columns, schema="evergrant", postgresql_where=sa.text(where))
    for statement in (*CREATE, *TRIGGERS):
        op.execute(sa.text(statement.replace(":", r"\:")))
    for function in FUNCTIONS_OF_THE_OWNER:
        op.execute(f"REVOKE EXECUTE ON FUNCTION evergrant.{function} FROM PUBLIC")
    op.execute("SELECT count(*) FROM evergrant.tally_recount()")
    op.execute("SELECT * FROM evergrant.tally_fold(2147483647)")


def downgrade() -> None:
    """Stop counting."""
    for statement in (*DROP_TRIGGERS, *DROP):
        op.execute(statement)
    for name, (table, _, _) in _INDEXES.items():
        op.drop_index(name, table, schema="evergrant")
    for table in ("worker_sign", "health_sweep", "tally_change", "tally"):
        op.drop_table(table, schema="evergrant")
