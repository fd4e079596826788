"""How endpoints are declared: with the errors they may answer, so that the description has every status there is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from vault import ApiKeyRefused, KeyUnavailable, SchemaOutdated, StoreUnavailable, VaultError
from vault.web.problems import BY_WORD, MEDIA_TYPE, Kind, Problem, ProblemDocument, kind_of

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
_ALWAYS: Final = ("malformed", "slow", "too_large", "invalid", "rate")
_KEYED: Final = ("scope",)

Answers = dict[int | str, dict[str, Any]]
_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """Takes bodies of the type that is described, and says so of others."""

    accepts: ClassVar[tuple[str, ...]] = (JSON,)

    def get_route_handler(self) -> _Handler:
        """See ``APIRoute.get_route_handler``."""
        inner, takes_body = super().get_route_handler(), (self.methods or set()) & {"POST", "PUT", "PATCH"}

        async def handle(request: Request) -> Response:
            if takes_body and await request.body() and media_type(request) not in self.accepts:
                raise Problem("media_type", f"it must be {' or '.join(self.accepts)}")
            return await inner(request)

        return handle if takes_body else inner


class FormRoute(StrictRoute):
    """Takes forms too: some providers send browsers back with one (``response_mode=form_post``)."""

    accepts = (JSON, FORM)


def media_type(request: Request) -> str:
    """Return the type of a body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def router(tag: str, route: type[APIRoute] = StrictRoute) -> APIRouter:
    """Make a router for one sort of thing."""
    return APIRouter(tags=[tag], route_class=route)


def answers(*errors: type[VaultError] | str, keyed: bool = True, body: bool = False) -> Answers:
    """Describe the problems an endpoint may answer with.

    Args:
        errors: Errors of ours, and words of ``OWN``, beside those that every endpoint has.
        keyed: Whether it asks for an API key.
        body: Whether it takes one.
    """
    words = [*_ALWAYS, *(("media_type",) if body else ()), *(_KEYED if keyed else ())]
    kinds = [BY_WORD[word] for word in words]
    kinds += [kind_of(each) for each in (StoreUnavailable, SchemaOutdated, KeyUnavailable)]
    kinds += [kind_of(ApiKeyRefused)] if keyed else []
    kinds += [BY_WORD[each] if isinstance(each, str) else kind_of(each) for each in errors]
    by_status: dict[int, list[Kind]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    return {status: _described(found) for status, found in sorted(by_status.items())}


def _described(kinds: list[Kind]) -> dict[str, Any]:
    said = "; ".join(dict.fromkeys(f"`{kind.word}`: {kind.title}" for kind in kinds))
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.model_config['title']}"}
    return {"description": said, "content": {MEDIA_TYPE: {"schema": schema}}}
