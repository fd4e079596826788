"""Grants in PostgreSQL, seen as credentials."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa

from vault.claims import DataKeyRecord
from vault.credentials.grants import (
    connection_of,
    is_refresh_token_id,
    place_among_refresh_tokens,
    refresh_token_id,
)
from vault.credentials.kinds import Kind
from vault.errors import ConfigurationError
from vault.model import Credential, Status
from vault.ports import SealedRefreshToken, Wanted
from vault.store.audit import credential_row
from vault.store.engine import Database
from vault.store.keys import DATA_KEY_COLUMNS
from vault.store.tables import audit, connection, data_key, grant_end, oauth_grant

NOT_FOR_THE_WEB = (
    "the database role may not see refresh tokens, which are for workers' roles: ask there, or as operator"
)
_GRANT = oauth_grant.c
_SHOWN = sa.select(
    connection.c.id,
    connection.c.tenant,
    connection.c.owner,
    connection.c.provider,
    connection.c.account,
    connection.c.granted_scopes,
    connection.c.labels,
    connection.c.created_at,
    connection.c.connected_at,
    _GRANT.status,
    _GRANT.version,
    _GRANT.expires_at,
    _GRANT.refreshed_at,
    _GRANT.grant_ends_at,
).join_from(connection, oauth_grant)
_ENDED = _GRANT.status == Status.DISCONNECTED
_REFRESHABLE = _GRANT.refresh_fp.is_not(None)
"""Its envelope is not asked for: a web app's role has no right to look at it."""
_ALIVE = (_REFRESHABLE, _GRANT.status.not_in((Status.DISCONNECTED, Status.NEEDS_RECONNECT)))


class PostgresGrantViews:
    """``GrantViews`` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def view(self, tenant: str, credential_id: UUID) -> Credential | None:
        """See ``GrantViews.view``."""
        refresh = is_refresh_token_id(credential_id)
        wanted = _SHOWN.where(connection.c.id == connection_of(credential_id), connection.c.tenant == tenant)
        if refresh:
            wanted = wanted.where(sa.or_(_REFRESHABLE, _ENDED))
        with self._database.begin() as transaction:
            row = transaction.execute(wanted).one_or_none()
        return None if row is None else _credential(row, refresh=refresh)

    def views(self, wanted: Wanted, after: UUID | None, limit: int) -> Sequence[Credential]:
        """See ``GrantViews.views``."""
        kinds = (Kind.ACCESS_TOKEN, Kind.REFRESH_TOKEN) if wanted.kind is None else (wanted.kind,)
        conditions = _fitting(wanted)
        if conditions is None:
            return []
        found: list[list[Credential]] = []
        with self._database.begin() as transaction:
            for kind in kinds:
                refresh = kind == Kind.REFRESH_TOKEN
                some = _SHOWN.where(*conditions).order_by(connection.c.id).limit(limit)
                if refresh:
                    some = some.where(sa.or_(_REFRESHABLE, _ENDED))
                if after is not None:
                    some = some.where(connection.c.id > (place_among_refresh_tokens(after) if refresh else after))
                found.append([_credential(row, refresh=refresh) for row in transaction.execute(some)])
        return list(islice(merge(*found, key=attrgetter("id.int")), limit))

    def ending(self, tenant: str, within: timedelta, limit: int) -> Sequence[Credential]:
        """See ``GrantViews.ending``; an end as it was last seen is never later than it is."""
        until = sa.func.now() + within
        wanted = (
            _SHOWN.join(grant_end, grant_end.c.connection_id == connection.c.id)
            .where(connection.c.tenant == tenant, grant_end.c.ends_at <= until, _GRANT.grant_ends_at <= until, *_ALIVE)
            .order_by(grant_end.c.ends_at)
            .limit(limit)
        )
        with self._database.begin() as transaction:
            found = [_credential(row, refresh=True) for row in transaction.execute(wanted)]
        return sorted(found, key=attrgetter("expires_at"))

    def aged(self, tenant: str, provider: str, until: datetime, limit: int) -> Sequence[Credential]:
        """See ``GrantViews.aged``."""
        whose = (connection.c.tenant == tenant, connection.c.provider == provider)
        wanted = (
            _SHOWN.where(*whose, connection.c.connected_at <= until, *_ALIVE)
            .order_by(connection.c.connected_at)
            .limit(limit)
        )
        with self._database.begin() as transaction:
            return [_credential(row, refresh=True) for row in transaction.execute(wanted)]

    def retrieve(self, of: Credential, reason: str) -> SealedRefreshToken | None:
        """See ``GrantViews.retrieve``."""
        wanted = (
            sa.select(_GRANT.connection_id, _GRANT.version, _GRANT.refresh_envelope, *DATA_KEY_COLUMNS)
            .join_from(oauth_grant, data_key, data_key.c.id == _GRANT.data_key_id)
            .where(_GRANT.connection_id == of.connection_id, _GRANT.tenant == of.tenant, _GRANT.version == of.version)
            .where(_GRANT.refresh_envelope.is_not(None))
        )
        with self._database.begin() as transaction:
            try:
                row = transaction.execute(wanted).one_or_none()
            except sa.exc.ProgrammingError as error:
                if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
                    raise ConfigurationError([NOT_FOR_THE_WEB]) from None
                raise
            if row is None:
                return None
            _log(transaction, of, reason)
        return SealedRefreshToken(row[0], row[1], row[2], DataKeyRecord(*row[3:]))

    def retrieved(self, of: Credential, reason: str) -> None:
        """See ``GrantViews.retrieved``."""
        with self._database.begin() as transaction:
            _log(transaction, of, reason)


def _fitting(wanted: Wanted) -> list[Any] | None:
    """What a connection must be for its tokens to be wanted; None: none can be."""
    conditions: list[Any] = [connection.c.tenant == wanted.tenant]
    given = {"owner": wanted.owner, "provider": wanted.provider, "id": wanted.connection_id}
    conditions += [connection.c[name] == value for name, value in given.items() if value is not None]
    if wanted.tags:
        conditions.append(connection.c.labels.contains(dict(wanted.tags)))
    match wanted.state:
        case "active":
            conditions.append(~_ENDED)
        case "destroyed":
            conditions.append(_ENDED)
        case None:
            pass
        case _:
            return None
    return conditions


def _credential(row: Any, *, refresh: bool) -> Credential:
    alive = row.status != Status.DISCONNECTED
    ends_at = row.grant_ends_at if refresh else row.expires_at
    facts = {"status": row.status, "scopes": row.granted_scopes, "account": row.account}
    return Credential(
        id=refresh_token_id(row.id) if refresh else row.id,
        tenant=row.tenant,
        owner=row.owner,
        provider=row.provider,
        connection_id=row.id,
        kind=str(Kind.REFRESH_TOKEN if refresh else Kind.ACCESS_TOKEN),
        name="",
        tags=dict(row.labels),
        policy={},
        state="active" if alive else "destroyed",
        version=row.version,
        latest=row.version,
        facts={name: word for name, word in facts.items() if word is not None},
        created_at=row.created_at,
        rotated_at=row.connected_at if refresh else row.refreshed_at,
        expires_at=ends_at if alive else None,
    )


def _log(transaction: sa.Connection, of: Credential, reason: str) -> None:
    detail = {"version": of.version, "reason": reason}
    transaction.execute(audit.insert().values(credential_row(of, "credential.retrieved", detail)))
