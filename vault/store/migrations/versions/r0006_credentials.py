"""Credentials that are not grants: what they are, and every version of their values, sealed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NOW, _NOTHING = sa.text("now()"), sa.text("'{}'")


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
        *(_instant(name) for name in ("expires_at", "rotate_at", "warn_at", "deleted_at", "purge_at")),
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
    _index("by_tenant", "tenant", "id")
    _index("by_connection", "connection_id", where="connection_id IS NOT NULL")
    _index("by_owner", "tenant", "owner")
    for name, column in (("expiring", "expires_at"), ("rotating", "rotate_at"), ("warning", "warn_at")):
        _index(name, column, where="state = 'active'")
    _index("purging", "purge_at", where="state = 'deleted'")
    op.create_index(
        "credential_by_tags", "credential", ["tags"], schema="evergrant",
        postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"},
    )  # fmt: skip
    op.create_index("credential_version_by_key", "credential_version", ["data_key_id"], schema="evergrant")


def _index(name: str, *columns: str, where: str | None = None) -> None:
    condition = sa.text(where) if where else None
    op.create_index(f"credential_{name}", "credential", list(columns), schema="evergrant", postgresql_where=condition)


def downgrade() -> None:
    """Drop the tables, and what they hold."""
    for table in ("credential_version", "credential"):
        op.drop_table(table, schema="evergrant")
