"""Keys of programs that ask over HTTP, and what the audit is told of the reads made with them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from vault.api_keys import ApiKey, FoundKey
from vault.model import SYSTEM
from vault.ports import ReadCount
from vault.store.audit import audit_row
from vault.store.engine import Database
from vault.store.lane import SETTING
from vault.store.tables import api_key, audit

_COLUMNS = [api_key.c[name] for name in ApiKey._fields]
_now = sa.func.now()
USED_AGAIN: Final = timedelta(minutes=1)
"""That a key was used is not noted more often."""


class PostgresApiKeys:
    """``ApiKeyStore`` and ``ReadStore`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_key(self, key: ApiKey, digest: bytes, life: timedelta | None) -> ApiKey:
        """See ``ApiKeyStore.add_key``."""
        values = {
            "id": key.id, "tenant": key.tenant, "name": key.name, "scopes": list(key.scopes), "digest": digest,
            "expires_at": None if life is None else _now + life,
        }  # fmt: skip
        with self._database.begin() as transaction:
            kept = _key(transaction.execute(api_key.insert().values(values).returning(*_COLUMNS)).one())
            ends = None if kept.expires_at is None else kept.expires_at.isoformat()
            _log(transaction, "api_key.created", kept, scopes=list(kept.scopes), expires_at=ends)
        return kept

    def find_key(self, digest: bytes) -> FoundKey | None:
        """See ``ApiKeyStore.find_key``."""
        wanted = sa.select(*_COLUMNS, api_key.c.expires_at - _now).where(api_key.c.digest == digest)
        with self._database.of(SYSTEM).begin() as transaction:
            row = transaction.execute(wanted).one_or_none()
        return None if row is None else FoundKey(_key(row[:-1]), row[-1])

    def keys(self, tenant: str | None) -> Sequence[ApiKey]:
        """See ``ApiKeyStore.keys``."""
        wanted = sa.select(*_COLUMNS).order_by(api_key.c.tenant, api_key.c.created_at, api_key.c.id)
        if tenant is not None:
            wanted = wanted.where(api_key.c.tenant == tenant)
        with self._database.begin() as transaction:
            return [_key(row) for row in transaction.execute(wanted)]

    def revoke_key(self, key_id: UUID) -> ApiKey | None:
        """See ``ApiKeyStore.revoke_key``."""
        wanted = sa.select(*_COLUMNS).where(api_key.c.id == key_id)
        ending = api_key.update().where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None)).values(revoked_at=_now)
        with self._database.begin() as transaction:
            ended = transaction.execute(ending).rowcount
            row = transaction.execute(wanted).one_or_none()
            if row is not None and ended:
                _log(transaction, "api_key.revoked", _key(row))
        return None if row is None else _key(row)

    def keys_used(self, key_ids: Sequence[UUID]) -> None:
        """See ``ApiKeyStore.keys_used``."""
        long_ago = sa.or_(api_key.c.last_used_at.is_(None), api_key.c.last_used_at < _now - USED_AGAIN)
        using = api_key.update().where(api_key.c.id.in_(key_ids), long_ago).values(last_used_at=_now)
        with self._database.of(SYSTEM).begin() as transaction:
            transaction.execute(using)

    def tell_reads(self, counts: Sequence[ReadCount]) -> None:
        """See ``ReadStore.tell_reads``."""
        by_tenant: dict[str, list[Any]] = {}
        for each in counts:
            by_tenant.setdefault(each.tenant, []).append(_told(each))
        with self._database.begin() as transaction:
            for tenant, rows in by_tenant.items():
                transaction.exec_driver_sql("SELECT set_config(%s, %s, true)", (SETTING, tenant))
                transaction.execute(audit.insert(), rows)


def _told(count: ReadCount) -> Any:
    said = {
        "credential_id": str(count.connection_id), "kind": "oauth_access_token", "api_key": str(count.key_id),
        "reads": count.reads, "since": count.since.isoformat(),
    }  # fmt: skip
    return audit_row(count.tenant, "credential.retrieved", count.connection_id, said)


def _key(row: Any) -> ApiKey:
    key = ApiKey(*row)
    return key._replace(scopes=tuple(key.scopes))


def _log(transaction: sa.Connection, event: str, key: ApiKey, **detail: object) -> None:
    said = {"api_key": str(key.id), "name": key.name, **detail}
    transaction.execute(audit.insert().values(audit_row(key.tenant, event, None, said)))
