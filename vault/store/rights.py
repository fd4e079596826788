"""What the database roles of our processes may do, and no more: rights on columns, and policies on rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import psycopg
from psycopg import sql

from vault.errors import ConfigurationError
from vault.store.engine import Database
from vault.store.shares import ALL, NONE, SHARES, WALLED, Share, named
from vault.store.tables import SCHEMA, metadata

_CHAIN = ("audit_link", "audit_head", "audit_start", "audit_cursor")
_TOLD = SHARES["audit"].add
_REVISION = "schema_revision"
_AUDITED: Final = ("audit", *_CHAIN, _REVISION)
"""What auditors read."""
_WRITTEN_FOR_US: Final = frozenset({*_AUDITED, "tally", "tally_change"})
"""What is in them is the triggers' and the owner's functions' to say: workers read it."""
_EVERY: Final = "true"

_FOR_BOTH = (
    *("revoke_later(uuid)", "tenant_key_by_id(uuid)", "data_key_by_id(uuid)", "attempt_tenant(bytea)"),
    *("refresh_work(interval)", "tally_validations(text[], text[], text[], bigint[])"),
)
_FUNCTIONS: Final[dict[str, tuple[str, ...]]] = {
    "worker": (
        *("audit_chain(integer)", "audit_forget(interval, integer)", "tally_fold(integer)", "tally_recount()"),
        *_FOR_BOTH,
        "all_tenants()",
    ),
    "web": _FOR_BOTH,
    "auditor": (),
}
PARTS: Final = tuple(_FUNCTIONS)


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
        if part not in PARTS:
            raise ConfigurationError([f"there is no kind of process called {part!r}: {', '.join(PARTS)}"])
        with self._database.translated(), self._database.connect(autocommit=False) as connection:
            problem = _problem(connection, role)
            if problem:
                raise ConfigurationError([problem])
            try:
                for statement in _statements(connection, role, part):
                    connection.execute(statement)
            except psycopg.errors.InsufficientPrivilege:
                raise ConfigurationError([f"only the owner of the schema {SCHEMA} can grant rights on it"]) from None
            if part == "web" and (left := _left_over(connection, role)):
                raise ConfigurationError([f"the role {role!r} may read {left} by another role's rights, or PUBLIC's"])

    def check_refreshing(self) -> None:
        """Raise ``ConfigurationError`` when our role may not see refresh tokens; ``StoreUnavailable``."""
        asked = f"SELECT has_column_privilege('{SCHEMA}.oauth_grant', 'refresh_envelope', 'SELECT'), current_user"
        with self._database.begin() as transaction:
            may, role = transaction.exec_driver_sql(asked).one()
        if not may:
            raise ConfigurationError(
                [f"VAULT_INLINE_REFRESH needs the rights of a worker, and the database role {role!r} has not"]
            )


def _problem(connection: psycopg.Connection[Any], role: str) -> str | None:
    """What keeps a role from being held to its rights."""
    found = connection.execute(
        "SELECT r.rolsuper, pg_has_role(r.oid, n.nspowner, 'MEMBER'), n.nspowner = r.oid, r.rolbypassrls,"
        "       (SELECT min(o.rolname) FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid"
        "          JOIN pg_roles o ON o.oid = ANY(p.polroles)"
        "         WHERE c.relnamespace = n.oid AND o.oid <> r.oid AND pg_has_role(r.oid, o.oid, 'MEMBER'))"
        "  FROM pg_roles r, pg_namespace n WHERE r.rolname = %s AND n.nspname = %s",
        (role, SCHEMA),
    ).fetchone()
    if found is None:
        return f"there is no role {role!r} in PostgreSQL: CREATE ROLE it first"
    superuser, member, owner, bypasses, other = found
    if superuser:
        return f"the role {role!r} is a superuser, whom no right holds back"
    if owner or member:
        return f"the role {role!r} is, or may act as, the owner of the tables, whom no right holds back"
    if bypasses:
        return f"the role {role!r} has BYPASSRLS, and no policy holds it back: ALTER ROLE … NOBYPASSRLS"
    if other is not None:
        return f"the role {role!r} may act as {other!r}, and would see what that one sees: REVOKE its membership"
    return None


def _statements(connection: psycopg.Connection[Any], role: str, part: str) -> Iterator[sql.Composed]:
    whom, schema = sql.Identifier(role), sql.Identifier(SCHEMA)
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        yield sql.SQL("REVOKE ALL ON ALL {} IN SCHEMA {} FROM {}").format(sql.SQL(kind), schema, whom)
    yield sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(schema, whom)
    yield from _unwalled(connection, role)
    yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, whom)
    number = connection.execute("SELECT oid FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    for table, rights in _rights(part):
        yield sql.SQL("GRANT {} ON {} TO {}").format(rights, sql.Identifier(SCHEMA, table), whom)
    for table, rows, new in _policies(part):
        name = sql.Identifier(f"{part}_{number[0] if number else ''}")
        yield sql.SQL("CREATE POLICY {} ON {} TO {} USING ({}) WITH CHECK ({})").format(
            name, sql.Identifier(SCHEMA, table), whom, sql.SQL(rows), sql.SQL(new)
        )
    for function in _FUNCTIONS[part]:
        call = sql.SQL("{}." + function).format(schema)
        yield sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(call, whom)


def _unwalled(connection: psycopg.Connection[Any], role: str) -> Iterator[sql.Composed]:
    """Take away every policy that a role was given before."""
    found = connection.execute(
        "SELECT p.polname, c.relname FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid"
        "  JOIN pg_roles r ON r.oid = ANY(p.polroles)"
        " WHERE c.relnamespace = to_regnamespace(%s) AND r.rolname = %s",
        (SCHEMA, role),
    ).fetchall()
    for policy, table in found:
        yield sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(policy), sql.Identifier(SCHEMA, table))


def _rights(part: str) -> Iterator[tuple[str, sql.Composable]]:
    """Which rights on which table, as they are granted."""
    if part == "auditor":
        yield from ((table, sql.SQL("SELECT")) for table in _AUDITED)
        return
    yield _REVISION, sql.SQL("SELECT")
    for table in SHARES:
        if part == "web":
            yield from ((table, rights) for rights in _listed(table, SHARES[table]))
        elif table in _WRITTEN_FOR_US:
            yield table, sql.SQL("SELECT")
        else:
            yield table, sql.SQL("SELECT, INSERT, UPDATE, DELETE")
    if part == "worker":
        yield "audit", _on_columns("INSERT", _TOLD)


def _listed(table: str, share: Share) -> Iterator[sql.Composable]:
    columns = tuple(metadata.tables[f"{SCHEMA}.{table}"].columns.keys())
    for right, which in (("SELECT", share.read), ("INSERT", share.add), ("UPDATE", share.change)):
        if which == ALL:  # by table: PostgreSQL looks at one list for a statement then, and not at one for each column
            yield sql.SQL(right)
        elif which != NONE:
            yield _on_columns(right, named(which, columns))
    if share.remove:
        yield sql.SQL("DELETE")


def _on_columns(right: str, columns: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(right + " ({})").format(sql.SQL(", ").join(map(sql.Identifier, columns)))


def _policies(part: str) -> Iterator[tuple[str, str, str]]:
    """Which rows of which table may be seen, and which written."""
    for table in WALLED:
        share = SHARES[table]
        if part == "worker" or (part == "auditor" and table in _AUDITED):
            yield table, _EVERY, _EVERY
        elif part == "web" and share.rows is not None and share[1:] != (NONE, NONE, NONE, False):
            yield table, share.rows, share.rows


def _left_over(connection: psycopg.Connection[Any], role: str) -> str | None:
    """Name a column that a web app's role can read although nobody has granted it that."""
    for table, share in SHARES.items():
        columns = tuple(metadata.tables[f"{SCHEMA}.{table}"].columns.keys())
        kept = [name for name in columns if name not in named(share.read, columns)]
        found = connection.execute(
            "SELECT min(n.name) FROM unnest(%s::text[]) AS n(name)"
            " WHERE has_column_privilege(%s, %s, n.name, 'SELECT')",
            (kept, role, f"{SCHEMA}.{table}"),
        ).fetchone()
        if found is not None and found[0] is not None:
            return f"{table}.{found[0]}"
    return None
