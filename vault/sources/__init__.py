"""Where grants are moved out of: tables of any database SQLAlchemy speaks to, and files."""

from __future__ import annotations

from vault.migration.plan import Migration
from vault.ports import Source
from vault.sources.files import FileSource
from vault.sources.sql import SqlSource


def open_source(migration: Migration, default_tenant: str, *, tenant: str | None, provider: str | None) -> Source:
    """Return the source of a migration; it is opened at its first use.

    Args:
        migration: What is to be moved.
        default_tenant: Whose rows they are that do not say.
        tenant: Only rows of this one; None: all.
        provider: Only rows of this one; None: all.
    """
    standing = {"tenant": default_tenant, **migration.columns.constants}
    wanted = {name: word for name, word in (("tenant", tenant), ("provider", provider)) if word is not None}
    # What stands for every row is decided here once; sources only look at what has a column.
    nothing = any(standing[name] != word for name, word in wanted.items() if name not in migration.columns.columns)
    filters = {name: word for name, word in wanted.items() if name in migration.columns.columns}
    if migration.file is not None:
        return FileSource(
            migration.file, migration.format or "", migration.columns, filters, called=migration.called, nothing=nothing
        )
    assert migration.url is not None  # a plan has one of the two
    assert migration.table is not None  # and a table with it
    return SqlSource(
        migration.url, migration.table, migration.columns, filters, called=migration.called, nothing=nothing
    )
