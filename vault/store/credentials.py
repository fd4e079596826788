"""Credentials in PostgreSQL; every change carries its audit row in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from vault.claims import DataKeyRecord
from vault.events import EventType, Fact
from vault.model import Credential
from vault.ports import Change, Dates, Found, RotationRow, SealedVersion, Wanted
from vault.store.audit import credential_row
from vault.store.engine import Database
from vault.store.keys import DATA_KEY_COLUMNS
from vault.store.tables import audit, credential, credential_rotation, credential_version, data_key
from vault.store.telling import record

COLUMNS = [credential.c[name] for name in Credential._fields]
_VERSION_COLUMNS = [credential_version.c[name] for name in SealedVersion._fields]
_now = sa.func.now()
TAKEN_AWAY = {"stage": "destroyed", "envelope": None, "data_key_id": None, "fp": None}
"""Of a version; no key is kept for it any more."""
_SETTABLE = ("name", "tags", "policy", "expires_at", "rotate_at", "warn_at", "rotator")


class PostgresCredentials:
    """``CredentialStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def now(self) -> datetime:
        """See ``CredentialStore.now``."""
        with self._database.begin() as transaction:
            return transaction.scalars(sa.select(_now)).one()

    # --------------------------------------------------------------------------------------------------------- reading

    def credential(self, tenant: str, credential_id: UUID) -> Credential | None:
        """See ``CredentialStore.credential``."""
        with self._database.begin() as transaction:
            row = transaction.execute(sa.select(*COLUMNS).where(*_this(tenant, credential_id))).one_or_none()
        return None if row is None else Credential(*row)

    def read_version(
        self, tenant: str, credential_id: UUID, version: int | None, *, reason: str, deleted: bool = False
    ) -> Found | None:
        """See ``CredentialStore.read_version``."""
        number = credential.c.version if version is None else version
        wanted = _with_values(deleted=deleted).where(
            *_this(tenant, credential_id), credential_version.c.version == number
        )
        with self._database.begin() as transaction:
            row = transaction.execute(wanted).one_or_none()
            if row is None:
                return None
            found = _found(row)
            detail = {"version": found.version.version, "reason": reason}
            _log(transaction, found.credential, "credential.retrieved", detail)
        return found

    def serving_versions(self, tenant: str, credential_id: UUID) -> Sequence[Found]:
        """See ``CredentialStore.serving_versions``."""
        key = credential_version.c
        serving = sa.or_(
            key.stage.in_(("current", "pending")), sa.and_(key.stage == "previous", key.serves_until > _now)
        )
        wanted = _with_values().where(*_this(tenant, credential_id), serving).order_by(key.stage, key.version.desc())
        with self._database.begin() as transaction:
            return [_found(row) for row in transaction.execute(wanted)]

    def versions(self, tenant: str, credential_id: UUID) -> Sequence[SealedVersion]:
        """See ``CredentialStore.versions``."""
        wanted = (
            sa.select(*_VERSION_COLUMNS)
            .where(credential_version.c.tenant == tenant, credential_version.c.credential_id == credential_id)
            .order_by(credential_version.c.version.desc())
        )
        with self._database.begin() as transaction:
            return [SealedVersion(*row) for row in transaction.execute(wanted)]

    def credentials(self, wanted: Wanted, after: UUID | None, limit: int) -> Sequence[Credential]:
        """See ``CredentialStore.credentials``."""
        found = sa.select(*COLUMNS).where(*_fitting(wanted)).order_by(credential.c.id).limit(limit)
        if after is not None:
            found = found.where(credential.c.id > after)
        with self._database.begin() as transaction:
            return [Credential(*row) for row in transaction.execute(found)]

    def expiring(self, tenant: str | None, within: timedelta, limit: int) -> Sequence[Credential]:
        """See ``CredentialStore.expiring``."""
        return self._dated(credential.c.expires_at, within, tenant, limit)

    def past_their_age(self, tenant: str | None, limit: int) -> Sequence[Credential]:
        """See ``CredentialStore.past_their_age``."""
        return self._dated(credential.c.rotate_at, timedelta(0), tenant, limit)

    def _dated(self, date: Any, within: timedelta, tenant: str | None, limit: int) -> Sequence[Credential]:
        wanted = sa.select(*COLUMNS).where(credential.c.state == "active", date <= _now + within)
        if tenant is not None:
            wanted = wanted.where(credential.c.tenant == tenant)
        with self._database.begin() as transaction:
            return [Credential(*row) for row in transaction.execute(wanted.order_by(date).limit(limit))]

    # --------------------------------------------------------------------------------------------------------- writing

    def add_credentials(self, new: Sequence[tuple[Credential, SealedVersion]]) -> None:
        """See ``CredentialStore.add_credentials``."""
        with self._database.begin() as transaction:
            for stored, version in new:
                add_credential(transaction, stored, version)

    def put_versions(self, changes: Sequence[Change], event: str) -> bool:
        """See ``CredentialStore.put_versions``; rows by id, so that two who change the same ones lock in one order."""
        with self._database.begin() as transaction:
            for change in sorted(changes, key=lambda each: each.seen.id.bytes):
                if not _put(transaction, change, event):
                    transaction.rollback()
                    return False
        return True

    def change_credential(self, seen: Credential, changed: Credential) -> bool:
        """See ``CredentialStore.change_credential``."""
        values = {name: getattr(changed, name) for name in _SETTABLE}
        with self._database.begin() as transaction:
            if not transaction.execute(_swap(seen).values(values)).rowcount:
                return False
            different = [name for name in _SETTABLE if getattr(seen, name) != getattr(changed, name)]
            _log(transaction, seen, "credential.changed", {"what": different})
        return True

    # ----------------------------------------------------------------------------------------------------------- ending

    def delete_credentials(self, tenant: str, ids: Mapping[UUID, float]) -> set[UUID]:
        """See ``CredentialStore.delete_credentials``."""
        lives = sa.func.unnest(
            sa.literal(list(ids), sa.ARRAY(sa.UUID)), sa.literal([*ids.values()], sa.ARRAY(sa.Float))
        )
        given = lives.table_valued("id", "seconds").render_derived(with_types=False)
        deleting = (
            credential.update()
            .where(credential.c.id == given.c.id, credential.c.tenant == tenant, credential.c.state == "active")
            .values(
                state="deleted",
                deleted_at=_now,
                purge_at=_now + sa.func.make_interval(0, 0, 0, 0, 0, 0, given.c.seconds),
            )
            .returning(*COLUMNS)
        )
        with self._database.begin() as transaction:
            return _logged(transaction, deleting, "credential.deleted")

    def undelete_credential(self, tenant: str, credential_id: UUID) -> bool:
        """See ``CredentialStore.undelete_credential``."""
        undeleting = (
            credential.update()
            .where(*_this(tenant, credential_id), credential.c.state == "deleted", credential.c.purge_at > _now)
            .values(state="active", deleted_at=None, purge_at=None)
            .returning(*COLUMNS)
        )
        with self._database.begin() as transaction:
            return bool(_logged(transaction, undeleting, "credential.undeleted"))

    def destroy_credentials(self, tenant: str, ids: Sequence[UUID]) -> set[UUID]:
        """See ``CredentialStore.destroy_credentials``."""
        with self._database.begin() as transaction:
            condition = (credential.c.tenant == tenant, credential.c.id.in_(ids))
            return destroy(transaction, *condition)

    def destroy_version(self, tenant: str, credential_id: UUID, version: int) -> bool:
        """See ``CredentialStore.destroy_version``."""
        key = credential_version.c
        ending = credential_version.update().where(
            key.tenant == tenant, key.credential_id == credential_id, key.version == version,
            key.stage.in_(("previous", "retired")),
        )  # fmt: skip
        with self._database.begin() as transaction:
            if not transaction.execute(ending.values(TAKEN_AWAY)).rowcount:
                return False
            row = transaction.execute(sa.select(*COLUMNS).where(*_this(tenant, credential_id))).one()
            _log(transaction, Credential(*row), "credential.version_destroyed", {"version": version})
        return True


def add_credential(transaction: sa.Connection, stored: Credential, version: SealedVersion) -> None:
    """Keep a new credential with its first version."""
    values = {name: value for name, value in stored._asdict().items() if value is not None}
    transaction.execute(credential.insert().values(values))
    transaction.execute(credential_version.insert().values(version_row(stored.tenant, version)))
    _log(transaction, stored, "credential.stored", {"version": version.version, "fp": _hex(version.fp)})


def destroy(transaction: sa.Connection, *conditions: Any) -> set[UUID]:
    """Take every value of some credentials away for good; returns of which."""
    ending = (
        credential.update()
        .where(*conditions, credential.c.state != "destroyed")
        .values(state="destroyed", expires_at=None, rotate_at=None, warn_at=None, purge_at=None)
        .returning(*COLUMNS)
    )
    ids = _logged(transaction, ending, "credential.destroyed")
    transaction.execute(
        credential_version.update().where(credential_version.c.credential_id.in_(ids)).values(TAKEN_AWAY)
    )
    return ids


def _put(transaction: sa.Connection, change: Change, event: str) -> bool:
    seen, new = change.seen, change.new
    values = {"version": new.version, "latest": new.version, "facts": dict(new.facts)}
    if not transaction.execute(_swap(seen).values({**values, **change.dates._asdict()})).rowcount:
        return False
    before = _step_down(transaction, seen, change.overlap)
    _take_back(transaction, seen, new)
    transaction.execute(credential_version.insert().values(version_row(seen.tenant, new)))
    _trim(transaction, seen.id, change.keep)
    detail = {"from": seen.version, "to": new.version, "old_fp": before, "fp": _hex(new.fp)}
    _log(transaction, seen, event, detail)
    return True


def promoted(transaction: sa.Connection, seen: Credential, row: RotationRow, dates: Dates, keep: int) -> bool:
    """Make the pending version of a rotation the current one; False: the credential is not any more what was seen."""
    key = credential_version.c
    pending = (key.credential_id == seen.id, key.version == row.to_version)
    new = transaction.execute(sa.select(*_VERSION_COLUMNS).where(*pending, key.stage == "pending")).one_or_none()
    if new is None:
        return False
    version = SealedVersion(*new)
    values = {"version": version.version, "facts": dict(version.facts), **dates._asdict()}
    if not transaction.execute(_swap(seen).values(values)).rowcount:
        return False
    before = _step_down(transaction, seen, row.overlap)
    transaction.execute(credential_version.update().where(*pending).values(stage="current", current_at=_now))
    _trim(transaction, seen.id, keep)
    detail = {"from": seen.version, "to": version.version, "old_fp": before, "fp": _hex(version.fp)}
    _log(transaction, seen, "credential.rotated", {**detail, "rotation": str(row.id)})
    tell(transaction, seen, EventType.CREDENTIAL_ROTATED, row.id, {"version": version.version})
    return True


def tell(
    transaction: sa.Connection, of: Credential, kind: EventType, rotation: UUID, more: Mapping[str, object]
) -> None:
    """Tell what came of a rotation."""
    said = {"credential_id": of.id, "kind": of.kind, "owner": of.owner, "provider": of.provider, "name": of.name}
    data = {**said, "rotation": rotation, **more}
    record(transaction, Fact(of.tenant, kind, f"{kind}:{rotation}", data, of.connection_id, of.id))


def _with_values(*, deleted: bool = False) -> sa.Select[Any]:
    """Active credentials with the versions that have values, and the keys of these; perhaps deleted ones as well."""
    return (
        sa.select(*COLUMNS, *_VERSION_COLUMNS, *DATA_KEY_COLUMNS)
        .join_from(credential, credential_version, credential_version.c.credential_id == credential.c.id)
        .join(data_key, data_key.c.id == credential_version.c.data_key_id)
        .where(credential.c.state.in_(("active", "deleted") if deleted else ("active",)))
        .where(credential_version.c.envelope.is_not(None))
    )


def _this(tenant: str, credential_id: UUID) -> tuple[Any, Any]:
    return credential.c.id == credential_id, credential.c.tenant == tenant


def _swap(seen: Credential) -> Any:
    """Change a credential that still is at the version seen, and nothing newer is being made of it."""
    unchanged = (credential.c.version == seen.version, credential.c.latest == seen.latest)
    return credential.update().where(*_this(seen.tenant, seen.id), credential.c.state == "active", *unchanged)


def _step_down(transaction: sa.Connection, seen: Credential, overlap: timedelta) -> str | None:
    """Make the current version the previous one, and that one retired; returns the fingerprint of the first."""
    mine = credential_version.c.credential_id == seen.id
    retire = credential_version.update().where(mine, credential_version.c.stage == "previous")
    transaction.execute(retire.values(stage="retired"))
    replace = credential_version.update().where(mine, credential_version.c.version == seen.version)
    values = {"stage": "previous", "replaced_at": _now, "serves_until": _now + overlap}
    return _hex(transaction.scalar(replace.values(values).returning(credential_version.c.fp)))


def _take_back(transaction: sa.Connection, seen: Credential, new: SealedVersion) -> None:
    """Who goes back to the value that a rotation has replaced keeps it: what the rotation made is to be taken away."""
    rotation, version = credential_rotation.c, credential_version.c
    of_it = (version.credential_id == seen.id, version.version == rotation.from_version, version.fp == new.fp)
    retiring = (rotation.credential_id == seen.id, rotation.ended_at.is_(None), rotation.step == "retire")
    undoing = credential_rotation.update().where(
        *retiring, rotation.to_version == seen.version, sa.exists().where(*of_it)
    )
    transaction.execute(undoing.values(step="undo", attempt=0, epoch=rotation.epoch + 1, next_at=_now))


def _trim(transaction: sa.Connection, credential_id: UUID, keep: int) -> None:
    """Destroy what is beyond the number of versions to keep."""
    key = credential_version.c
    mine = (key.credential_id == credential_id, key.stage.in_(("previous", "retired")))
    kept = sa.select(key.version).where(*mine).order_by(key.version.desc()).limit(keep)
    transaction.execute(
        credential_version.update().where(*mine, key.version.not_in(kept.scalar_subquery())).values(TAKEN_AWAY)
    )


def _fitting(wanted: Wanted) -> list[Any]:
    conditions: list[Any] = [credential.c.tenant == wanted.tenant]
    given = {name: getattr(wanted, name) for name in ("owner", "provider", "connection_id", "kind", "state")}
    conditions += [credential.c[name] == value for name, value in given.items() if value is not None]
    if wanted.tags:
        conditions.append(credential.c.tags.contains(dict(wanted.tags)))
    return conditions


def _found(row: Any) -> Found:
    size, inner = len(COLUMNS), len(_VERSION_COLUMNS)
    version, key = SealedVersion(*row[size : size + inner]), DataKeyRecord(*row[size + inner :])
    return Found(Credential(*row[:size]), version, key)


def version_row(tenant: str, version: SealedVersion) -> dict[str, Any]:
    """Return the values of a row of ``credential_version``."""
    values = {name: value for name, value in version._asdict().items() if value is not None}
    current = {"current_at": _now} if version.stage == "current" else {}
    return {**values, "facts": dict(version.facts), "tenant": tenant, **current}


def _logged(transaction: sa.Connection, change: Any, event: str) -> set[UUID]:
    """Make a change that returns credentials, and write an audit row for each."""
    changed = [Credential(*row) for row in transaction.execute(change)]
    for each in changed:
        _log(transaction, each, event, {})
    return {each.id for each in changed}


def _log(transaction: sa.Connection, of: Credential, event: str, detail: Mapping[str, object]) -> None:
    transaction.execute(audit.insert().values(credential_row(of, event, detail)))


def _hex(fp: bytes | None) -> str | None:
    return None if fp is None else fp.hex()
