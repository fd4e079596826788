"""What went wrong, as problem documents (RFC 9457): one table for every error of ours, and no word from outside."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

import vault
from vault import VaultError

URN: Final = "urn:evergrant:problem:"
MEDIA_TYPE: Final = "application/problem+json"


class Kind(NamedTuple):
    """What is said of an error."""

    status: int
    word: str
    """The end of the URN that is its ``type``."""
    title: str
    tells: bool = False
    """Whether its own message is for the caller; otherwise it may speak of places and settings of ours."""


PROBLEMS: Final[Mapping[type[VaultError], Kind]] = {
    vault.UnknownConnection: Kind(404, "unknown_connection", "There is no such connection.", True),
    vault.UnknownProvider: Kind(404, "unknown_provider", "No provider of that name is registered."),
    vault.UnknownClient: Kind(404, "unknown_client", "There is no such registration."),
    vault.UnknownCredential: Kind(404, "unknown_credential", "There is no such credential.", True),
    vault.UnknownEndpoint: Kind(404, "unknown_endpoint", "There is no such endpoint."),
    vault.UnknownEvent: Kind(404, "unknown_event", "There is no such event."),
    vault.UnknownSession: Kind(404, "unknown_session", "There is no such session.", True),
    vault.TokenRefused: Kind(403, "token_refused", "The token is not good for this.", True),
    vault.ValidationUnavailable: Kind(503, "validation_unavailable", "Its issuer does not say whether it is good."),
    vault.UnknownApiKey: Kind(404, "unknown_api_key", "There is no such API key."),
    vault.ApiKeyRefused: Kind(401, "api_key", "An API key is needed, and this is none that counts."),
    vault.InvalidCredential: Kind(422, "invalid_credential", "The value is not what it is said to be.", True),
    vault.VersionConflict: Kind(409, "version_conflict", "The credential is at another version.", True),
    vault.RotationBusy: Kind(409, "rotation_busy", "A rotation of this credential is not over.", True),
    vault.RotationFailed: Kind(502, "rotation_failed", "The far side did not do its step."),
    vault.RefreshPending: Kind(503, "refresh_pending", "A new token is on its way: ask again later.", True),
    vault.ReconnectRequired: Kind(409, "reconnect_required", "The owner must connect again."),
    vault.TokenUnavailable: Kind(503, "token_unavailable", "There is no usable token now."),
    vault.ConnectRefused: Kind(400, "connect_refused", "The flow was not completed: start it again.", True),
    vault.CannotOpen: Kind(500, "cannot_open", "A sealed value could not be opened."),
    vault.KeyUnavailable: Kind(503, "key_unavailable", "The key that guards the value cannot be had now."),
    vault.DestructionRefused: Kind(409, "destruction_refused", "Nothing was destroyed."),
    vault.SignatureInvalid: Kind(400, "signature_invalid", "The signature does not fit."),
    vault.StoreUnavailable: Kind(503, "store_unavailable", "The database cannot be reached now."),
    vault.QueueUnavailable: Kind(503, "queue_unavailable", "The queue cannot be reached now."),
    vault.SourceUnavailable: Kind(503, "source_unavailable", "The source cannot be read now."),
    vault.MigrationBusy: Kind(409, "migration_busy", "Another run is at work."),
    vault.SchemaOutdated: Kind(503, "schema_outdated", "The database is not ready for this version."),
    vault.ConfigurationError: Kind(500, "configuration", "This is not set up: the operator must see to it."),
    vault.VaultError: Kind(500, "internal", "Something went wrong here."),
}
"""Every error of ours, by its class or the nearest one above; docs/http.md lists them."""

OWN: Final = (
    Kind(400, "malformed", "The request cannot be read."),
    Kind(403, "scope", "The API key is not allowed to do this."),
    Kind(403, "refresh_token", "Refresh tokens are not handed out over HTTP."),
    Kind(404, "not_found", "There is nothing here."),
    Kind(405, "method", "This cannot be done here; Allow says what can."),
    Kind(408, "slow", "The body did not come in time."),
    Kind(409, "several_connections", "The owner has several connections there: name one by its id."),
    Kind(409, "provider_not_ready", "The provider is known, and there is no registration at it yet."),
    Kind(413, "too_large", "The body is too large."),
    Kind(415, "media_type", "The body must be of another type."),
    Kind(422, "invalid", "The request is not what the description says."),
    Kind(429, "rate", "Too many requests: ask again later."),
    Kind(500, "internal", "Something went wrong here."),
)
"""What is wrong with requests before any vault is asked."""
BY_WORD: Final = {kind.word: kind for kind in OWN}
_METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_OF_STATUS: Final = {400: "malformed", 404: "not_found", 405: "method", 413: "too_large", 415: "media_type"}


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(extra="forbid", title="Problem")

    type: str
    """Stable: for programs."""
    title: str
    status: int
    detail: str
    reason: str | None = None
    """A word for programs, where one error has several causes."""
    retry_after: float | None = None
    """Seconds until it may be tried again."""
    request_id: str
    errors: list[dict[str, str]] | None = None
    """Of a request that is not what the description says: where, and what is wrong there."""


class Problem(Exception):
    """A request that comes to nothing, for a reason that is no error of a vault; ``word`` is that of one in ``OWN``."""

    def __init__(
        self,
        word: str,
        detail: str = "",
        *,
        reason: str | None = None,
        retry_after: timedelta | None = None,
        errors: Sequence[Mapping[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.kind, self.detail, self.reason = BY_WORD[word], detail, reason
        self.retry_after, self.errors, self.headers = retry_after, errors, headers or {}
        super().__init__(word)


def kind_of(error: type[VaultError]) -> Kind:
    """Return what is said of an error of ours."""
    return next(PROBLEMS[each] for each in error.__mro__ if each in PROBLEMS)


def of_vault(request_id: str, error: VaultError) -> Response:
    """Answer with an error of ours."""
    kind = kind_of(type(error))
    reason = getattr(error, "reason", None) if kind.status != HTTPStatus.INTERNAL_SERVER_ERROR else None
    detail = str(error) if kind.tells else kind.title
    headers = {"WWW-Authenticate": "Bearer"} if kind.status == HTTPStatus.UNAUTHORIZED else {}
    retry_after = error.retry_after
    if retry_after is None and kind.status == HTTPStatus.SERVICE_UNAVAILABLE and error.transient:
        retry_after = timedelta(seconds=1)
    return document(request_id, kind, detail, reason=reason, retry_after=retry_after, headers=headers)


def of_request(request_id: str, problem: Problem) -> Response:
    """Answer with what is wrong with a request."""
    return document(
        request_id, problem.kind, problem.detail or problem.kind.title, reason=problem.reason,
        retry_after=problem.retry_after, errors=problem.errors, headers=problem.headers,
    )  # fmt: skip


def document(
    request_id: str,
    kind: Kind,
    detail: str,
    *,
    reason: str | None = None,
    retry_after: timedelta | None = None,
    errors: Sequence[Mapping[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Write a problem document."""
    said: dict[str, Any] = {
        "type": URN + kind.word, "title": kind.title, "status": kind.status, "detail": detail, "request_id": request_id
    }  # fmt: skip
    further = dict(headers or {})
    if reason is not None:
        said["reason"] = reason
    if retry_after is not None:
        said["retry_after"] = round(retry_after.total_seconds(), 3)
        further["Retry-After"] = str(max(1, math.ceil(retry_after.total_seconds())))
    if errors is not None:
        said["errors"] = list(errors)
    return Response(json.dumps(said), kind.status, further, MEDIA_TYPE)


# ------------------------------------------------------------------------------------------------ what frameworks raise


def request_id_of(request: Request) -> str:
    """The id of a request, as its answer bears it."""
    found: str = request.scope.get("evergrant.request_id", "-")
    return found


async def on_vault_error(request: Request, error: Exception) -> Response:
    """Answer with an error of ours."""
    assert isinstance(error, VaultError)
    answer = of_vault(request_id_of(request), error)
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        structlog.get_logger(__name__).warning("http.error", error=type(error).__name__)
    return answer


async def on_problem(request: Request, error: Exception) -> Response:
    """Answer with what is wrong with a request."""
    assert isinstance(error, Problem)
    return of_request(request_id_of(request), error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer with what the framework has against a request."""
    assert isinstance(error, HTTPException)
    word = _OF_STATUS.get(error.status_code, "internal")
    headers = {"Allow": ", ".join(_methods(request))} if word == "method" else {}
    return of_request(request_id_of(request), Problem(word, headers=headers))


def _methods(request: Request) -> list[str]:
    """What can be done at an address: several routes share one, and the framework tells of the first."""
    return [each for each in _METHODS if any(_serves(route, request, each) for route in request.app.routes)]


def _serves(route: BaseRoute, request: Request, method: str) -> bool:
    return route.matches({**request.scope, "method": method})[0] is Match.FULL


async def on_invalid(request: Request, error: Exception) -> Response:
    """Say where a request is not what the description says; never what stood there."""
    assert isinstance(error, RequestValidationError)
    return of_request(request_id_of(request), invalid(error.errors()))


def invalid(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """Make a problem of what pydantic found: its words quote what was sent, so only its places and types are told."""
    found = [{"at": _place(each), "what": str(each["type"])} for each in errors]
    return Problem("invalid", errors=found)


def _place(error: Mapping[str, Any]) -> str:
    """Name a place by names of ours: a key that we do not know is the caller's word."""
    where = [str(each) for each in error["loc"]]
    if error["type"] == "extra_forbidden":
        where = where[:-1]
    return ".".join(where[:2] if error["type"] != "json_invalid" else where[:1])
