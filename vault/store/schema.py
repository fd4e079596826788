"""Brings a database to the schema this version needs, and says so when it is not there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa
import structlog

from vault.errors import SchemaOutdated, StoreUnavailable
from vault.store.engine import Database
from vault.store.tables import SCHEMA

log = structlog.get_logger(__name__)

REVISIONS = f"{SCHEMA}.schema_revision"
UPGRADE_LOCK = 0x45564752
"""Advisory lock ("EVGR"): several processes may start an upgrade at once, one does it."""


PATIENCE: Final = "3s"
"""For a table that somebody has open."""
TRIES: Final = 5
PAUSE_S: Final = 2.0


class _InUse(Exception):
    """A table was not given in time."""


@contextmanager
def _told_of_locks() -> Iterator[None]:
    try:
        yield
    except sa.exc.OperationalError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise _InUse(str(error.orig).partition("\n")[0]) from None
        raise


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
        """Run what is missing, in one transaction under an advisory lock; returns the revision reached.

        A table in use is waited for briefly: whoever wants it meanwhile queues behind us. Then everything is given back
        and tried again.

        Raises:
            StoreUnavailable: PostgreSQL cannot be reached, or a table was in use at every try.
        """
        for _ in range(TRIES - 1):
            try:
                return self._upgrade()
            except _InUse:
                log.info("schema.in_use", again_in_s=PAUSE_S)
                time.sleep(PAUSE_S)
        try:
            return self._upgrade()
        except _InUse as last:
            reason = f"{last}: a table was in use at each of {TRIES} tries; end what has long had it open"
            raise StoreUnavailable(self._database.where, reason) from None

    def _upgrade(self) -> str:
        from alembic import command

        config = _config()
        with self._database.begin() as connection, _told_of_locks():
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
            connection.execute(sa.text(f"SET LOCAL lock_timeout = '{PATIENCE}'"))
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))  # an index takes as long as there are rows
            if connection.scalar(sa.text(f"SELECT to_regnamespace('{SCHEMA}')")) is None:
                connection.execute(sa.text(f"CREATE SCHEMA {SCHEMA}"))  # takes a right that its owner may be without
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return needed_revision()
