"""The functions and triggers that count sessions and validations, in the owner's name; see ``tally_functions``.

They are as revision 0011 made them; what changes one is a revision of its own. Sessions are rows, and counted as those
of other tables are. Validations leave no rows: processes hand in how many there were, and nobody can count them anew.
"""

from __future__ import annotations

_OWNER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
_CHANGE = "INSERT INTO evergrant.tally_change (tenant, what, provider, kind, state, amount)"
LOCK = 1163285569
"""As of ``tally_functions``: one adds up, or counts anew, at a time."""


def _state(row: str) -> str:
    return f"CASE WHEN {row}.revoked_at IS NULL THEN {row}.subscription ELSE 'revoked' END"


def _many(name: str, sign: str) -> str:
    """A trigger for all rows of a statement that were put in or taken out."""
    return f"""
CREATE FUNCTION evergrant.{name}() RETURNS trigger LANGUAGE plpgsql {_OWNER} AS $$
BEGIN
  {_CHANGE}
  SELECT r.tenant, 'session', '', 'session', {_state("r")}, {sign}count(*) FROM changed r GROUP BY 1, 5;
  RETURN NULL;
END $$
"""


_TURNED = f"""
CREATE FUNCTION evergrant.tally_session_turned() RETURNS trigger LANGUAGE plpgsql {_OWNER} AS $$
BEGIN
  {_CHANGE}
  VALUES (OLD.tenant, 'session', '', 'session', {_state("OLD")}, -1),
         (NEW.tenant, 'session', '', 'session', {_state("NEW")}, 1);
  RETURN NULL;
END $$
"""

_VALIDATIONS = f"""
CREATE FUNCTION evergrant.tally_validations(tenants text[], kinds text[], states text[], amounts bigint[])
RETURNS void LANGUAGE sql {_OWNER} AS $$
-- What is handed in can only be added, and only to figures of validations.
{_CHANGE}
SELECT v.tenant, 'validation', '', v.kind, v.state, v.amount
  FROM unnest(tenants, kinds, states, amounts) AS v(tenant, kind, state, amount)
 WHERE v.amount > 0 AND v.tenant <> '*'
$$
"""

_RECOUNT = f"""
CREATE OR REPLACE FUNCTION evergrant.tally_recount()
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
     GROUP BY 1, 2, 3, 4, 5
     UNION ALL
    SELECT s.tenant, 'session', '', 'session', {_state("s")}, count(*) FROM evergrant.user_sessions s
     GROUP BY 1, 2, 3, 4, 5),
  said AS (
    SELECT t.tenant, t.what, t.provider, t.kind, t.state, sum(t.amount)::bigint AS number
      FROM (SELECT * FROM evergrant.tally a WHERE a.tenant <> '*' UNION ALL SELECT * FROM evergrant.tally_change) t
     WHERE t.what <> 'validation'
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
    _many("tally_sessions_come", ""), _many("tally_sessions_go", "-"), _TURNED, _VALIDATIONS, _RECOUNT,
)  # fmt: skip
_DIFFERENT = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in ("tenant", "subscription", "revoked_at"))
_TRIGGERS = (
    ("tally_come", "AFTER INSERT", "REFERENCING NEW TABLE AS changed", "tally_sessions_come()"),
    ("tally_go", "AFTER DELETE", "REFERENCING OLD TABLE AS changed", "tally_sessions_go()"),
    ("tally_emptied", "AFTER TRUNCATE", "", "tally_emptied('session')"),
    ("tally_turned", "AFTER UPDATE", f"FOR EACH ROW WHEN ({_DIFFERENT})", "tally_session_turned()"),
)
TRIGGERS = tuple(
    f"CREATE TRIGGER {name} {when} ON evergrant.user_sessions {how} EXECUTE FUNCTION evergrant.{function}"
    for name, when, how, function in _TRIGGERS
)
OF_THE_OWNER = (
    "tally_sessions_come()", "tally_sessions_go()", "tally_session_turned()",
    "tally_validations(text[], text[], text[], bigint[])",
)  # fmt: skip
DROP = tuple(f"DROP FUNCTION evergrant.{function}" for function in OF_THE_OWNER)
