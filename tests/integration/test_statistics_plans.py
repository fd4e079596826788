"""What figures cost follows from what is found: read from the plans, and from the pages that were touched."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tests.integration.house import House
from vault.store.tallies import PLANS, STATEMENTS

STORED = 20_000
BIG = {"oauth_grant", "connection", "credential", "schedule"}
MOST_PAGES = 60
"""Of some two thousand that these tables have here."""
FILL = f"""
INSERT INTO evergrant.tenant_key (id, tenant, kek_id, algorithm, state, wrapped)
VALUES ('00000000-0000-0000-0000-000000000001', 'a', 'kek', 'fake', 'current', '');
INSERT INTO evergrant.data_key (id, tenant, owner, provider, purpose, state, tenant_key_id, wrapped)
VALUES ('00000000-0000-0000-0000-000000000002', 'a', 'o', 'acme', 'grant', 'current',
        '00000000-0000-0000-0000-000000000001', '');
CREATE TEMP TABLE made AS
SELECT gen_random_uuid() AS id, n, 't' || mod(n, 50) AS tenant FROM generate_series(1, {STORED}) n;
INSERT INTO evergrant.connection (id, tenant, owner, provider) SELECT id, tenant, 'o' || n, 'acme' FROM made;
INSERT INTO evergrant.oauth_grant (connection_id, tenant, status, version, data_key_id, client_id, expires_at,
                                   refreshed_at, stale_at, access_envelope)
SELECT id, tenant, 'active', 1, '00000000-0000-0000-0000-000000000002', 'ours', now() + interval '1 h', now(),
       now() + interval '1 h', decode(repeat('00', 500), 'hex') FROM made;
INSERT INTO evergrant.schedule (connection_id, client, next_at, attempt, failures, lease_until)
SELECT id, 'acme', now() + (CASE WHEN n <= 20 THEN -2 ELSE n END) * interval '1 h', (n <= 5)::int,
       CASE WHEN n BETWEEN 6 AND 8 THEN 2 ELSE 0 END,
       CASE WHEN n <= 5 THEN now() + interval '1 h' ELSE to_timestamp(0) END
  FROM made;
INSERT INTO evergrant.credential (id, tenant, owner, provider, kind, name, state, version, latest, expires_at,
                                  rotate_at)
SELECT gen_random_uuid(), tenant, 'o', 'acme', 'api_key', '', 'active', 1, 1,
       CASE WHEN n <= 30 THEN now() + interval '6 days' WHEN mod(n, 2) = 0 THEN now() + interval '1 year' END,
       now() + (CASE WHEN n <= 10 THEN -1 ELSE 90 END) * interval '1 day'
  FROM made;
"""


@pytest.fixture
def session(house: House) -> Iterator[psycopg.Connection[Any]]:
    """As the statistics read, on tables with many rows of which few are what is counted."""
    with psycopg.connect(house.database_url, autocommit=True) as filling:
        filling.execute(FILL)
        filling.execute("VACUUM ANALYZE")
    house.worker.fold_statistics()
    with psycopg.connect(house.database_url, autocommit=True, options=PLANS) as made:
        yield made


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from _nodes(inner)


def _plan(session: psycopg.Connection[Any], statement: str, tenant: str | None) -> dict[str, Any]:
    """The plan that serves any tenant, as it is kept and used."""
    text = statement.replace("%(tenant)s", "$1").replace("%(patience)s", "$2")
    session.execute(f"PREPARE figure (text, interval) AS {text}".encode())
    session.execute(sql.SQL("EXECUTE figure ({}, {})").format(tenant, timedelta(minutes=1)))
    explain = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE figure ({}, {})")
    row = session.execute(explain.format(tenant, timedelta(minutes=1))).fetchone()
    session.execute("DEALLOCATE figure")
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


@pytest.fixture
def web(session: psycopg.Connection[Any], house: House) -> Iterator[str]:
    """A role with the rights of a web app."""
    role = f"web_{uuid4().hex[:8]}"
    session.execute(f"CREATE ROLE {role}".encode())
    house.worker.grant_rights(role, "web")
    yield role
    session.execute("RESET ROLE")
    session.execute(f"DROP OWNED BY {role}".encode())
    session.execute(f"DROP ROLE {role}".encode())


@pytest.mark.parametrize("who", ["all tenants", "one tenant", "one tenant, with the rights of a web app"])
def test_no_figure_reads_what_it_does_not_count(
    session: psycopg.Connection[Any], house: House, web: str, who: str
) -> None:
    of_one = who != "all tenants"
    tenant = "t1" if of_one else None
    session.execute("SELECT set_config('evergrant.tenant', %s, false)", (tenant,))
    if "rights" in who:
        session.execute(f"SET ROLE {web}".encode())
    for statement in STATEMENTS:
        plan = _plan(session, statement(of_one=of_one), tenant)
        for node in _nodes(plan):
            if node.get("Relation Name") in BIG:
                assert "Index" in node["Node Type"], node
                walked = {"schedule_failing", "schedule_suspect"}  # which have nothing but what is looked for
                bounded = "Index Cond" in node or node["Index Name"] in walked or node["Actual Rows"] <= 1
                assert bounded, node
                assert node["Actual Rows"] * node["Actual Loops"] <= 200, node
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= MOST_PAGES + 5 * 20, statement.__name__
    found = house.worker.statistics(tenant)
    assert found.connections == found.credentials == (STORED // 50 if of_one else STORED)
    assert found.ends[1:] == ((1, 1, 1) if of_one else (30, 30, 10))
    assert found.refreshes == ((1, 0, 1, 0) if of_one else (20, 15, 5, 3))


def test_the_check_of_plans_notices_a_walk_over_everything(session: psycopg.Connection[Any]) -> None:
    text = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT count(*) FROM evergrant.oauth_grant WHERE status = 'active'"
    row = session.execute(text).fetchone()
    assert row is not None
    assert any(node["Actual Rows"] >= STORED for node in _nodes(row[0][0]["Plan"]) if "Relation Name" in node)
