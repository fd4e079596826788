"""Connections by id, and their tokens."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Request
from starlette.responses import Response

from vault import (
    CannotOpen,
    Connection,
    ReconnectRequired,
    Refresh,
    RefreshPending,
    Status,
    Token,
    TokenUnavailable,
    UnknownConnection,
    grant_id,
)
from vault.web.guard import Caller, Guard, House, house_of
from vault.web.routing import JSON, answers, router
from vault.web.shapes import (
    ConnectionPage,
    ConnectionShape,
    Cursor,
    FurtherGrants,
    GrantName,
    HealthShape,
    Limit,
    TokenShape,
    Word,
)

connections = router("connections")
Reads = Annotated[Caller, Depends(Guard("connections:read"))]
Writes = Annotated[Caller, Depends(Guard("connections:write"))]
Tokens = Annotated[Caller, Depends(Guard("tokens:read", "tokens"))]


# The route that is asked most comes first: paths are compared in this order.
@connections.get(
    "/connections/{connection_id}/token",
    response_model=TokenShape,
    responses=answers(UnknownConnection, RefreshPending, ReconnectRequired, CannotOpen),
)
def token(
    request: Request,
    connection_id: UUID,
    caller: Tokens,
    min_ttl_s: Annotated[float, Query(ge=0, le=86_400, allow_inf_nan=False)] = 60,
    grant: Annotated[GrantName | None, Query(description="Of which further grant, such as Slack's `user`.")] = None,
) -> Response:
    """Return a token that works, and tell the audit so. Scope: `tokens:read`.

    A stored token that lives for `min_ttl_s` comes at once; otherwise a refresh is waited for, while not too many are.
    """
    house = house_of(request)
    if grant is not None:
        connection_id = grant_id(connection_id, grant)
    found = _token(house, caller, connection_id, timedelta(seconds=min_ttl_s))
    house.serving.token_read(caller.key, connection_id)
    said = {
        "connection_id": str(connection_id),
        "access_token": found.access_token.reveal(),
        "token_type": found.token_type,
        "expires_at": found.expires_at.isoformat(),
        "expires_in": max(0.0, found.ttl.total_seconds()),
    }
    return Response(json.dumps(said), media_type=JSON)


def _token(house: House, caller: Caller, connection_id: UUID, min_ttl: timedelta) -> Token:
    """Ask as an app does; without waiting when half of the threads may be waiting already."""
    if house.may_wait.acquire(blocking=False):
        try:
            return caller.vault.get(connection_id, min_ttl)
        finally:
            house.may_wait.release()
    found = caller.vault.get_many([connection_id], min_ttl).get(connection_id)
    if found is None:
        raise UnknownConnection(connection_id)
    if isinstance(found, TokenUnavailable):
        raise found
    return found


@connections.get("/connections", response_model=ConnectionPage, responses=answers())
def listed(
    caller: Reads,
    owner: Annotated[Word | None, Query()] = None,
    provider: Annotated[Word | None, Query()] = None,
    status: Annotated[Status | None, Query()] = None,
    further: Annotated[bool, Query(description="Also further grants, such as Slack's `user`.")] = False,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> ConnectionPage:
    """List connections, page by page. Scope: `connections:read`."""
    found = caller.vault.connections(
        owner=owner, provider=provider, status=status, after=cursor, limit=limit + 1, further=further
    )
    return _page(found, limit)


def _page(found: list[Connection], limit: int) -> ConnectionPage:
    shown = found[:limit]
    following = shown[-1].id if len(found) > limit else None
    return ConnectionPage(items=[ConnectionShape.of(each) for each in shown], next_cursor=following)


@connections.get("/connections/{connection_id}", response_model=ConnectionShape, responses=answers(UnknownConnection))
def one(connection_id: UUID, caller: Reads) -> ConnectionShape:
    """Return a connection, without its secrets. Scope: `connections:read`."""
    return ConnectionShape.of(caller.vault.connection(connection_id))


@connections.get(
    "/connections/{connection_id}/grants", response_model=FurtherGrants, responses=answers(UnknownConnection)
)
def grants(connection_id: UUID, caller: Reads) -> FurtherGrants:
    """List the further grants of a connection, such as Slack's `user`. Scope: `connections:read`.

    Each is a connection of its own, whose id stands wherever a connection's can.
    """
    return FurtherGrants(items=[ConnectionShape.of(each) for each in caller.vault.grants(connection_id)])


@connections.delete(
    "/connections/{connection_id}", status_code=204, response_class=Response, responses=answers(UnknownConnection)
)
def disconnected(connection_id: UUID, caller: Writes) -> None:
    """Take a connection's secrets away at once, and have the provider told. Scope: `connections:write`.

    Its further grants end with it.
    """
    caller.vault.disconnect(connection_id)


@connections.get(
    "/connections/{connection_id}/health", response_model=HealthShape, responses=answers(UnknownConnection)
)
def health(connection_id: UUID, caller: Reads) -> HealthShape:
    """Say how a connection is. Scope: `connections:read`."""
    return HealthShape.of(caller.vault.connection_health(connection_id))


@connections.post(
    "/connections/{connection_id}/refresh",
    status_code=202,
    response_class=Response,
    responses=answers(UnknownConnection),
)
def refreshed(connection_id: UUID, caller: Writes) -> None:
    """Have a connection refreshed now, also one that is backing off. Scope: `connections:write`."""
    caller.vault.enqueue(Refresh(connection_id))


@connections.post(
    "/connections/{connection_id}/reject",
    status_code=202,
    response_class=Response,
    responses=answers(UnknownConnection),
)
def rejected(connection_id: UUID, caller: Writes) -> None:
    """Tell that the provider's API refused the token that was served. Scope: `connections:write`."""
    caller.vault.report_rejected(connection_id)
