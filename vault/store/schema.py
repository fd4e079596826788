"""Brings a database to the schema this version needs, and says so when it is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from vault.errors import SchemaOutdated
from vault.store.engine import Database
from vault.store.tables import SCHEMA

REVISIONS = f"{SCHEMA}.schema_revision"
UPGRADE_LOCK = 0x45564752
"""Advisory lock ("EVGR"): several processes may start an upgrade at once, one does it."""


def _config() -> Any:
    """Configure Alembic, whose import is paid for by those who look at the schema and by nobody else."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def needed_revision() -> str:
    """Return the revision this version of the code is written for."""
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None  # the package carries at least one revision
    return head


class Schema:
    """The schema of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def found_revision(self) -> str | None:
        """Return the database's revision; None: it has no Evergrant tables. Raises ``StoreUnavailable``."""
        with self._database.begin() as connection:
            exists = connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": REVISIONS})
            if exists is None:
                return None
            revision: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {REVISIONS}"))
            return revision

    def check(self) -> None:
        """Raise ``SchemaOutdated`` when the database is at another revision than this code needs."""
        found, needed = self.found_revision(), needed_revision()
        if found != needed:
            raise SchemaOutdated(found, needed)

    def upgrade(self) -> str:
        """Run what is missing, in one transaction under an advisory lock; returns the revision reached."""
        from alembic import command

        config = _config()
        with self._database.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
            if connection.scalar(sa.text(f"SELECT to_regnamespace('{SCHEMA}')")) is None:
                connection.execute(sa.text(f"CREATE SCHEMA {SCHEMA}"))  # takes a right that its owner may be without
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return needed_revision()
