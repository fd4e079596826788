"""Roles that may add to the audit and never take from it: a whole Evergrant works with them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tests.integration.house import House
from tests.simulator import SimulatorProcess
from tests.support import stack
from vault import ConfigurationError, Maintenance, Status

REFUSED = [
    "UPDATE evergrant.audit SET event = 'x'",
    "DELETE FROM evergrant.audit",
    "TRUNCATE evergrant.audit",
    "ALTER TABLE evergrant.audit DISABLE TRIGGER ALL",
    "DROP TABLE evergrant.audit",
    "INSERT INTO evergrant.audit (tenant, event, at) VALUES ('default', 'x', now() - interval '2 years')",
    "INSERT INTO evergrant.audit (tenant, event, xid) VALUES ('default', 'x', '3')",
    "INSERT INTO evergrant.audit_link VALUES ('default', 1000, 1000, '')",
    "UPDATE evergrant.audit_link SET digest = ''",
    "DELETE FROM evergrant.audit_link",
    "TRUNCATE evergrant.audit_link",
    "UPDATE evergrant.audit_head SET seq = 0",
    "INSERT INTO evergrant.audit_start VALUES ('default', 1, '')",
    "UPDATE evergrant.audit_cursor SET id = 0",
    "SET session_replication_role = replica",
    "CREATE TABLE evergrant.mine ()",
]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(tmp_path_factory.mktemp("simulator") / "journal.jsonl") as process:
        yield process


@pytest.fixture
def role(postgres: stack.DatabaseServer) -> Iterator[str]:
    """A role that may log in, and nothing else; gone after the database is."""
    name = f'evergrant "{uuid4().hex[:8]}'
    with psycopg.connect(postgres.url, autocommit=True) as session:
        session.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'word'").format(sql.Identifier(name)))
    yield name
    with psycopg.connect(postgres.url, autocommit=True) as session:
        session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def owner(role: str, database_url: str, tmp_path: Path) -> Iterator[Maintenance]:
    made = Maintenance.from_env(database_url=database_url, redis_url="redis://127.0.0.1:1/0", home=tmp_path)
    yield made
    made.close()


def _as(role: str, url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role.replace(' ', '%20').replace(chr(34), '%22')}:word@{host}"))


def test_a_whole_house_works_and_the_audit_stands(
    role: str, owner: Maintenance, database_url: str, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    """Connect, get, refresh, rotate, disconnect; and nothing that was told can be taken back."""
    owner.grant_rights(role, "worker")
    house = House(database_url, simulator, tmp_path, VAULT_DATABASE_URL=_as(role, database_url))
    each, other = house.connect(metadata={"a": "b"}), house.connect("otto")
    house.make_due(each)
    house.worker.refresh_scan()
    assert house.events(each)[-1] == "oauth.refreshed"
    assert house.vault.get(each).access_token.reveal() == house.newest_answer(each)
    assert house.worker.rotate_data_keys(timedelta(0)) == 3
    assert house.worker.keys.verify().passed
    house.vault.disconnect(other)
    house.worker.refresh_scan()
    house.worker.check()
    house.worker.cleanup()
    assert house.worker.audit.chain() > 5
    assert house.worker.audit.verify(anchors=house.worker.audit.anchors()).passed
    assert house.vault.connection(each).status is Status.ACTIVE
    _refuses_everything(role, database_url)
    house.close()


def test_a_web_app_tells_and_takes_nothing_back(role: str, owner: Maintenance, database_url: str) -> None:
    """What else it may, and may not, is tried in tests/integration/walls."""
    owner.grant_rights(role, "web")
    with psycopg.connect(_as(role, database_url)) as session:
        session.execute("SELECT set_config('evergrant.tenant', 'default', true)")
        session.execute("INSERT INTO evergrant.audit (tenant, event) VALUES ('default', 'x')")
    _refuses_everything(role, database_url)


def _refuses_everything(role: str, database_url: str) -> None:
    with psycopg.connect(database_url) as session:
        before = session.execute("SELECT count(*) FROM evergrant.audit").fetchone()
    assert before != (0,)
    with psycopg.connect(_as(role, database_url), autocommit=True) as session:
        session.execute("SELECT set_config('evergrant.tenant', 'default', false)")
        for statement in REFUSED:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement.encode())
    with psycopg.connect(database_url) as session:
        assert session.execute("SELECT count(*) FROM evergrant.audit").fetchone() == before


def test_an_auditor_reads_the_audit_and_nothing_else(
    role: str, owner: Maintenance, database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(database_url) as session:
        session.execute("INSERT INTO evergrant.audit (tenant, event) SELECT 'default', 'x' FROM generate_series(1, 9)")
    owner.audit.chain()
    owner.grant_rights(role, "worker")
    owner.grant_rights(role, "auditor")
    url = _as(role, database_url)
    auditor = Maintenance.from_env(database_url=url, redis_url="redis://127.0.0.1:1/0", home=tmp_path / "theirs")
    found = auditor.audit.verify(anchors=auditor.audit.anchors())
    assert (found.rows, found.anchors, found.passed) == (9, 1, True)
    lines: list[str] = []
    assert auditor.audit.export(lines.append).rows == 9
    assert len(list(auditor.audit.tail(5))) == 5
    auditor.close()
    with psycopg.connect(url, autocommit=True) as session:
        told = "INSERT INTO evergrant.audit (tenant, event) VALUES ('default', 'x')"
        for statement in [*REFUSED, told, "SELECT FROM evergrant.oauth_grant", "SELECT evergrant.audit_chain(1)",
                          "SELECT evergrant.audit_forget('2 years', 1)"]:  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement.encode())


def test_a_worker_cannot_have_what_is_young_forgotten(role: str, owner: Maintenance, database_url: str) -> None:
    owner.grant_rights(role, "worker")
    with psycopg.connect(_as(role, database_url), autocommit=True) as session:
        session.execute("INSERT INTO evergrant.audit (tenant, event) VALUES ('default', 'x')")
        session.execute("SELECT evergrant.audit_chain(10)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="31 days at least"):
            session.execute("SELECT evergrant.audit_forget('1 day', 10)")
        session.execute("SELECT set_config('evergrant.audit_forgetting', pg_current_xact_id()::text, false)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("DELETE FROM evergrant.audit")


def test_roles_whom_no_right_holds_back_are_refused(role: str, owner: Maintenance, database_url: str) -> None:
    with pytest.raises(ConfigurationError, match="there is no role 'nobody'"):
        owner.grant_rights("nobody", "worker")
    with pytest.raises(ConfigurationError, match="there is no kind of process called 'king'"):
        owner.grant_rights(role, "king")
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(sql.SQL("ALTER ROLE {} SUPERUSER").format(sql.Identifier(role)))
        with pytest.raises(ConfigurationError, match="is a superuser"):
            owner.grant_rights(role, "worker")
        session.execute(sql.SQL("ALTER ROLE {} NOSUPERUSER").format(sql.Identifier(role)))
        session.execute(sql.SQL("ALTER SCHEMA evergrant OWNER TO {}").format(sql.Identifier(role)))
        with pytest.raises(ConfigurationError, match="the owner of the tables"):
            owner.grant_rights(role, "worker")
        session.execute("ALTER SCHEMA evergrant OWNER TO CURRENT_USER")


def test_only_the_owner_grants(role: str, owner: Maintenance, database_url: str, tmp_path: Path) -> None:
    owner.grant_rights(role, "auditor")
    other = Maintenance.from_env(
        database_url=_as(role, database_url), redis_url="redis://127.0.0.1:1/0", home=tmp_path / "theirs"
    )
    with pytest.raises(ConfigurationError):
        other.grant_rights(role, "worker")
    other.close()
