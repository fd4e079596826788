"""Sessions of the user's own service; every change carries its audit rows in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from vault.ports import SealedSessionMetadata, SessionRow
from vault.store.arrays import Bigints, Texts
from vault.store.audit import audit_row
from vault.store.engine import Database
from vault.store.tables import audit, user_sessions
from vault.validation.sessions import Subscription, UserSession

REMOVED_AT_ONCE: Final = 10_000
"""Ended sessions that one clean-up removes; the next one goes on."""
_NAMES: Final = UserSession._fields
_COLUMNS: Final = [user_sessions.c[name] for name in _NAMES]
_FIND: Final = f"""
SELECT {", ".join(f"s.{name}" for name in _NAMES)}, s.token_hash, now()
  FROM evergrant.user_sessions s WHERE s.tenant = %b AND s.token_fp = %b
""".encode()
_ONE_AT_A_TIME: Final = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:who, 1163285587))")
"""Two sign-ins of one user come one after the other, so that each sees whose place it takes."""
_ADD_VALIDATIONS: Final = "SELECT evergrant.tally_validations(%s, %s, %s, %s)"
_now = sa.func.now()
_lives = (user_sessions.c.revoked_at.is_(None), user_sessions.c.expires_at > _now)
_over = sa.or_(user_sessions.c.revoked_at.is_not(None), user_sessions.c.expires_at <= _now)


class PostgresSessions:
    """``SessionStore``, ``ValidationTallies``, and of sessions ``CleanupStore``, on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, row: SessionRow, *, only_one: bool) -> tuple[UserSession, Sequence[UUID]] | None:
        """See ``SessionStore.add``."""
        of_user = [user_sessions.c.tenant == row.tenant, user_sessions.c.user_id == row.user_id]
        of_device = [] if only_one else [user_sessions.c.device == row.device]
        before = user_sessions.delete().where(*of_user, *of_device).returning(user_sessions.c.id)
        values = {name: getattr(row, name) for name in SessionRow._fields if name not in ("life", "metadata")}
        kept = {**values, **_sealed(row.metadata), "expires_at": _now + row.life}
        # On its token only, so that nothing else goes unnoticed.
        adding = insert(user_sessions).values(kept).on_conflict_do_nothing(index_elements=["tenant", "token_fp"])
        with self._database.begin() as transaction:
            transaction.execute(_ONE_AT_A_TIME, {"who": f"{row.tenant} {row.user_id}"})
            replaced = transaction.scalars(before).all()
            made = transaction.execute(adding.returning(*_COLUMNS)).one_or_none()
            if made is None:
                transaction.rollback()
                return None
            for each in replaced:
                _tell(transaction, row.tenant, "session.replaced", each, user_id=row.user_id, by=str(row.id))
            terms = {"subscription": row.subscription, "scopes": row.scopes, "token": row.token_fp.hex()}
            _tell(transaction, row.tenant, "session.created", row.id, user_id=row.user_id, device=row.device, **terms)
        return _read(made), replaced

    def find(self, tenant: str, token_fp: bytes) -> tuple[UserSession, bytes, datetime] | None:
        """See ``SessionStore.find``; on the fast lane."""
        row = self._database.lane.run(_FIND, (tenant, token_fp), psycopg.Cursor.fetchone)
        return None if row is None else (_read(row[:-2]), row[-2], row[-1])

    def session(self, tenant: str, session_id: UUID) -> UserSession | None:
        """See ``SessionStore.session``."""
        with self._database.begin() as transaction:
            row = transaction.execute(sa.select(*_COLUMNS).where(*_one(tenant, session_id))).one_or_none()
        return None if row is None else _read(row)

    def sessions(self, tenant: str, *, user_id: str | None, after: UUID | None, limit: int) -> list[UserSession]:
        """See ``SessionStore.sessions``."""
        wanted = sa.select(*_COLUMNS).where(user_sessions.c.tenant == tenant, *_lives)
        if user_id is not None:
            wanted = wanted.where(user_sessions.c.user_id == user_id)
        if after is not None:
            wanted = wanted.where(user_sessions.c.id > after)
        with self._database.begin() as transaction:
            return [_read(row) for row in transaction.execute(wanted.order_by(user_sessions.c.id).limit(limit))]

    def metadata(self, tenant: str, session_id: UUID) -> SealedSessionMetadata | None:
        """See ``SessionStore.metadata``."""
        columns = (user_sessions.c.version, user_sessions.c.data_key_id, user_sessions.c.metadata_envelope)
        kept = user_sessions.c.metadata_envelope.is_not(None)
        with self._database.begin() as transaction:
            row = transaction.execute(sa.select(*columns).where(*_one(tenant, session_id), kept)).one_or_none()
        return None if row is None else SealedSessionMetadata(*row)

    def change(
        self,
        tenant: str,
        session_id: UUID,
        *,
        subscription: str | None,
        scopes: str | None,
        life: timedelta | None,
        metadata: SealedSessionMetadata | None,
    ) -> UserSession | None:
        """See ``SessionStore.change``."""
        said = {"subscription": subscription, "scopes": scopes, "expires_at": None if life is None else _now + life}
        given = {name: value for name, value in said.items() if value is not None}
        fits = _one(tenant, session_id)
        if metadata is not None:
            fits.append(user_sessions.c.version == metadata.version - 1)
        changing = user_sessions.update().where(*fits).values({**given, **_sealed(metadata), "changed_at": _now})
        with self._database.begin() as transaction:
            row = transaction.execute(changing.returning(*_COLUMNS)).one_or_none()
            if row is None:
                return None
            made = _read(row)
            changes = {name: value for name, value in given.items() if isinstance(value, str)}
            changes |= {} if life is None else {"expires_at": made.expires_at.isoformat()}
            changes |= {} if metadata is None else {"metadata": str(metadata.version)}
            _tell(transaction, tenant, "session.updated", session_id, user_id=made.user_id, **changes)
        return made

    def revoke(self, tenant: str, *, session_id: UUID | None, user_id: str | None) -> Sequence[UUID]:
        """See ``SessionStore.revoke``."""
        whose = [user_sessions.c.id == session_id] if session_id is not None else [user_sessions.c.user_id == user_id]
        ending = user_sessions.update().where(user_sessions.c.tenant == tenant, *_lives, *whose)
        ended = ending.values(revoked_at=_now, changed_at=_now).returning(user_sessions.c.id, user_sessions.c.user_id)
        with self._database.begin() as transaction:
            rows = transaction.execute(ended).all()
            for row in rows:
                _tell(transaction, tenant, "session.revoked", row.id, user_id=row.user_id)
        return [row.id for row in rows]

    def sweep(self, *, dry_run: bool) -> Mapping[str, int]:
        """See ``CleanupStore.sweep``: sessions that ended by themselves or were ended, and their hashes."""
        some = sa.select(user_sessions.c.id).where(_over).limit(REMOVED_AT_ONCE)
        with self._database.begin() as transaction:
            if dry_run:
                counted = sa.select(sa.func.count()).select_from(user_sessions).where(_over)
                return {"sessions": transaction.scalar(counted) or 0}
            gone = user_sessions.delete().where(user_sessions.c.id.in_(some.with_for_update(skip_locked=True)))
            rows = transaction.execute(
                gone.returning(user_sessions.c.id, user_sessions.c.tenant, user_sessions.c.revoked_at)
            ).all()
            told = [
                audit_row(row.tenant, "session.removed", None, _detail(row.id, ended=_end(row.revoked_at)))
                for row in rows
            ]
            if told:
                transaction.execute(audit.insert(), told)
        return {"sessions": len(rows)}

    def add_validations(self, counted: Mapping[tuple[str, str, str], int]) -> None:
        """See ``ValidationTallies.add_validations``; it is not repeated, since it would count twice."""
        tenants, kinds, states = zip(*counted, strict=True)
        columns = (Texts.of(tenants), Texts.of(kinds), Texts.of(states), Bigints.of([*counted.values()]))
        with self._database.begin() as transaction:
            transaction.exec_driver_sql(_ADD_VALIDATIONS, columns)


def _one(tenant: str, session_id: UUID) -> list[Any]:
    return [user_sessions.c.tenant == tenant, user_sessions.c.id == session_id, *_lives]


def _sealed(metadata: SealedSessionMetadata | None) -> dict[str, Any]:
    if metadata is None:
        return {}
    return {
        "version": metadata.version, "data_key_id": metadata.data_key_id, "metadata_envelope": metadata.envelope,
    }  # fmt: skip


def _read(row: Any) -> UserSession:
    found = UserSession(*row)
    return found._replace(subscription=Subscription(found.subscription), scopes=tuple(str(found[5]).split()))


def _end(revoked_at: object) -> str:
    return "expired" if revoked_at is None else "revoked"


def _detail(session_id: UUID, **said: object) -> dict[str, object]:
    return {"session_id": str(session_id), **said}


def _tell(transaction: sa.Connection, tenant: str, event: str, session_id: UUID, **said: object) -> None:
    transaction.execute(audit.insert().values(audit_row(tenant, event, None, _detail(session_id, **said))))
