"""Access tokens of ended connections are revoked too, where there is no refresh token that would take them along."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from vault.store.migrations.wall_functions import REVOKE_LATER

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

BOTH = """
CREATE OR REPLACE FUNCTION evergrant.revoke_later(wanted uuid) RETURNS bigint LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  -- Who ends a connection need not see the tokens that are to be revoked. Of the tenant that is acted for only.
  WITH ended AS (
    SELECT g.connection_id, g.tenant, c.owner, c.provider, g.version, g.data_key_id, g.refresh_envelope, g.client_id,
           CASE WHEN g.refresh_envelope IS NULL AND g.expires_at > now() THEN g.access_envelope END AS access_envelope
      FROM evergrant.oauth_grant g JOIN evergrant.connection c ON c.id = g.connection_id
     WHERE g.connection_id = wanted AND g.tenant = nullif(current_setting('evergrant.tenant', true), '')),
  noted AS (
    INSERT INTO evergrant.revocation
           (connection_id, tenant, owner, provider, version, data_key_id, refresh_envelope, client_id, access_envelope)
    SELECT e.* FROM ended e WHERE coalesce(e.refresh_envelope, e.access_envelope) IS NOT NULL
     UNION ALL
    SELECT e.connection_id, e.tenant, e.owner, e.provider, k.parent_version + 1, k.data_key_id, k.refresh_envelope,
           e.client_id, NULL
      FROM ended e JOIN evergrant.candidate k ON k.connection_id = e.connection_id
    RETURNING 1)
  SELECT count(*) FROM noted
$$
"""


def upgrade() -> None:
    """Make room for them."""
    op.alter_column("revocation", "refresh_envelope", nullable=True, schema="evergrant")
    op.add_column("revocation", sa.Column("access_envelope", sa.LargeBinary(), nullable=True), schema="evergrant")
    op.execute(BOTH)


def downgrade() -> None:
    """Those that are on their way are not revoked then."""
    op.execute(REVOKE_LATER.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute("DELETE FROM evergrant.revocation WHERE refresh_envelope IS NULL")
    op.drop_column("revocation", "access_envelope", schema="evergrant")
    op.alter_column("revocation", "refresh_envelope", nullable=False, schema="evergrant")
