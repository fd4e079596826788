"""The body of a token answer: the standard one quickly, every other dress by the configured shape."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from tests.simulator.config import AnswerShape
from tests.simulator.grants import Family, Pair
from tests.simulator.journal import quote
from tests.simulator.wire import FORM, JSON, write_answer

PLAIN = AnswerShape()


def token_answer(
    family: Family,
    pair: Pair,
    now: float,
    shape: AnswerShape,
    missing: Iterable[str] = (),
    accept: str = "",
    beside: Mapping[str, tuple[Family, Pair]] | None = None,
) -> bytes:
    """The success answer of the token endpoint (RFC 6749, section 5.1).

    Args:
        family: the grant the tokens belong to.
        pair: the tokens.
        now: the simulator's time, for the remaining lives.
        shape: the provider's dress.
        missing: members a fault takes away.
        accept: the request's Accept header, which may overrule a form-encoded shape.
        beside: further grants, by the members under which they come.
    """
    remaining = _remaining(family, pair, now)
    if shape is PLAIN and not missing:
        refresh = "" if pair.refresh_token is None else f'"refresh_token":"{pair.refresh_token}",'
        return write_answer(
            200,
            f'{{"access_token":"{pair.access_token}","token_type":"Bearer","expires_in":{remaining},'
            f'{refresh}"scope":{quote(family.scope)}}}'.encode(),
        )
    members = _dressed(family, pair, now, shape)
    for name in (*shape.omit, *missing):
        members.pop(shape.rename.get(name, name), None)
    if shape.form and "application/json" not in accept:
        return write_answer(200, urlencode({**members, **shape.extra}).encode(), FORM)
    body = {**shape.extra, shape.nest: members} if shape.nest else {**members, **shape.extra}
    for name, (other, tokens) in (beside or {}).items():
        body[name] = {**_dressed(other, tokens, now, shape), **body.get(name, {})}
    return write_answer(200, json.dumps(body).encode(), JSON)


def _remaining(family: Family, pair: Pair, now: float) -> int:
    return max(0, round(family.access_tokens[pair.access_token].expires_at - now))


def _dressed(family: Family, pair: Pair, now: float, shape: AnswerShape) -> dict[str, Any]:
    remaining = _remaining(family, pair, now)
    members: dict[str, Any] = {"access_token": pair.access_token, "token_type": "Bearer"}
    match shape.expires_in:
        case "string":
            members["expires_in"] = str(remaining)
        case "milliseconds":
            members["expires_in"] = remaining * 1000
        case "clock":
            members["expires_in"] = f"{remaining // 86400}:{remaining // 3600 % 24:02}:{remaining // 60 % 60:02}"
        case "at":
            members["expires_at"] = round(now + remaining)
        case "at_ms":
            members["expires_at"] = round((now + remaining) * 1000)
        case "iso":
            members["expires_at"] = datetime.fromtimestamp(now + remaining, UTC).isoformat()
        case _:
            members["expires_in"] = remaining
    if pair.refresh_token is not None:
        members["refresh_token"] = pair.refresh_token
        expires_at = family.refresh_tokens[pair.refresh_token].expires_at
        if shape.refresh_token_expires_in and expires_at is not None:
            members[shape.refresh_token_expires_in] = max(0, round(expires_at - now))
    members["scope"] = shape.scope_separator.join(family.scope.split())
    return {shape.rename.get(name, name): value for name, value in members.items()}


def error_answer(status: int, error: str, description: str, as_200: bool = False, accept: str = JSON.decode()) -> bytes:
    """An error of the token endpoint (RFC 6749, section 5.2), or the same in GitHub's dress.

    Args:
        status: the proper HTTP status.
        error: the error code.
        description: for the developer.
        as_200: answer with status 200, call `invalid_grant` `bad_refresh_token`, and encode it as a form unless JSON
            is asked for.
        accept: the request's Accept header, read only with `as_200`.
    """
    members = {"error": error, "error_description": description}
    if as_200:
        if error == "invalid_grant":
            members["error"] = "bad_refresh_token"
        if "application/json" not in accept:
            return write_answer(200, urlencode(members).encode(), FORM)
        return write_answer(200, json.dumps(members).encode())
    extra = b'WWW-Authenticate: Basic realm="simulator"\r\n' if status == 401 else b""
    return write_answer(status, json.dumps(members).encode(), JSON, extra)
