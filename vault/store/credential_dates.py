"""Dates of credentials in PostgreSQL: those whose warning is due, and those that a policy has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from vault.events import Fact
from vault.model import Credential
from vault.store.audit import credential_row
from vault.store.credentials import COLUMNS
from vault.store.engine import Database
from vault.store.tables import audit, credential
from vault.store.telling import record

_now = sa.func.now()
_DATES = ("rotate_at", "warn_at", "rotator")
_PUT = sa.text(f"""
    UPDATE {credential.fullname} c SET rotate_at = n.rotate_at, warn_at = n.warn_at, rotator = n.rotator
      FROM unnest(CAST(:id AS uuid[]), CAST(:rotate_at AS timestamptz[]), CAST(:warn_at AS timestamptz[]),
                  CAST(:rotator AS text[])) AS n(id, rotate_at, warn_at, rotator)
     WHERE c.id = n.id
""")


class PostgresDates:
    """``CredentialDates`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(
        self, limit: int, decide: Callable[[Credential, datetime], tuple[Credential, Sequence[Fact]]]
    ) -> tuple[int, int]:
        """See ``CredentialDates.look``."""
        due = (credential.c.state == "active", credential.c.warn_at <= _now)
        some = sa.select(*COLUMNS, _now).where(*due).order_by(credential.c.warn_at).limit(limit)
        with self._database.begin() as transaction:
            found = transaction.execute(some.with_for_update(skip_locked=True)).all()
            decided = [decide(Credential(*row[:-1]), row[-1]) for row in found]
            _put(transaction, [dated for dated, _ in decided])
            told = [(of, fact) for of, facts in decided for fact in facts if record(transaction, fact)]
            _log(transaction, [credential_row(of, fact.type, _said(fact)) for of, fact in told])
        return len(found), len(told)

    def date_anew(
        self, after: UUID, limit: int, decide: Callable[[Credential, datetime], Credential]
    ) -> tuple[int, UUID | None]:
        """See ``CredentialDates.date_anew``."""
        some = sa.select(*COLUMNS, _now).where(credential.c.id > after, credential.c.state == "active")
        with self._database.begin() as transaction:
            found = transaction.execute(some.order_by(credential.c.id).limit(limit).with_for_update()).all()
            pairs = [(Credential(*row[:-1]), decide(Credential(*row[:-1]), row[-1])) for row in found]
            changed = [(seen, dated) for seen, dated in pairs if seen != dated]
            _put(transaction, [dated for _, dated in changed])
            _log(transaction, [_changed(*each) for each in changed])
        return len(changed), found[-1].id if len(found) == limit else None


def _put(transaction: sa.Connection, dated: Sequence[Credential]) -> None:
    if dated:
        values = {name: [getattr(each, name) for each in dated] for name in ("id", *_DATES)}
        transaction.execute(_PUT, values)


def _log(transaction: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        transaction.execute(audit.insert(), rows)


def _said(fact: Fact) -> dict[str, object]:
    return {"at": fact.data["at"], "days": fact.data["days"]}


def _changed(seen: Credential, dated: Credential) -> dict[str, Any]:
    different = [name for name in _DATES if getattr(seen, name) != getattr(dated, name)]
    return credential_row(seen, "credential.changed", {"what": different})
