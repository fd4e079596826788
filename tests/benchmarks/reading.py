"""`get`: a token read and opened, beside the least that can be done and beside what people write."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from itertools import cycle
from uuid import UUID

import psycopg
import sqlalchemy as sa
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.benchmarks.measure import Call, Effort, Timing, interleaved
from tests.benchmarks.report import Figure, Section, at_most
from tests.benchmarks.stage import Stage, server
from vault import Vault

CONNECTIONS = 1000
SIZES = {2048: "2 KB", 100: "100 bytes"}
LIMIT, OURS, COLD, MANY = "limit: SELECT + AES-GCM", "vault.get()", "… with a cold owner key", "get_many(100), a token"
LIMIT_THEN = "limit, beside get_many"
WALLED, UNWALLED = "… with a web app's role", "vault.get(), beside that"
TURNING, POOLED = "… for two tenants in turn", "… behind PgBouncer, in transaction mode"
CORE, ORM = "SQLAlchemy Core + AES-GCM", "ORM Session.get + Fernet column"
_PLAIN = """
CREATE TABLE plain_token (id uuid PRIMARY KEY, expires_at timestamptz NOT NULL, sealed bytea NOT NULL)
  WITH (fillfactor = 65, toast_tuple_target = 8160);
ALTER TABLE plain_token ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE TABLE orm_token (id uuid PRIMARY KEY, expires_at timestamptz NOT NULL, access_token bytea NOT NULL);
"""


def run(effort: Effort) -> list[Section]:
    """Measure."""
    with server() as (postgres, home):
        sections = []
        for size, called in SIZES.items():
            stage = Stage(postgres, home)
            timings = _measure(stage, size, effort)
            sections.append(Section("get", f"Reading a token of {called}", _figures(timings, full=size == 2048)))
        return sections


def _measure(stage: Stage, size: int, effort: Effort) -> dict[str, Timing]:
    connections = effort.of(CONNECTIONS, least=110)
    ids = stage.populate(connections, access_bytes=size)
    sealed, fernet = _peers_tables(stage, ids, size)
    random.shuffle(ids)
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(stage.url))
    vault, forgetful = stage.vault(), stage.vault(VAULT_KEY_CACHE_SIZE="1")
    try:
        contenders: dict[str, Call] = {
            LIMIT: _limit(stage, ids, sealed),
            OURS: _each(ids, lambda connection_id: vault.get(connection_id).access_token.reveal()),
            COLD: _each(ids, lambda connection_id: forgetful.get(connection_id).access_token.reveal()),
            CORE: _core(engine, ids, sealed),
            ORM: _orm(engine, ids, fernet),
        }
        for connection_id in ids:
            vault.get(connection_id)
        timings = interleaved(contenders, calls=100, rounds=effort.of(100, least=9))
        timings |= _walled(stage, vault, ids, effort)
        hundreds = cycle([ids[n : n + 100] for n in range(0, len(ids) - 99, 100)])
        together = {LIMIT: contenders[LIMIT], MANY: lambda: vault.get_many(next(hundreds))}
        beside = interleaved(together, calls=20, rounds=effort.of(40, least=9))
        timings |= {MANY: beside[MANY].for_each_of(100), LIMIT_THEN: beside[LIMIT]}
    finally:
        vault.close()
        forgetful.close()
        engine.dispose()
    return timings


def _walled(stage: Stage, vault: Vault, ids: list[UUID], effort: Effort) -> dict[str, Timing]:
    """Read as a role that policies hold to one tenant, beside the owner, whom they do not."""
    url = stage.web_url()
    web, pooled = stage.vault(VAULT_DATABASE_URL=url), stage.vault(VAULT_DATABASE_URL=url, VAULT_DATABASE_PREPARED="0")

    def turning(connection_id: UUID) -> object:
        for kept in web._wiring.database.lane._pool.idle:
            kept.tenant = "another"  # as after another's read: ours brings its tenant along
        return web.get(connection_id).access_token.reveal()

    def reading(by: Vault) -> Call:
        return _each(ids, lambda connection_id: by.get(connection_id).access_token.reveal())

    contenders = {UNWALLED: reading(vault), WALLED: reading(web), TURNING: _each(ids, turning), POOLED: reading(pooled)}
    try:
        for connection_id in ids:
            web.get(connection_id), pooled.get(connection_id)
        return interleaved(contenders, calls=100, rounds=effort.of(60, least=9))
    finally:
        web.close()
        pooled.close()


def _figures(timings: dict[str, Timing], *, full: bool) -> list[Figure]:
    limit, orm = timings[LIMIT], timings[ORM]

    def beside(name: str, than: Timing = limit, *, goal: tuple[float, float | None] | None = None) -> Figure:
        bound = at_most(*goal) if goal else None
        return Figure(name, timings[name].median, "µs", timings[name].beside(than), "the limit", bound)

    ours = timings[OURS]
    rows = [beside(LIMIT), beside(OURS, goal=(1.3, 1.5))]
    rows += [
        Figure("… 99th percentile", ours.p99, "µs", ours.p99 / limit.p99, "the limit's own", at_most(1.5)),
        Figure("… CPU of this process", ours.cpu, "µs", ours.cpu_beside(limit), "the limit's", at_most(1.3)),
        Figure("… of the ORM's time", ours.median, "µs", ours.beside(orm), "ORM", at_most(0.12)),
        beside(COLD, goal=(1.5, None)),
        beside(MANY, timings[LIMIT_THEN], goal=(0.4, None)),
    ]
    owner = timings[UNWALLED]
    for name, goal in ((WALLED, 1.05), (TURNING, None), (POOLED, None)):
        ratio = timings[name].beside(owner)
        rows.append(Figure(name, timings[name].median, "µs", ratio, "the owner's", at_most(goal) if goal else None))
    return [*rows, beside(CORE), beside(ORM)] if full else rows[:3]


# ------------------------------------------------------------------------------------------------------------ peers


def _peers_tables(stage: Stage, ids: list[UUID], size: int) -> tuple[AESGCM, Fernet]:
    """Put the same number of tokens of the same size where the peers read them."""
    bare, fernet = AESGCM(os.urandom(32)), Fernet(Fernet.generate_key())
    with stage.connect() as connection:
        connection.execute(_PLAIN)
        for connection_id in ids:
            nonce, token = os.urandom(12), os.urandom(size // 2).hex().encode()
            connection.execute(
                "INSERT INTO plain_token VALUES (%s, now(), %s)",
                (connection_id, nonce + bare.encrypt(nonce, token, connection_id.bytes)),
            )
            connection.execute("INSERT INTO orm_token VALUES (%s, now(), %s)", (connection_id, fernet.encrypt(token)))
        connection.execute("VACUUM ANALYZE")
    return bare, fernet


def _each(ids: list[UUID], act: Callable[[UUID], object]) -> Call:
    """Return a call that acts on the next id each time."""
    turn = cycle(ids).__next__
    return lambda: act(turn())


def _opened(bare: AESGCM, connection_id: UUID, sealed: bytes) -> str:
    return bare.decrypt(sealed[:12], sealed[12:], connection_id.bytes).decode()


def _limit(stage: Stage, ids: list[UUID], bare: AESGCM) -> Call:
    connection = psycopg.connect(stage.url, autocommit=True, prepare_threshold=0)
    cursor = connection.cursor(binary=True)
    query = b"SELECT sealed, expires_at FROM plain_token WHERE id = %b"

    def read(connection_id: UUID) -> str:
        row = cursor.execute(query, (connection_id,)).fetchone()
        assert row is not None
        return _opened(bare, connection_id, row[0])

    return _each(ids, read)


def _core(engine: sa.Engine, ids: list[UUID], bare: AESGCM) -> Call:
    table = sa.table("plain_token", sa.column("id", sa.Uuid), sa.column("sealed"), sa.column("expires_at"))
    statement = sa.select(table.c.sealed, table.c.expires_at).where(table.c.id == sa.bindparam("id"))

    def read(connection_id: UUID) -> str:
        with engine.connect() as connection:
            row = connection.execute(statement, {"id": connection_id}).one()
        return _opened(bare, connection_id, row.sealed)

    return _each(ids, read)


class _Base(DeclarativeBase):
    pass


class _Encrypted(sa.TypeDecorator[str]):
    """The encrypted column of every tutorial."""

    impl = sa.LargeBinary
    cache_ok = True
    fernet: Fernet

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> bytes | None:
        return None if value is None else self.fernet.encrypt(value.encode())

    def process_result_value(self, value: bytes | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else self.fernet.decrypt(value).decode()


class _OrmToken(_Base):
    __tablename__ = "orm_token"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    expires_at: Mapped[str]
    access_token: Mapped[str] = mapped_column(_Encrypted)


def _orm(engine: sa.Engine, ids: list[UUID], fernet: Fernet) -> Call:
    _Encrypted.fernet = fernet

    def read(connection_id: UUID) -> str:
        with Session(engine) as session:
            token = session.get(_OrmToken, connection_id)
            assert token is not None
            return token.access_token

    return _each(ids, read)
