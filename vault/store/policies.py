"""By which policies credentials in PostgreSQL are dated."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from vault.store.engine import Database
from vault.store.tables import policy_state

_KEY = policy_state.c
_now = sa.func.now()
_BEGINNING = UUID(int=0)


class PostgresPolicies:
    """``PolicyStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def place(self, digest: bytes, patience: timedelta) -> UUID | None:
        """See ``PolicyStore.place``."""
        begin = {"digest": digest, "place": _BEGINNING, "begun_at": _now}
        others = sa.and_(_KEY.digest != digest, _KEY.begun_at < _now - patience)
        beginning = insert(policy_state).values(begin)
        beginning = beginning.on_conflict_do_update(index_elements=["singleton"], set_=begin, where=others)
        with self._database.begin() as transaction:
            transaction.execute(beginning)
            found: UUID | None = transaction.scalar(sa.select(_KEY.place).where(_KEY.digest == digest))
        return found

    def reached(self, digest: bytes, place: UUID | None) -> None:
        """See ``PolicyStore.reached``; of several who do the same work, the last one's word counts."""
        with self._database.begin() as transaction:
            transaction.execute(policy_state.update().where(_KEY.digest == digest).values(place=place))
