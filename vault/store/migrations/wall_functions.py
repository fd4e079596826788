"""What roles of web apps may not do by themselves and yet need done, in the owner's name; and the policies of before.

They are as revision 0013 made them; what changes one is a revision of its own.
"""

from __future__ import annotations

from typing import Final

_OWNER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"

REVOKE_LATER = f"""
CREATE FUNCTION evergrant.revoke_later(wanted uuid) RETURNS bigint LANGUAGE sql {_OWNER} AS $$
  -- Who ends a connection need not see the tokens that are to be revoked. Of the tenant that is acted for only.
  WITH ended AS (
    SELECT g.connection_id, g.tenant, c.owner, c.provider, g.version, g.data_key_id, g.refresh_envelope, g.client_id
      FROM evergrant.oauth_grant g JOIN evergrant.connection c ON c.id = g.connection_id
     WHERE g.connection_id = wanted AND g.tenant = nullif(current_setting('evergrant.tenant', true), '')),
  noted AS (
    INSERT INTO evergrant.revocation
           (connection_id, tenant, owner, provider, version, data_key_id, refresh_envelope, client_id)
    SELECT e.* FROM ended e WHERE e.refresh_envelope IS NOT NULL
     UNION ALL
    SELECT e.connection_id, e.tenant, e.owner, e.provider, k.parent_version + 1, k.data_key_id, k.refresh_envelope,
           e.client_id
      FROM ended e JOIN evergrant.candidate k ON k.connection_id = e.connection_id
    RETURNING 1)
  SELECT count(*) FROM noted
$$
"""
"""Answers kept beside the row are handed to revocation too: one of them may be the only token that lives."""


def _by_id(table: str) -> str:
    return f"""
CREATE FUNCTION evergrant.{table}_by_id(wanted uuid) RETURNS SETOF evergrant.{table}
LANGUAGE sql STABLE ROWS 1 {_OWNER} AS $$ SELECT k.* FROM evergrant.{table} k WHERE k.id = wanted $$
"""


_ATTEMPT_TENANT = f"""
CREATE FUNCTION evergrant.attempt_tenant(digest bytea) RETURNS text LANGUAGE sql STABLE {_OWNER} AS $$
  SELECT a.tenant FROM evergrant.connect_attempt a WHERE a.state_digest = digest AND a.expires_at > now()
$$
"""
"""A browser that comes back from a provider brings a state, and nothing that says whose it is."""
MOST: Final = 100_000
_REFRESH_WORK = f"""
CREATE FUNCTION evergrant.refresh_work(
  patience interval, OUT due bigint, OUT overdue bigint, OUT running bigint, OUT failing bigint
) LANGUAGE sql STABLE {_OWNER} AS $$
  WITH RECURSIVE clients(client) AS (
    (SELECT s.client FROM evergrant.schedule s ORDER BY s.client LIMIT 1)
    UNION ALL
    SELECT (SELECT s.client FROM evergrant.schedule s WHERE s.client > c.client ORDER BY s.client LIMIT 1)
      FROM clients c WHERE c.client IS NOT NULL),
  waiting AS (
    SELECT d.* FROM clients c CROSS JOIN (VALUES (true), (false)) AS u(urgent)
     CROSS JOIN LATERAL (
           SELECT s.connection_id, s.next_at <= now() - patience AND s.lease_until <= now() AS late
             FROM evergrant.schedule s
            WHERE s.client = c.client AND s.urgent = u.urgent AND s.next_at <= now()
            ORDER BY s.client, s.urgent, s.next_at LIMIT {MOST}) d
     LIMIT {MOST}),
  found AS (
    SELECT w.connection_id, CASE WHEN w.late THEN 2 ELSE 1 END AS sort FROM waiting w
     UNION ALL
    (SELECT s.connection_id, 3 FROM evergrant.schedule s WHERE s.attempt >= 1 AND s.lease_until > now() LIMIT {MOST})
     UNION ALL
    (SELECT s.connection_id, 4 FROM evergrant.schedule s WHERE s.failures > 0 AND s.next_at IS NOT NULL LIMIT {MOST}))
  SELECT count(*) FILTER (WHERE f.sort <= 2), count(*) FILTER (WHERE f.sort = 2), count(*) FILTER (WHERE f.sort = 3),
         count(*) FILTER (WHERE f.sort = 4)
    FROM found f JOIN evergrant.oauth_grant g
      ON g.connection_id = f.connection_id AND g.tenant = nullif(current_setting('evergrant.tenant', true), '')
$$
"""
"""Figures of one tenant. A policy would have its own walk pass by everything that is due for all others."""
_ALL_TENANTS = "CREATE FUNCTION evergrant.all_tenants() RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT true $$"
"""In statements about all tenants: whoever may see but one is refused instead of being told that there is nothing."""

CREATE: Final = (REVOKE_LATER, _by_id("tenant_key"), _by_id("data_key"), _ATTEMPT_TENANT, _REFRESH_WORK, _ALL_TENANTS)
FOR_BOTH: Final = (
    *("revoke_later(uuid)", "tenant_key_by_id(uuid)", "data_key_by_id(uuid)", "attempt_tenant(bytea)"),
    "refresh_work(interval)",
)
FOR_WORKERS: Final = ("all_tenants()",)
DROP: Final = tuple(f"DROP FUNCTION evergrant.{each}" for each in (*FOR_BOTH, *FOR_WORKERS))

ROLES_OF_BEFORE: Final = """
DO $$
DECLARE given record; called text;
BEGIN
  -- Until they are granted their rights anew, roles go on as they were: everything they had rights on, all rows of it.
  FOR given IN
    SELECT DISTINCT c.relname, r.oid, r.rolname
      FROM pg_class c CROSS JOIN aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
     WHERE c.relnamespace = 'evergrant'::regnamespace AND c.relrowsecurity AND a.grantee <> c.relowner
  LOOP
    EXECUTE format('CREATE POLICY %I ON evergrant.%I TO %I USING (true) WITH CHECK (true)',
                   'before_' || given.oid, given.relname, given.rolname);
  END LOOP;
  FOR given IN
    SELECT DISTINCT r.rolname
      FROM pg_class c CROSS JOIN aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
     WHERE c.oid = 'evergrant.oauth_grant'::regclass AND a.grantee <> c.relowner
  LOOP
    FOREACH called IN ARRAY ARRAY[{functions}] LOOP
      EXECUTE format('GRANT EXECUTE ON FUNCTION evergrant.%s TO %I', called, given.rolname);
    END LOOP;
  END LOOP;
END $$
""".replace("{functions}", ", ".join(f"'{each}'" for each in (*FOR_BOTH, *FOR_WORKERS)))
DROP_POLICIES: Final = """
DO $$
DECLARE each record;
BEGIN
  FOR each IN SELECT p.polname, c.relname FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
               WHERE c.relnamespace = 'evergrant'::regnamespace
  LOOP
    EXECUTE format('DROP POLICY %I ON evergrant.%I', each.polname, each.relname);
  END LOOP;
END $$
"""
