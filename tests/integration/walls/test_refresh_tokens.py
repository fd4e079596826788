"""No way that SQL knows leads a web app's role to a refresh token, or to what is kept for revocation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.integration.walls.house import as_role
from tests.integration.walls.rows import put_in

GRANT, CANDIDATE, REVOCATION = "evergrant.oauth_grant", "evergrant.candidate", "evergrant.revocation"
WAYS = {
    "the column": f"SELECT refresh_envelope FROM {GRANT}",
    "every column": f"SELECT * FROM {GRANT}",
    "TABLE": f"TABLE {GRANT}",
    "the row as a value": f"SELECT g FROM {GRANT} g",
    "the row as text": f"SELECT g::text FROM {GRANT} g",
    "the row as JSON": f"SELECT to_jsonb(g) FROM {GRANT} g",
    "a column of the row": f"SELECT (g).refresh_envelope FROM {GRANT} g",
    "its length": f"SELECT length(refresh_envelope) FROM {GRANT}",
    "one bit of it": f"SELECT count(*) FROM {GRANT} WHERE get_bit(refresh_envelope, 0) = 1",
    "whether there is one": f"SELECT count(*) FROM {GRANT} WHERE refresh_envelope IS NULL",
    "their order": f"SELECT connection_id FROM {GRANT} ORDER BY refresh_envelope",
    "their groups": f"SELECT count(*) FROM {GRANT} GROUP BY refresh_envelope",
    "an aggregate": f"SELECT max(refresh_envelope) FROM {GRANT}",
    "a join": f"SELECT 1 FROM {GRANT} g JOIN {GRANT} h USING (refresh_envelope)",
    "a natural join": f"SELECT 1 FROM {GRANT} g NATURAL JOIN {GRANT} h",
    "RETURNING of a change": f"UPDATE {GRANT} SET reason = 'x' RETURNING refresh_envelope",
    "RETURNING all of a change": f"UPDATE {GRANT} SET reason = 'x' RETURNING *",
    "RETURNING what was": f"UPDATE {GRANT} SET refresh_envelope = 'x' RETURNING old.refresh_envelope",
    "another column of the row": f"UPDATE {GRANT} SET access_envelope = refresh_envelope",
    "a readable text of the row": f"UPDATE {GRANT} SET reason = encode(refresh_envelope, 'hex')",
    "a subquery of a change": f"UPDATE {GRANT} SET reason = (SELECT max(encode(refresh_envelope, 'hex')) FROM {GRANT})",
    "a condition of a change": f"UPDATE {GRANT} SET reason = 'x' WHERE refresh_envelope > 'R'",
    "another table": "UPDATE evergrant.connection SET account = encode(g.refresh_envelope, 'hex')"
    f" FROM {GRANT} g WHERE g.connection_id = id",
    "the row that stands in the way": f"INSERT INTO {GRANT} SELECT connection_id, tenant, status, reason, consent,"
    f" version, data_key_id, client_id, token_type, expires_at, refreshed_at, stale_at FROM {GRANT}"
    " ON CONFLICT (connection_id) DO UPDATE SET access_envelope = oauth_grant.refresh_envelope",
    "what was put in": f"INSERT INTO {GRANT} SELECT connection_id, tenant, status, reason, consent, version,"
    f" data_key_id, client_id, token_type, expires_at, refreshed_at, stale_at FROM {GRANT}"
    " ON CONFLICT (connection_id) DO UPDATE SET access_envelope = excluded.refresh_envelope",
    "MERGE": f"MERGE INTO {GRANT} g USING (SELECT 1) x ON true WHEN MATCHED THEN UPDATE SET"
    " access_envelope = g.refresh_envelope",
    "COPY of the table": f"COPY {GRANT} TO STDOUT",
    "COPY of the column": f"COPY {GRANT} (refresh_envelope) TO STDOUT",
    "COPY of a query": f"COPY (SELECT refresh_envelope FROM {GRANT}) TO STDOUT",
    "COPY to a program": f"COPY (SELECT 1 FROM {GRANT}) TO PROGRAM 'cat'",
    "EXPLAIN ANALYZE": f"EXPLAIN (ANALYZE, VERBOSE) SELECT refresh_envelope FROM {GRANT}",
    "a cursor": f"DECLARE c CURSOR WITH HOLD FOR SELECT refresh_envelope FROM {GRANT}",
    "a table made of it": f"CREATE TEMP TABLE t AS SELECT refresh_envelope FROM {GRANT}",
    "a function of our own": "CREATE FUNCTION pg_temp.f() RETURNS SETOF bytea LANGUAGE sql"
    f" AS 'SELECT refresh_envelope FROM {GRANT}';; SELECT pg_temp.f()",
    "a view of our own": f"CREATE TEMP VIEW v AS SELECT refresh_envelope FROM {GRANT};; SELECT * FROM v",
    "a block": f"DO $$ BEGIN PERFORM refresh_envelope FROM {GRANT}; END $$",
    "a function of ours, in our schema": "CREATE FUNCTION evergrant.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a trigger": f"CREATE TRIGGER t AFTER UPDATE ON {GRANT} EXECUTE FUNCTION evergrant.audit_refuse()",
    "a rule": f"CREATE RULE r AS ON SELECT TO {GRANT} DO INSTEAD SELECT 1",
    "a policy": f"CREATE POLICY p ON {GRANT} USING (true)",
    "no policies": f"ALTER TABLE {GRANT} DISABLE ROW LEVEL SECURITY",
    "statistics": "SELECT 1/count(*) FROM pg_statistic",
    "the file": "SELECT pg_read_binary_file(pg_relation_filepath('evergrant.oauth_grant'))",
    "the log of changes": "SELECT pg_create_logical_replication_slot('s', 'test_decoding')",
    "kept answers": f"SELECT refresh_envelope FROM {CANDIDATE}",
    "kept answers' access tokens": f"SELECT access_envelope FROM {CANDIDATE}",
    "RETURNING of kept answers": f"DELETE FROM {CANDIDATE} RETURNING refresh_envelope",
    "kept answers, put in": f"INSERT INTO {CANDIDATE} SELECT * FROM {CANDIDATE}",
    "kept answers, changed": f"UPDATE {CANDIDATE} SET refresh_envelope = ''",
    "what is to be revoked": f"SELECT FROM {REVOCATION}",
    "… put in, and given back": f"INSERT INTO {REVOCATION} (tenant) VALUES ('a') RETURNING refresh_envelope",
    "… put in from there": f"INSERT INTO {REVOCATION} (tenant) SELECT tenant FROM {REVOCATION}",
    "… put in as tried": f"INSERT INTO {REVOCATION} (tenant, attempt) VALUES ('a', 20)",
    "… taken away": f"DELETE FROM {REVOCATION}",
    "… changed": f"UPDATE {REVOCATION} SET attempt = 0",
    "… locked": f"DO $$ BEGIN LOCK {REVOCATION}; END $$",
}


@pytest.fixture(scope="module")
def ours(granted_url: str, granted: psycopg.Connection[Any]) -> dict[str, Any]:
    return put_in(granted, "a")


@pytest.fixture
def web(granted_url: str, roles: dict[str, str], ours: dict[str, Any]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(as_role(roles["web"], granted_url), autocommit=True) as session:
        session.execute("SELECT set_config('evergrant.tenant', 'a', false)")
        assert session.execute("SELECT access_envelope FROM evergrant.oauth_grant").fetchone() == (b"access",)
        yield session


@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_there(way: str, web: psycopg.Connection[Any], granted: psycopg.Connection[Any]) -> None:
    before = granted.execute("SELECT g::text FROM evergrant.oauth_grant g").fetchall()
    *preparing, statement = WAYS[way].split(";; ")
    for each in preparing:
        web.execute(each.encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        _try(web, statement)
    assert granted.execute("SELECT g::text FROM evergrant.oauth_grant g").fetchall() == before


def _try(web: psycopg.Connection[Any], statement: str) -> None:
    if statement.startswith("COPY"):
        with web.cursor().copy(statement.encode()) as rows:
            list(rows)
    else:
        web.execute(statement.encode())


def test_rights_are_not_handed_on(web: psycopg.Connection[Any], roles: dict[str, str]) -> None:
    """PostgreSQL warns whoever grants what is not theirs to grant, and grants nothing."""
    for what in ("SELECT", "SELECT (refresh_envelope)", "SELECT (access_envelope)"):
        try:
            web.execute(f"GRANT {what} ON {GRANT} TO {roles['auditor']}".encode())
        except psycopg.errors.InsufficientPrivilege:
            continue
    asked = "SELECT has_any_column_privilege(%s, %s, 'SELECT')"
    assert web.execute(asked, (roles["auditor"], GRANT)).fetchone() == (False,)


def test_statistics_tell_nothing(web: psycopg.Connection[Any], granted: psycopg.Connection[Any]) -> None:
    granted.execute("ANALYZE evergrant.oauth_grant")
    shown = "SELECT attname FROM pg_stats WHERE tablename = 'oauth_grant'"
    assert granted.execute(shown).fetchall()
    assert web.execute(shown).fetchall() == []


def test_a_refused_change_tells_nothing_of_the_row(web: psycopg.Connection[Any]) -> None:
    """PostgreSQL shows the row that fails a constraint to whoever may see all of it."""
    with pytest.raises(psycopg.errors.NotNullViolation) as refused:
        web.execute("UPDATE evergrant.oauth_grant SET status = NULL")
    assert "REFRESH" not in str(refused.value)
    assert refused.value.diag.message_detail is None


def test_functions_of_the_owner_are_not_led_astray(
    web: psycopg.Connection[Any], granted: psycopg.Connection[Any], ours: dict[str, Any]
) -> None:
    """Whatever stands in front of them by the same name, they use what they were written for."""
    web.execute("CREATE TEMP TABLE revocation (LIKE evergrant.connection)")
    web.execute("CREATE TEMP TABLE oauth_grant (connection_id uuid, tenant text, refresh_envelope bytea)")
    web.execute("CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'b' $$")
    web.execute("CREATE FUNCTION pg_temp.nullif(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'b' $$")
    web.execute("CREATE FUNCTION pg_temp.texteq(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$")
    web.execute("CREATE OPERATOR pg_temp.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.texteq)")
    web.execute("SET search_path = pg_temp, evergrant, pg_catalog")
    other = put_in(granted, "b")
    assert web.execute("SELECT evergrant.revoke_later(%s)", (other["id"],)).fetchone() == (0,)
    assert web.execute("SELECT count(*) FROM evergrant.connection WHERE tenant OPERATOR(pg_temp.=) 'b'").fetchone() == (
        1,
    )
    assert web.execute("SELECT evergrant.revoke_later(%s)", (ours["id"],)).fetchone() == (2,)
    assert granted.execute("SELECT count(*) FROM evergrant.revocation WHERE tenant = 'a'").fetchone() == (3,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        web.execute("ALTER FUNCTION evergrant.revoke_later(uuid) RESET search_path")
