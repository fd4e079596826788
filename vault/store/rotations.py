"""Rotations of credentials in PostgreSQL, each change fenced by the epoch of who has it in hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from vault.events import EventType
from vault.model import Credential
from vault.ports import Dates, RotationRow, SealedVersion
from vault.store.audit import audit_row
from vault.store.credentials import COLUMNS, TAKEN_AWAY, promoted, tell, version_row
from vault.store.engine import Database
from vault.store.tables import NEVER_LEASED, audit, credential, credential_rotation, credential_version

_COLUMNS = [credential_rotation.c[name] for name in RotationRow._fields]
_KEY = credential_rotation.c
_MAKING = sa.and_(_KEY.ended_at.is_(None), _KEY.step.not_in(("retire", "undo")))
_now = sa.func.now()


class PostgresRotations:
    """``RotationStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin_rotation(self, row: RotationRow, pending: SealedVersion | None) -> bool:
        """See ``RotationStore.begin_rotation``."""
        adding = insert(credential_rotation).values(row._asdict()).on_conflict_do_nothing().returning(_KEY.id)
        with self._database.begin() as transaction:
            begun = transaction.scalar(adding) is not None
            if not begun or (pending is not None and not _keep(transaction, row, pending)):
                transaction.rollback()
                return False
            _log(transaction, row, "credential.rotation_begun", {"rotator": row.rotator, "from": row.from_version})
        return True

    def open_rotation(self, tenant: str, credential_id: UUID) -> RotationRow | None:
        """See ``RotationStore.open_rotation``."""
        mine = (_KEY.tenant == tenant, _KEY.credential_id == credential_id, _KEY.ended_at.is_(None))
        running = sa.or_(_KEY.step != "retire", _KEY.next_at > _now)
        return self._one(sa.select(*_COLUMNS).where(*mine, running).order_by(_KEY.begun_at.desc()).limit(1))

    def end_overlaps(self, tenant: str, credential_id: UUID) -> None:
        """See ``RotationStore.end_overlaps``."""
        mine = (_KEY.tenant == tenant, _KEY.credential_id == credential_id, _KEY.ended_at.is_(None))
        retiring = credential_rotation.update().where(*mine, _KEY.step == "retire", _KEY.next_at > _now)
        key = credential_version.c
        serving = credential_version.update().where(
            key.tenant == tenant, key.credential_id == credential_id, key.serves_until > _now,
            key.version.in_(sa.select(_KEY.from_version).where(*mine, _KEY.step == "retire")),
        )  # fmt: skip
        with self._database.begin() as transaction:
            transaction.execute(serving.values(serves_until=_now))
            transaction.execute(retiring.values(next_at=_now))

    def rotation(self, tenant: str, rotation_id: UUID) -> RotationRow | None:
        """See ``RotationStore.rotation``."""
        return self._one(sa.select(*_COLUMNS).where(_KEY.tenant == tenant, _KEY.id == rotation_id))

    def take_rotations(self, limit: int, lease: timedelta, only: UUID | None = None) -> Sequence[RotationRow]:
        """See ``RotationStore.take_rotations``."""
        free = (_KEY.ended_at.is_(None), _KEY.lease_until <= _now)
        which = _KEY.next_at <= _now if only is None else _KEY.id == only
        due = sa.select(_KEY.id).where(*free, which).order_by(_KEY.next_at).limit(limit)
        taking = (
            credential_rotation.update()
            .where(_KEY.id.in_(due.with_for_update(skip_locked=True).scalar_subquery()))
            .values(epoch=_KEY.epoch + 1, attempt=_KEY.attempt + 1, lease_until=_now + lease)
            .returning(*_COLUMNS)
        )
        with self._database.begin() as transaction:
            return [RotationRow(*row) for row in transaction.execute(taking)]

    def keep_pending(self, row: RotationRow, pending: SealedVersion, step: str) -> RotationRow | None:
        """See ``RotationStore.keep_pending``."""
        with self._database.begin() as transaction:
            went_on = _change(transaction, row, step=step, attempt=0, to_version=pending.version)
            if went_on is None or not _keep(transaction, row, pending):
                transaction.rollback()
                return None
        return went_on

    def go_on(self, row: RotationRow, step: str) -> RotationRow | None:
        """See ``RotationStore.go_on``."""
        with self._database.begin() as transaction:
            return _change(transaction, row, step=step, attempt=0)

    def promote(self, row: RotationRow, seen: Credential, dates: Dates, keep: int) -> RotationRow | None:
        """See ``RotationStore.promote``."""
        with self._database.begin() as transaction:
            went_on = _change(transaction, row, step="finish", attempt=0)
            if went_on is None or not promoted(transaction, seen, row, dates, keep):
                transaction.rollback()
                return None
        return went_on

    def put_off(self, row: RotationRow, reason: str, wait: timedelta) -> None:
        """See ``RotationStore.put_off``."""
        with self._database.begin() as transaction:
            _change(transaction, row, reason=reason, next_at=_now + wait, lease_until=NEVER_LEASED)

    def end_rotation(self, row: RotationRow, outcome: str, reason: str) -> None:
        """See ``RotationStore.end_rotation``."""
        of = credential_version.update().where(credential_version.c.credential_id == row.credential_id)
        with self._database.begin() as transaction:
            if _change(transaction, row, step=outcome, reason=reason, ended_at=_now) is None:
                return
            if outcome == "failed" and row.to_version is not None:
                pending = (credential_version.c.version == row.to_version, credential_version.c.stage == "pending")
                transaction.execute(of.where(*pending).values(TAKEN_AWAY))
            elif outcome == "done":
                old = (credential_version.c.version == row.from_version, credential_version.c.stage == "previous")
                transaction.execute(of.where(*old).values(stage="retired"))
            _log(transaction, row, f"credential.rotation_{outcome}", {"reason": reason})
            if outcome != "done":
                of_it = transaction.execute(sa.select(*COLUMNS).where(credential.c.id == row.credential_id)).one()
                more = {"step": outcome, "reason": reason}
                tell(transaction, Credential(*of_it), EventType.ROTATION_FAILED, row.id, more)

    def due_credentials(self, limit: int) -> Sequence[tuple[str, UUID]]:
        """See ``RotationStore.due_credentials``."""
        busy = sa.exists().where(_KEY.credential_id == credential.c.id, _MAKING)
        due = (
            sa.select(credential.c.tenant, credential.c.id)
            .where(credential.c.state == "active", credential.c.rotator != "", credential.c.rotate_at <= _now, ~busy)
            .order_by(credential.c.rotate_at)
            .limit(limit)
        )
        with self._database.begin() as transaction:
            return [(tenant, credential_id) for tenant, credential_id in transaction.execute(due)]

    def _one(self, wanted: sa.Select[Any]) -> RotationRow | None:
        with self._database.begin() as transaction:
            row = transaction.execute(wanted).one_or_none()
        return None if row is None else RotationRow(*row)


def _change(transaction: sa.Connection, row: RotationRow, **values: Any) -> RotationRow | None:
    """Change a rotation that is in our hands; None: it is not any more."""
    mine = (_KEY.id == row.id, _KEY.epoch == row.epoch, _KEY.ended_at.is_(None))
    changed = transaction.execute(
        credential_rotation.update().where(*mine).values(**values).returning(*_COLUMNS)
    ).one_or_none()
    return None if changed is None else RotationRow(*changed)


def _keep(transaction: sa.Connection, row: RotationRow, pending: SealedVersion) -> bool:
    """Keep the new value, if the credential still is what the rotation began with."""
    same = (credential.c.id == row.credential_id, credential.c.state == "active")
    unchanged = (credential.c.version == row.from_version, credential.c.latest == pending.version - 1)
    counting = credential.update().where(*same, *unchanged).values(latest=pending.version)
    if not transaction.execute(counting).rowcount:
        return False
    transaction.execute(credential_version.insert().values(version_row(row.tenant, pending)))
    return True


def _log(transaction: sa.Connection, row: RotationRow, event: str, detail: dict[str, object]) -> None:
    said = {"credential_id": str(row.credential_id), "rotation": str(row.id), "to": row.to_version, **detail}
    transaction.execute(audit.insert().values(audit_row(row.tenant, event, None, said)))
