"""A second wall between tenants: row-level security, and functions for what a web app's role may not do by itself."""

from __future__ import annotations

from alembic import op

from vault.store.migrations.wall_functions import CREATE, DROP, DROP_POLICIES, FOR_BOTH, FOR_WORKERS, ROLES_OF_BEFORE

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

WALLED = (
    "connection", "oauth_grant", "connection_metadata", "schedule", "grant_end", "candidate", "revocation",
    "connect_attempt", "oauth_client", "credential", "credential_version", "credential_rotation", "tenant_key",
    "tenant_kek", "data_key", "event", "endpoint", "delivery", "audit", "audit_link", "audit_head", "audit_start",
    "tally", "tally_change", "health_sweep", "migration_row", "user_sessions", "api_key", "connect_ticket",
)  # fmt: skip


def upgrade() -> None:
    """Enable row-level security, which owners pass by; no row is touched. Roles of before see what they saw."""
    for table in WALLED:
        op.execute(f"ALTER TABLE evergrant.{table} ENABLE ROW LEVEL SECURITY")
    for statement in CREATE:
        op.execute(statement)
    for function in (*FOR_BOTH, *FOR_WORKERS):
        op.execute(f"REVOKE EXECUTE ON FUNCTION evergrant.{function} FROM PUBLIC")
    op.execute(ROLES_OF_BEFORE)


def downgrade() -> None:
    """Take the wall away: rights alone hold roles back then."""
    op.execute(DROP_POLICIES)
    for statement in DROP:
        op.execute(statement)
    for table in WALLED:
        op.execute(f"ALTER TABLE evergrant.{table} DISABLE ROW LEVEL SECURITY")
