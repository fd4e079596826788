"""Connecting an owner's account at a provider, and the connection that an owner has there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from secrets import token_urlsafe
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, quote, urlencode
from uuid import UUID

from fastapi import Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import ValidationError
from starlette.responses import Response

from vault import (
    Connection,
    ConnectRefused,
    ConnectStart,
    Status,
    UnknownConnection,
    UnknownProvider,
    Vault,
)
from vault.web.guard import Caller, Credentials, Guard, House, by_address, house_of
from vault.web.problems import Problem
from vault.web.routing import FORM, FormRoute, answers, media_type, router
from vault.web.shapes import (
    Assignment,
    Callback,
    Connected,
    ConnectionShape,
    GrantScopes,
    HealthShape,
    Line,
    ProviderHealth,
    ProviderName,
    Started,
    TicketRequest,
    TicketShape,
    Word,
)

FLOW_S: Final = 600
TICKET_S: Final = 60
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
_BROUGHT: Final = frozenset({"state", "code", "error", "iss"})
"""What a provider's form may carry on; the rest is not looked at."""

connecting = router("connect")
callbacks = router("connect", FormRoute)
Connects = Annotated[Caller, Depends(Guard("connections:write", "connects"))]
Reads = Annotated[Caller, Depends(Guard("connections:read"))]
Writes = Annotated[Caller, Depends(Guard("connections:write"))]


# ----------------------------------------------------------------------------------------------------------- beginning


@connecting.get(
    "/{provider}/auth",
    responses={
        200: {"model": Started},
        303: {"description": "To the provider, with a cookie that binds the flow to this browser."},
        **answers(UnknownProvider, UnknownConnection, ConnectRefused, "provider_not_ready"),
    },
)
def begin(
    request: Request,
    provider: ProviderName,
    caller: Connects,
    owner: Annotated[Word, Query(description="Your id for whoever owns the account.")],
    browser: Annotated[
        Word | None, Query(description="A value bound to their browser, such as a digest of its session's id.")
    ] = None,
    scopes: Annotated[Line | None, Query(description="What to ask for, separated by spaces.")] = None,
    grant: Annotated[
        list[GrantScopes],
        Query(max_length=16, description="NAME=SCOPES, for further grants, such as Slack's `user`."),
    ] = [],  # noqa: B006  # FastAPI copies it
    return_to: Annotated[Line | None, Query(description="A path to go to afterwards.")] = None,
    redirect_uri: Annotated[Line | None, Query(description="Default: as the operator has set.")] = None,
    reconnect: Annotated[UUID | None, Query(description="A connection to give a new grant, in place.")] = None,
    variable: Annotated[
        list[Assignment],
        Query(max_length=16, description="NAME=VALUE, for parts of the provider's addresses, such as the shop."),
    ] = [],  # noqa: B006  # FastAPI copies it
    redirect: Annotated[bool, Query(description="Send this browser on at once, bound by a cookie.")] = False,
) -> Response:
    """Begin a flow: returns where to send the owner, or sends them there. Scope: `connections:write`.

    Without `redirect`, `browser` is needed; `POST …/callback` must then bring the same.
    """
    words = {
        "owner": owner,
        "scopes": None if scopes is None else scopes.split(),
        "grants": {name: several.split() for name, _, several in (each.partition("=") for each in grant)},
        "return_to": return_to,
        "redirect_uri": redirect_uri,
        "reconnect": reconnect,
        "variables": dict(each.split("=", 1) for each in variable),
    }
    if redirect:
        return _sent(request, caller.vault, provider, words)
    if browser is None:
        raise Problem("invalid", errors=[{"at": "query.browser", "what": "missing"}])
    start = _begun(caller.vault, provider, {**words, "browser": browser})
    said = Started(url=start.url, state=start.state, connection_id=start.connection_id, expires_in=FLOW_S)
    return JSONResponse(said.model_dump(mode="json"))


@connecting.post(
    "/{provider}/tickets",
    status_code=201,
    response_model=TicketShape,
    responses=answers(UnknownProvider, "provider_not_ready", body=True),
)
def ticket(request: Request, provider: ProviderName, caller: Connects, asked: TicketRequest) -> TicketShape:
    """Make a ticket with which the owner's browser begins the flow here, without a key. Scope: `connections:write`.

    Send the browser to `path` at once: whoever has the path first begins the flow.
    """
    _check_ready(caller.vault, provider)
    made = caller.vault.serving.ticket(caller.key.tenant, provider, asked.model_dump(mode="json"))
    root = request.scope.get("root_path", "").rstrip("/")
    path = f"{root}{request.app.state.api}/{quote(provider)}/tickets/{made}"
    return TicketShape(path=path, expires_in=TICKET_S)


@connecting.get(
    "/{provider}/tickets/{ticket}",
    status_code=303,
    dependencies=[Depends(by_address)],
    response_class=RedirectResponse,
    responses={
        303: {"description": "To the provider, with a cookie that binds the flow to this browser."},
        **answers(UnknownProvider, UnknownConnection, ConnectRefused, "provider_not_ready", keyed=False),
    },
)
def visit(request: Request, provider: ProviderName, ticket: Word) -> Response:
    """Begin the flow of a ticket, for the browser that asks. Needs no key: the ticket is the authority, once."""
    house = house_of(request)
    found = house.serving.take_ticket(ticket)
    if found.provider != provider:
        raise ConnectRefused("unknown_ticket", "it is another provider's")
    return _sent(request, house.of(found.tenant), provider, dict(found.request))


def _sent(request: Request, vault: Vault, provider: str, words: Mapping[str, Any]) -> Response:
    """Send a browser to the provider, bound to the flow by a cookie."""
    browser = token_urlsafe(32)
    start = _begun(vault, provider, {**words, "browser": browser})
    answer = RedirectResponse(start.url, 303)
    secure = _is_secure(request)
    name = _cookie(start.state, secure=secure)
    answer.set_cookie(name, browser, max_age=FLOW_S, path="/", secure=secure, httponly=True, samesite="lax")
    return answer


def _begun(vault: Vault, provider: str, words: Mapping[str, Any]) -> ConnectStart:
    _check_ready(vault, provider)
    return vault.begin(provider, **words)


def _check_ready(vault: Vault, provider: str) -> None:
    if not vault.serving.can_connect(provider):
        raise Problem("provider_not_ready")


def _is_secure(request: Request) -> bool:
    """Whether cookies are for TLS only: always, but on this machine."""
    return (request.url.hostname or "") not in _LOOPBACK


def _cookie(state: str, *, secure: bool) -> str:
    """Name a flow's cookie, so that several flows of one browser keep apart; the prefix shuts out other hosts'."""
    name = f"evergrant-{sha256(state.encode()).hexdigest()[:16]}"
    return f"__Host-{name}" if secure else name


# -------------------------------------------------------------------------------------------------------------- ending


@callbacks.get(
    "/{provider}/callback",
    dependencies=[Depends(by_address)],
    responses={
        200: {"model": Connected},
        303: {"description": "Connected: on to the `return_to` of the flow."},
        **answers(ConnectRefused, UnknownProvider, keyed=False),
    },
)
def returned(
    request: Request,
    provider: ProviderName,
    state: Annotated[Word, Query()],
    code: Annotated[Line | None, Query()] = None,
    error: Annotated[Line | None, Query()] = None,
    iss: Annotated[Line | None, Query()] = None,
) -> Response:
    """End a flow in the browser that began it. Needs no key: state and cookie are the authority."""
    _check_once([name for name, _ in request.query_params.multi_items()])
    secure = _is_secure(request)
    cookie = _cookie(state, secure=secure)
    browser = request.cookies.get(cookie)
    vault = _whose(house_of(request), provider, state, None)
    connection = vault.complete(
        state=state, code=code, browser=browser, error=error, issuer=iss, parameters=request.query_params,
        provider=provider,
    )  # fmt: skip
    if connection.return_to is not None:
        answer: Response = RedirectResponse(connection.return_to, 303)
    else:
        said = Connected(connection_id=connection.id, provider=connection.provider, status=connection.status)
        answer = JSONResponse(said.model_dump(mode="json"))
    answer.delete_cookie(cookie, path="/", secure=secure, httponly=True, samesite="lax")
    return answer


def _check_once(names: Sequence[str]) -> None:
    """Refuse a redirect that says something twice: whoever checks it might read the other (RFC 6749, section 3.1)."""
    if len(names) != len(set(names)):
        raise ConnectRefused("malformed", "the redirect says something twice")


async def _posted(request: Request, given: Credentials) -> tuple[Caller, Callback] | dict[str, str]:
    """Read what was posted: by the app, with its key; or a form by a browser, with none."""
    raw = await request.body()
    if media_type(request) == FORM:
        try:
            fields = parse_qsl(raw.decode(), max_num_fields=50)
        except ValueError:
            raise Problem("malformed") from None
        _check_once([name for name, _ in fields])
        return dict(fields)
    caller = await house_of(request).admit(request, given, "connections:write", "connects")
    try:
        return caller, Callback.model_validate_json(raw)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_input=False)]
        raise RequestValidationError(found) from None


@callbacks.post(
    "/{provider}/callback",
    response_model=ConnectionShape,
    responses={
        303: {"description": "To this same callback, as a browser may bring its cookie there."},
        **answers(ConnectRefused, UnknownProvider, body=True),
    },
    openapi_extra={
        "security": [{"api_key": []}, {}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Callback"}},
                FORM: {"schema": {"type": "object", "properties": {name: {"type": "string"} for name in _BROUGHT}}},
            },
        },
    },
)
def handed_over(
    request: Request,
    provider: ProviderName,
    posted: Annotated[tuple[Caller, Callback] | dict[str, str], Depends(_posted)],
) -> Any:
    """End a flow that the app began, with what the redirect to it carried. Scope: `connections:write`.

    A form needs no key: the browser that brings one, from another site and so without its cookie, is sent to
    `GET …/callback` with it.
    """
    if isinstance(posted, dict):
        return RedirectResponse(f"{request.url.path}?{urlencode(posted)}", 303)
    caller, brought = posted
    vault = _whose(house_of(request), provider, brought.state, caller)
    connection = vault.complete(
        state=brought.state, code=brought.code, browser=brought.browser, error=brought.error, issuer=brought.iss,
        parameters=brought.parameters, provider=provider,
    )  # fmt: skip
    return ConnectionShape.of(connection)


def _whose(house: House, provider: str, state: str, caller: Caller | None) -> Vault:
    """Return the vault of a flow, which is left untouched when it is not the caller's, or another provider's."""
    flow = house.serving.flow(state)
    if caller is not None and flow.tenant != caller.key.tenant:
        raise ConnectRefused("unknown_state", "this flow is unknown, over ten minutes old, or was completed before")
    if flow.provider != provider:
        raise ConnectRefused("other_provider", "the flow was begun with another provider")
    return house.of(flow.tenant)


# ---------------------------------------------------------------------------------------------------------- afterwards


@connecting.get(
    "/{provider}/connection",
    response_model=ConnectionShape,
    responses=answers(UnknownConnection, "several_connections"),
)
def shown(provider: ProviderName, caller: Reads, owner: Annotated[Word, Query()]) -> ConnectionShape:
    """Return the connection that an owner has at a provider, if it is the only one. Scope: `connections:read`."""
    return ConnectionShape.of(_only(caller.vault, owner, provider))


@connecting.delete(
    "/{provider}/connection",
    status_code=204,
    response_class=Response,
    responses=answers(UnknownConnection, "several_connections"),
)
def ended(provider: ProviderName, caller: Writes, owner: Annotated[Word, Query()]) -> None:
    """Disconnect the connection that an owner has at a provider. Scope: `connections:write`."""
    caller.vault.disconnect(_only(caller.vault, owner, provider).id)


@connecting.get(
    "/{provider}/health",
    response_model=ProviderHealth,
    responses=answers(UnknownConnection, UnknownProvider, "several_connections"),
)
def health(provider: ProviderName, caller: Reads, owner: Annotated[Word | None, Query()] = None) -> ProviderHealth:
    """Say how this tenant, and one owner, stand with a provider; it is not asked. Scope: `connections:read`."""
    vault = caller.vault
    ready, found = vault.serving.can_connect(provider), None
    if owner is not None:
        found = HealthShape.of(vault.connection_health(_only(vault, owner, provider).id))
    number = vault.statistics().connections_by_provider.get(provider, 0)
    return ProviderHealth(provider=provider, ready=ready, connections=number, connection=found)


def _only(vault: Vault, owner: str, provider: str) -> Connection:
    """Return the one connection that has not ended."""
    after: UUID | None = None
    alive: list[Connection] = []
    while True:
        page = vault.connections(owner=owner, provider=provider, after=after, limit=100)
        alive += [each for each in page if each.status is not Status.DISCONNECTED]
        if len(alive) > 1:
            raise Problem("several_connections")
        if len(page) < 100:
            break
        after = page[-1].id
    if not alive:
        raise UnknownConnection(f"of this owner at {provider}")
    return alive[0]
