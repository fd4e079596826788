"""The functions of the audit chain, in the database, so that the roles of processes need no right to do it themselves.

They are as revision 0007 made them; what changes one is a revision of its own.
"""

from __future__ import annotations

GUARDED = ("audit", "audit_link")
FUNCTIONS_OF_THE_OWNER = ("audit_chain(integer)", "audit_forget(interval, integer)")

_REFUSE = """
CREATE FUNCTION evergrant.audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND current_setting('evergrant.audit_forgetting', true) = pg_current_xact_id()::text THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION '% on evergrant.%: the audit is append-only', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege', HINT = 'Rows past VAULT_AUDIT_RETENTION_DAYS go with the clean-up.';
END $$
"""
"""For owners and superusers too, whom no right holds back: a guard against mistakes, the chain is against the rest."""

_DIGEST = """
CREATE FUNCTION evergrant.audit_digest(
  previous bytea, first bytea, tenant text, seq bigint, id bigint, xid xid8, at timestamptz, event text,
  connection_id uuid, detail jsonb
) RETURNS bytea LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  whose bytea := convert_to(tenant, 'UTF8');
  what bytea := convert_to(event, 'UTF8');
  said bytea := convert_to(detail::text, 'UTF8');
BEGIN
  RETURN sha256('evergrant audit 1'::bytea || coalesce(previous, first)
    || int8send(seq) || int8send(id) || xid8send(xid) || timestamptz_send(at)
    || int4send(octet_length(whose)) || whose || int4send(octet_length(what)) || what
    || int4send(octet_length(said)) || said || coalesce(uuid_send(connection_id), ''::bytea));
END $$
"""
"""The digest of a link, as ``vault.audit.rows.digest`` has it in Python: each checks the other."""

_CHAINED = """
CREATE AGGREGATE evergrant.audit_chained(bytea, text, bigint, bigint, xid8, timestamptz, text, uuid, jsonb)
  (SFUNC = evergrant.audit_digest, STYPE = bytea)
"""

_PLACE = """
CREATE FUNCTION evergrant.audit_place() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT c.system_identifier || '/' || d.oid
    FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
$$
"""
"""Where transactions are numbered: a database that was dumped and restored elsewhere counts anew."""

_CHAIN = """
CREATE FUNCTION evergrant.audit_chain(batch integer, OUT linked bigint, OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
-- A row carries the number of the transaction that wrote it. Whatever transaction is numbered below the oldest one that
-- is still running has ended: its rows can all be seen, and there will never be another. Below that horizon, then, the
-- rows are complete, and one walk along (xid, id) meets each of them once, in whatever order they were committed.
-- Nobody who writes a row waits for this or knows of it; the horizon waits for the longest transaction.
DECLARE
  place_now text; horizon xid8; upto xid8; last_xid xid8; last_id bigint; found bigint;
  at_work evergrant.audit_cursor;
BEGIN
  SELECT * INTO STRICT at_work FROM evergrant.audit_cursor FOR UPDATE;  -- one at a time: the row is the lock
  SELECT pg_snapshot_xmin(pg_current_snapshot()) INTO horizon;
  SELECT evergrant.audit_place() INTO place_now;
  IF at_work.place IS DISTINCT FROM place_now THEN
    -- Another cluster, or the first time: transactions count from elsewhere here. Once through all there is, then on.
    at_work.place := place_now; at_work.xid := '0'; at_work.id := 0; at_work.resume_xid := horizon;
  END IF;
  upto := CASE WHEN at_work.resume_xid IS NULL THEN horizon ELSE '18446744073709551615'::xid8 END;

  WITH batch AS MATERIALIZED (
    SELECT a.* FROM evergrant.audit a
     WHERE (a.xid, a.id) > (at_work.xid, at_work.id) AND a.xid < upto ORDER BY a.xid, a.id LIMIT batch),
  fresh AS MATERIALIZED (
    SELECT b.*, row_number() OVER (PARTITION BY b.tenant ORDER BY b.xid, b.id) AS nth FROM batch b
     WHERE NOT EXISTS (SELECT FROM evergrant.audit_link l WHERE l.audit_id = b.id)),
  placed AS (
    SELECT f.*, coalesce(h.seq, 0) + f.nth AS seq, coalesce(h.digest, decode(repeat('00', 32), 'hex')) AS first
      FROM fresh f LEFT JOIN evergrant.audit_head h ON h.tenant = f.tenant),
  links AS (
    INSERT INTO evergrant.audit_link AS l (tenant, seq, audit_id, digest)
    SELECT p.tenant, p.seq, p.id,
           evergrant.audit_chained(p.first, p.tenant, p.seq, p.id, p.xid, p.at, p.event, p.connection_id, p.detail)
             OVER (PARTITION BY p.tenant ORDER BY p.nth ROWS UNBOUNDED PRECEDING)
      FROM placed p
    RETURNING l.tenant, l.seq, l.digest),
  heads AS (
    INSERT INTO evergrant.audit_head AS h (tenant, seq, digest)
    SELECT DISTINCT ON (n.tenant) n.tenant, n.seq, n.digest FROM links n ORDER BY n.tenant, n.seq DESC
        ON CONFLICT (tenant) DO UPDATE SET seq = EXCLUDED.seq, digest = EXCLUDED.digest, at = now())
  SELECT count(*), (SELECT count(*) FROM links), max(b.xid),
         (SELECT z.id FROM batch z ORDER BY z.xid DESC, z.id DESC LIMIT 1)
    INTO found, linked, last_xid, last_id FROM batch b;

  more := found = batch;
  IF more THEN
    at_work.xid := last_xid; at_work.id := last_id;
  ELSE
    at_work.xid := coalesce(at_work.resume_xid, horizon); at_work.id := 0;
    more := at_work.resume_xid IS NOT NULL;
    at_work.resume_xid := NULL;
  END IF;
  UPDATE evergrant.audit_cursor
     SET place = at_work.place, xid = at_work.xid, id = at_work.id, resume_xid = at_work.resume_xid;
END $$
"""

_FORGET = """
CREATE FUNCTION evergrant.audit_forget(keep interval, batch integer, OUT forgotten bigint, OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
-- Takes whole beginnings of chains, and no row younger than it is told or than a month. What is left begins where
-- audit_start says, and the audit tells of it. Days are forgotten whole, so that it does so once a day.
DECLARE
  before timestamptz := date_trunc('day', now() - keep, 'UTC');
  seen bigint;
BEGIN
  IF keep IS NULL OR keep < interval '31 days' OR before > now() - interval '31 days' THEN
    RAISE EXCEPTION 'the audit is kept for 31 days at least' USING ERRCODE = 'insufficient_privilege';
  END IF;
  forgotten := 0; more := false;
  IF NOT pg_try_advisory_xact_lock(1163282259) THEN RETURN; END IF;  -- somebody reads the chains: another time
  PERFORM FROM evergrant.audit_cursor FOR UPDATE;
  PERFORM set_config('evergrant.audit_forgetting', pg_current_xact_id()::text, true);
  -- The oldest rows say whose turn it is; a chain then goes by its own order, which is not that of ids.
  WITH oldest AS MATERIALIZED (SELECT a.tenant, a.at FROM evergrant.audit a ORDER BY a.id LIMIT batch),
  turns AS (SELECT o.tenant, count(*) AS number FROM oldest o WHERE o.at < before GROUP BY o.tenant),
  judged AS (
    SELECT k.*, bool_and(coalesce(k.at < before, true))
                  OVER (PARTITION BY k.tenant ORDER BY k.seq ROWS UNBOUNDED PRECEDING) AS over
      FROM turns t CROSS JOIN LATERAL (
           SELECT l.*, a.at FROM evergrant.audit_link l LEFT JOIN evergrant.audit a ON a.id = l.audit_id
            WHERE l.tenant = t.tenant ORDER BY l.seq LIMIT t.number) AS k),
  bounded AS (  -- a link whose row is gone is as old as the rows behind it
    SELECT j.*, max(j.seq) FILTER (WHERE j.over AND j.at IS NOT NULL) OVER (PARTITION BY j.tenant) AS last_old
      FROM judged j),
  doomed AS MATERIALIZED (SELECT * FROM bounded WHERE over AND seq <= last_old),
  no_rows AS (DELETE FROM evergrant.audit a USING doomed d WHERE a.id = d.audit_id),
  no_links AS (DELETE FROM evergrant.audit_link l USING doomed d WHERE l.audit_id = d.audit_id),
  ends AS (
    SELECT DISTINCT ON (d.tenant) d.tenant, d.seq, d.digest, count(*) OVER (PARTITION BY d.tenant) AS number
      FROM doomed d ORDER BY d.tenant, d.seq DESC),
  starts AS (
    INSERT INTO evergrant.audit_start AS s (tenant, seq, digest) SELECT e.tenant, e.seq, e.digest FROM ends e
        ON CONFLICT (tenant) DO UPDATE SET seq = EXCLUDED.seq, digest = EXCLUDED.digest, at = now()),
  told AS (
    INSERT INTO evergrant.audit (tenant, event, detail)
    SELECT e.tenant, 'audit.forgotten',
           jsonb_build_object('rows', e.number, 'seq', e.seq, 'digest', encode(e.digest, 'hex'))
      FROM ends e)
  SELECT (SELECT count(*) FROM doomed), count(*) INTO forgotten, seen FROM oldest;
  PERFORM set_config('evergrant.audit_forgetting', '', true);
  more := forgotten > 0 AND seen = batch;
END $$
"""

CREATE = (_REFUSE, _DIGEST, _CHAINED, _PLACE, _CHAIN, _FORGET)
DROP = (
    "DROP FUNCTION evergrant.audit_forget(interval, integer)",
    "DROP FUNCTION evergrant.audit_chain(integer)",
    "DROP FUNCTION evergrant.audit_place()",
    "DROP AGGREGATE evergrant.audit_chained(bytea, text, bigint, bigint, xid8, timestamptz, text, uuid, jsonb)",
    "DROP FUNCTION evergrant.audit_digest(bytea, bytea, text, bigint, bigint, xid8, timestamptz, text, uuid, jsonb)",
    "DROP FUNCTION evergrant.audit_refuse()",
)
