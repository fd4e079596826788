"""The functions and triggers that count, in the owner's name, so that the roles of processes need no right to.

They are as revision 0009 made them; what changes one is a revision of its own.

Who writes adds rows to ``tally_change`` and waits for nobody: it has no unique key, and nobody changes a row of it.
What is in a transaction counts when it commits, and does not when it is rolled back.
"""

from __future__ import annotations

CALLED = ("tally_fold(integer)", "tally_recount()")
_OWNER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
_BY_KEY = f"{_OWNER} SET enable_seqscan = off"
"""Connections are looked up one by one, also by plans made while there were few."""
_CHANGE = "INSERT INTO evergrant.tally_change (tenant, what, provider, kind, state, amount)"
_PROVIDER = "(SELECT c.provider FROM evergrant.connection c WHERE c.id = r.connection_id)"


def _many(name: str, sign: str, source: str, settings: str) -> str:
    """A trigger for all rows of a statement that were put in or taken out."""
    return f"""
CREATE FUNCTION evergrant.{name}() RETURNS trigger LANGUAGE plpgsql {settings} AS $$
BEGIN
  {_CHANGE}
  SELECT n.*, {sign}count(*) FROM ({source}) n GROUP BY 1, 2, 3, 4, 5;
  RETURN NULL;
END $$
"""


_GRANTS = f"SELECT r.tenant, 'connection', {_PROVIDER}, 'oauth', r.status FROM changed r"
_CREDENTIALS = "SELECT r.tenant, 'credential', r.provider, r.kind, r.state FROM changed r"

_GRANT_TURNED = f"""
CREATE FUNCTION evergrant.tally_grant_turned() RETURNS trigger LANGUAGE plpgsql {_BY_KEY} AS $$
DECLARE
  at text;
BEGIN
  SELECT c.provider INTO STRICT at FROM evergrant.connection c WHERE c.id = NEW.connection_id;
  {_CHANGE}
  VALUES (OLD.tenant, 'connection', at, 'oauth', OLD.status, -1),
         (NEW.tenant, 'connection', at, 'oauth', NEW.status, 1);
  RETURN NULL;
END $$
"""

_CREDENTIAL_TURNED = f"""
CREATE FUNCTION evergrant.tally_credential_turned() RETURNS trigger LANGUAGE plpgsql {_OWNER} AS $$
BEGIN
  {_CHANGE}
  VALUES (OLD.tenant, 'credential', OLD.provider, OLD.kind, OLD.state, -1),
         (NEW.tenant, 'credential', NEW.provider, NEW.kind, NEW.state, 1);
  RETURN NULL;
END $$
"""

_CONNECTION_TURNED = f"""
CREATE FUNCTION evergrant.tally_connection_turned() RETURNS trigger LANGUAGE plpgsql {_BY_KEY} AS $$
BEGIN
  -- Whoever turns the grant reads the provider while holding its row: the lock lets one of us see what the other did.
  PERFORM FROM evergrant.oauth_grant g WHERE g.connection_id = NEW.id FOR UPDATE;
  {_CHANGE}
  SELECT g.tenant, 'connection', n.provider, 'oauth', g.status, n.amount
    FROM evergrant.oauth_grant g, (VALUES (OLD.provider, -1), (NEW.provider, 1)) AS n(provider, amount)
   WHERE g.connection_id = NEW.id;
  RETURN NULL;
END $$
"""

_CONNECTION_GOES = f"""
CREATE FUNCTION evergrant.tally_connection_goes() RETURNS trigger LANGUAGE plpgsql {_BY_KEY} AS $$
BEGIN
  -- The foreign key would remove the grant when nobody could say any more which provider it was of.
  DELETE FROM evergrant.oauth_grant g WHERE g.connection_id = OLD.id;
  RETURN OLD;
END $$
"""

_EMPTIED = f"""
CREATE FUNCTION evergrant.tally_emptied() RETURNS trigger LANGUAGE plpgsql {_OWNER} AS $$
BEGIN
  -- Nobody else has rows of the table in hand: what there was is taken away, by one more difference.
  {_CHANGE}
  SELECT t.tenant, t.what, t.provider, t.kind, t.state, -sum(t.amount)
    FROM (SELECT * FROM evergrant.tally WHERE tenant <> '*' UNION ALL SELECT * FROM evergrant.tally_change) t
   WHERE t.what = TG_ARGV[0] GROUP BY 1, 2, 3, 4, 5 HAVING sum(t.amount) <> 0;
  RETURN NULL;
END $$
"""

LOCK = 1163285569
"""Advisory lock ("EVTA"): one adds up, or counts anew, at a time."""

_FOLD = f"""
CREATE FUNCTION evergrant.tally_fold(batch integer, OUT folded bigint, OUT more boolean)
LANGUAGE plpgsql {_OWNER} AS $$
-- What is taken away is added in the same transaction, so who reads both at one instant finds the sum as it was.
BEGIN
  folded := 0; more := false;
  IF NOT pg_try_advisory_xact_lock({LOCK}) THEN RETURN; END IF;  -- somebody is at it
  WITH taken AS (
    DELETE FROM evergrant.tally_change c
     WHERE c.ctid = ANY (ARRAY(SELECT n.ctid FROM evergrant.tally_change n LIMIT batch)) RETURNING c.*),
  sums AS (
    SELECT CASE WHEN grouping(t.tenant) = 1 THEN '*' ELSE t.tenant END AS tenant, t.what, t.provider, t.kind, t.state,
           sum(t.amount) AS amount
      FROM taken t
     GROUP BY GROUPING SETS ((t.tenant, t.what, t.provider, t.kind, t.state), (t.what, t.provider, t.kind, t.state))
    HAVING sum(t.amount) <> 0),
  added AS (
    INSERT INTO evergrant.tally AS a (tenant, what, provider, kind, state, amount) SELECT s.* FROM sums s
        ON CONFLICT (tenant, what, provider, kind, state) DO UPDATE SET amount = a.amount + EXCLUDED.amount)
  SELECT count(*), count(*) = batch INTO folded, more FROM taken;
END $$
"""

RECOUNT = f"""
CREATE FUNCTION evergrant.tally_recount()
RETURNS TABLE (tenant text, what text, provider text, kind text, state text, counted bigint, kept bigint)
LANGUAGE plpgsql {_OWNER} AS $$
-- A writer's rows and its differences become visible together, so at any instant whatever the two disagree about is
-- not of somebody who is writing: it can be mended beside all of them, by one more difference.
#variable_conflict use_column
BEGIN
  PERFORM pg_advisory_xact_lock({LOCK});
  RETURN QUERY
  WITH there AS (
    SELECT g.tenant, 'connection'::text AS what, c.provider, 'oauth'::text AS kind, g.status AS state,
           count(*) AS number
      FROM evergrant.oauth_grant g JOIN evergrant.connection c ON c.id = g.connection_id GROUP BY 1, 2, 3, 4, 5
     UNION ALL
    SELECT c.tenant, 'credential', c.provider, c.kind, c.state, count(*) FROM evergrant.credential c
     GROUP BY 1, 2, 3, 4, 5),
  said AS (
    SELECT t.tenant, t.what, t.provider, t.kind, t.state, sum(t.amount)::bigint AS number
      FROM (SELECT * FROM evergrant.tally a WHERE a.tenant <> '*' UNION ALL SELECT * FROM evergrant.tally_change) t
     GROUP BY 1, 2, 3, 4, 5),
  wrong AS MATERIALIZED (
    SELECT tenant, what, provider, kind, state,
           coalesce(there.number, 0) AS counted, coalesce(said.number, 0) AS kept
      FROM there FULL JOIN said USING (tenant, what, provider, kind, state)
     WHERE coalesce(there.number, 0) <> coalesce(said.number, 0)),
  totals AS (
    SELECT t.what, t.provider, t.kind, t.state, sum(t.amount) FILTER (WHERE t.tenant <> '*') AS of_all,
           sum(t.amount) FILTER (WHERE t.tenant = '*') AS said
      FROM evergrant.tally t GROUP BY 1, 2, 3, 4),
  wrong_totals AS MATERIALIZED (
    SELECT '*'::text, t.what, t.provider, t.kind, t.state, coalesce(t.of_all, 0)::bigint, coalesce(t.said, 0)::bigint
      FROM totals t WHERE coalesce(t.of_all, 0) <> coalesce(t.said, 0)),
  mended AS (
    {_CHANGE} SELECT w.tenant, w.what, w.provider, w.kind, w.state, w.counted - w.kept FROM wrong w),
  mended_totals AS (
    INSERT INTO evergrant.tally AS a (tenant, what, provider, kind, state, amount)
    SELECT w.* FROM (SELECT '*'::text, t.what, t.provider, t.kind, t.state, coalesce(t.of_all, 0) FROM totals t
                      WHERE coalesce(t.of_all, 0) <> coalesce(t.said, 0)) w
        ON CONFLICT (tenant, what, provider, kind, state) DO UPDATE SET amount = EXCLUDED.amount)
  SELECT * FROM wrong UNION ALL SELECT * FROM wrong_totals;
END $$
"""

CREATE = (
    _many("tally_grants_come", "", _GRANTS, _BY_KEY), _many("tally_grants_go", "-", _GRANTS, _BY_KEY), _GRANT_TURNED,
    _many("tally_credentials_come", "", _CREDENTIALS, _OWNER), _many("tally_credentials_go", "-", _CREDENTIALS, _OWNER),
    _CREDENTIAL_TURNED, _CONNECTION_TURNED, _CONNECTION_GOES, _EMPTIED, _FOLD, RECOUNT,
)  # fmt: skip


def _different(*names: str) -> str:
    return " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in names)


_TRIGGERS = (
    ("oauth_grant", "tally_come", "AFTER INSERT", "REFERENCING NEW TABLE AS changed", "tally_grants_come()"),
    ("oauth_grant", "tally_go", "AFTER DELETE", "REFERENCING OLD TABLE AS changed", "tally_grants_go()"),
    ("oauth_grant", "tally_emptied", "AFTER TRUNCATE", "", "tally_emptied('connection')"),
    ("oauth_grant", "tally_turned", "AFTER UPDATE",
     f"FOR EACH ROW WHEN ({_different('status', 'tenant')})", "tally_grant_turned()"),
    ("connection", "tally_turned", "AFTER UPDATE",
     f"FOR EACH ROW WHEN ({_different('provider')})", "tally_connection_turned()"),
    ("connection", "tally_goes", "BEFORE DELETE", "FOR EACH ROW", "tally_connection_goes()"),
    ("credential", "tally_come", "AFTER INSERT", "REFERENCING NEW TABLE AS changed", "tally_credentials_come()"),
    ("credential", "tally_go", "AFTER DELETE", "REFERENCING OLD TABLE AS changed", "tally_credentials_go()"),
    ("credential", "tally_emptied", "AFTER TRUNCATE", "", "tally_emptied('credential')"),
    ("credential", "tally_turned", "AFTER UPDATE",
     f"FOR EACH ROW WHEN ({_different('state', 'tenant', 'provider', 'kind')})", "tally_credential_turned()"),
)  # fmt: skip
TRIGGERS = tuple(
    f"CREATE TRIGGER {name} {when} ON evergrant.{table} {how} EXECUTE FUNCTION evergrant.{function}"
    for table, name, when, how, function in _TRIGGERS
)
DROP_TRIGGERS = tuple(f"DROP TRIGGER {name} ON evergrant.{table}" for table, name, *_ in _TRIGGERS)
FUNCTIONS_OF_THE_OWNER = (*dict.fromkeys(each[4].partition("(")[0] + "()" for each in _TRIGGERS), *CALLED)
"""Those of triggers too: who may call one could hang it on a table of his own, and have it act in the owner's name."""
DROP = tuple(f"DROP FUNCTION evergrant.{function}" for function in FUNCTIONS_OF_THE_OWNER)
