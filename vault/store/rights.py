"""What the database roles of our processes may do, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import psycopg
from psycopg import sql

from vault.errors import ConfigurationError
from vault.store.engine import Database
from vault.store.tables import SCHEMA, metadata

_CHAIN = ("audit_link", "audit_head", "audit_start", "audit_cursor")
_TOLD = ("tenant", "event", "connection_id", "detail")
"""What a process says of an act. Its number, its instant and its transaction are the database's to say."""
_COUNTERS = ("tally", "tally_change")
"""What is in them is the triggers' to say."""
_CLOSED = {"audit", *_CHAIN, *_COUNTERS}
_OTHERS = tuple(sorted(table.name for table in metadata.tables.values() if table.name not in _CLOSED))

_CHANGE = ("SELECT", "INSERT", "UPDATE", "DELETE")
_READ_AUDIT: Mapping[str, tuple[str, ...]] = dict.fromkeys(("audit", *_CHAIN, "schema_revision"), ("SELECT",))
_READ_COUNTERS: Mapping[str, tuple[str, ...]] = dict.fromkeys(_COUNTERS, ("SELECT",))
_TABLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "worker": {**_READ_AUDIT, **_READ_COUNTERS, **dict.fromkeys(_OTHERS, _CHANGE)},
    "web": {**_READ_AUDIT, **_READ_COUNTERS, **dict.fromkeys(_OTHERS, _CHANGE)},  # for now: it will be less
    "auditor": _READ_AUDIT,
}
"""For each kind of process what it may do with which table."""
_TELLS = frozenset({"worker", "web"})
_HANDS_IN = "tally_validations(text[], text[], text[], bigint[])"
_FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "web": (_HANDS_IN,),
    "worker": (
        _HANDS_IN,
        "audit_chain(integer)",
        "audit_forget(interval, integer)",
        "tally_fold(integer)",
        "tally_recount()",
    ),
}
PARTS: Final = tuple(_TABLES)


class Rights:
    """Rights of roles that exist; whoever grants them owns the schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def grant(self, role: str, part: str) -> None:
        """Give a role what one kind of process needs, and take from it whatever else it had in our schema.

        Raises:
            ConfigurationError: There is no such role; it could help itself to more; or we are not the owner.
            StoreUnavailable: PostgreSQL cannot be reached.
        """
        if part not in _TABLES:
            raise ConfigurationError([f"there is no kind of process called {part!r}: {', '.join(PARTS)}"])
        with self._database.translated(), self._database.connect(autocommit=False) as connection:
            problem = _problem(connection, role)
            if problem:
                raise ConfigurationError([problem])
            try:
                for statement in _statements(sql.Identifier(role), part):
                    connection.execute(statement)
            except psycopg.errors.InsufficientPrivilege:
                raise ConfigurationError([f"only the owner of the schema {SCHEMA} can grant rights on it"]) from None


def _problem(connection: psycopg.Connection[tuple[object, ...]], role: str) -> str | None:
    """What keeps a role from being held to its rights."""
    found = connection.execute(
        "SELECT r.rolsuper, pg_has_role(r.oid, n.nspowner, 'MEMBER'), n.nspowner = r.oid"
        "  FROM pg_roles r, pg_namespace n WHERE r.rolname = %s AND n.nspname = %s",
        (role, SCHEMA),
    ).fetchone()
    if found is None:
        return f"there is no role {role!r} in PostgreSQL: CREATE ROLE it first"
    superuser, member, owner = found
    if superuser:
        return f"the role {role!r} is a superuser, whom no right holds back"
    if owner or member:
        return f"the role {role!r} is, or may act as, the owner of the tables, whom no right holds back"
    return None


def _statements(role: sql.Identifier, part: str) -> list[sql.Composed]:
    schema = sql.Identifier(SCHEMA)
    statements = [
        sql.SQL("REVOKE ALL ON ALL {} IN SCHEMA {} FROM {}").format(sql.SQL(kind), schema, role)
        for kind in ("TABLES", "SEQUENCES", "FUNCTIONS")
    ]
    statements.append(sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(schema, role))
    statements.append(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, role))
    for name, rights in _TABLES[part].items():
        table = sql.Identifier(SCHEMA, name)
        listed = sql.SQL(", ").join(map(sql.SQL, rights))
        statements.append(sql.SQL("GRANT {} ON {} TO {}").format(listed, table, role))
    if part in _TELLS:
        columns = sql.SQL(", ").join(map(sql.Identifier, _TOLD))
        audit = sql.Identifier(SCHEMA, "audit")
        statements.append(sql.SQL("GRANT INSERT ({}) ON {} TO {}").format(columns, audit, role))
    for function in _FUNCTIONS.get(part, ()):
        call = sql.SQL("{}." + function).format(schema)
        statements.append(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(call, role))
    return statements
