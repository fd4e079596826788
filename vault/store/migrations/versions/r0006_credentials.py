"""Credentials that are not grants: what they are, every version of their values, sealed, and their rotations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NOW, _NOTHING, _NEVER = sa.text("now()"), sa.text("'{}'"), sa.text("to_timestamp(0)")


def _instant(name: str, *, now: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=_NOW if now else None, nullable=not now)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "credential",
        sa.Column("id", sa.UUID(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("tenant", "owner", "provider")),
        sa.Column("connection_id", sa.UUID(), nullable=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("kind", "name")),
        *(sa.Column(name, JSONB(), server_default=_NOTHING, nullable=False) for name in ("tags", "policy")),
        sa.Column("state", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("version", "latest")),
        sa.Column("facts", JSONB(), server_default=_NOTHING, nullable=False),
        *(_instant(name, now=True) for name in ("created_at", "rotated_at")),
        *(_instant(name) for name in ("expires_at", "rotate_at", "warn_at")),
        sa.Column("rotator", sa.Text(), server_default="", nullable=False),
        *(_instant(name) for name in ("deleted_at", "purge_at")),
        sa.PrimaryKeyConstraint("id"),
        schema="evergrant",
    )
    op.create_table(
        "credential_version",
        sa.Column("credential_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("tenant", "stage")),
        sa.Column("data_key_id", sa.UUID(), nullable=True),
        *(sa.Column(name, sa.LargeBinary(), nullable=True) for name in ("envelope", "fp")),
        sa.Column("facts", JSONB(), server_default=_NOTHING, nullable=False),
        _instant("expires_at"),
        _instant("created_at", now=True),
        *(_instant(name) for name in ("current_at", "replaced_at", "serves_until")),
        sa.ForeignKeyConstraint(["credential_id"], ["evergrant.credential.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["data_key_id"], ["evergrant.data_key.id"]),
        sa.PrimaryKeyConstraint("credential_id", "version"),
        schema="evergrant",
    )
    op.create_table(
        "credential_rotation",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.UUID(), nullable=False),
        sa.Column("rotator", sa.Text(), nullable=False),
        sa.Column("from_version", sa.BigInteger(), nullable=False),
        sa.Column("to_version", sa.BigInteger(), nullable=True),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("overlap", sa.Interval(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        _instant("next_at", now=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), server_default=_NEVER, nullable=False),
        _instant("begun_at", now=True),
        _instant("ended_at"),
        sa.ForeignKeyConstraint(["credential_id"], ["evergrant.credential.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        schema="evergrant",
    )
    _index("rotation_due", "next_at", of="credential_rotation", where="ended_at IS NULL")
    _index("rotation_of", "credential_id", of="credential_rotation")
    making = "ended_at IS NULL AND step NOT IN ('retire', 'undo')"
    _index("rotation_making", "credential_id", of="credential_rotation", where=making, unique=True)
    _index("by_tenant", "tenant", "id")
    _index("by_connection", "connection_id", where="connection_id IS NOT NULL")
    _index("by_owner", "tenant", "owner")
    for name, column in (("expiring", "expires_at"), ("aged", "rotate_at"), ("warning", "warn_at")):
        _index(name, column, where="state = 'active'")
    _index("rotating", "rotate_at", where="state = 'active' AND rotator <> ''")
    _index("purging", "purge_at", where="state = 'deleted'")
    op.create_index(
        "credential_by_tags", "credential", ["tags"], schema="evergrant",
        postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"},
    )  # fmt: skip
    op.create_index("credential_version_by_key", "credential_version", ["data_key_id"], schema="evergrant")


def _index(name: str, *columns: str, of: str = "credential", where: str | None = None, unique: bool = False) -> None:
    condition = sa.text(where) if where else None
    op.create_index(
        f"credential_{name}", of, list(columns), schema="evergrant", unique=unique, postgresql_where=condition
    )


def downgrade() -> None:
    """Drop the tables, and what they hold."""
    for table in ("credential_rotation", "credential_version", "credential"):
        op.drop_table(table, schema="evergrant")
