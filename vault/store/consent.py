"""The rows a consent consists of, as statements that take one grant or many; instants are the database's."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from vault.model import Status
from vault.ports import NewGrant
from vault.store.tables import NEVER_LEASED, connection, oauth_grant, schedule

NOW = sa.func.now()
_DURATIONS = ("life", "refresh_in", "stale_in", "grant_life", "age")


def _given(name: str) -> Any:
    """What a grant says; the prefix is SQLAlchemy's wish, who keeps a column's own name for itself."""
    return sa.bindparam(f"new_{name}", type_=sa.Interval() if name in _DURATIONS else None)


def _of(table: sa.Table, *names: str) -> dict[str, Any]:
    return {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in names}


ISSUED_AT = NOW - _given("age")
EXPIRES_AT = ISSUED_AT + _given("life")
CONNECTION = insert(connection).values(
    id=_given("connection_id"),
    **_of(connection, "tenant", "owner", "provider", "account", "requested_scopes", "granted_scopes", "labels"),
    **_of(connection, "part_of", "grant_name"),
)
SCHEDULE = insert(schedule).values(
    **_of(schedule, "connection_id", "client"),
    next_at=ISSUED_AT + _given("refresh_in"),
    urgent=False,
    lease_until=NEVER_LEASED,
    epoch=1,
    attempt=0,
    failures=0,
    intent_fp=None,
    intent_at=None,
)
REFRESH_ENVELOPE = _of(oauth_grant, "refresh_envelope")["refresh_envelope"]
GRANT = insert(oauth_grant).values(
    **_of(oauth_grant, "connection_id", "tenant", "version", "data_key_id", "client_id", "token_type"),
    **_of(oauth_grant, "refresh_fp", "access_envelope"),
    refresh_envelope=REFRESH_ENVELOPE,
    consent=1,
    status=Status.ACTIVE,
    reason=None,
    expires_at=EXPIRES_AT,
    refreshed_at=ISSUED_AT,
    stale_at=ISSUED_AT + _given("stale_in"),
    grant_ends_at=ISSUED_AT + _given("grant_life"),
)


def parameters(grant: NewGrant) -> dict[str, Any]:
    """Return what the statements want to know of a grant."""
    said = grant._asdict()
    said["labels"] = dict(grant.labels)
    said["stale_in"] = (grant.life + (grant.refresh_in or grant.life)) / 2
    return {f"new_{name}": value for name, value in said.items()}


def replacing(statement: Any, key: str, *names: str, where: Any = None, **more: Any) -> Any:
    """Return the statement with what a new consent puts in the place of an old one, if ``where`` holds."""
    taken = {name: statement.excluded[name] for name in names}
    return statement.on_conflict_do_update(index_elements=[key], set_={**taken, **more}, where=where)
