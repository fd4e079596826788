"""Other ways of speaking than RFC 6749's: how requests must look, who has signed them, how refusals are dressed."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from tests.simulator.config import Dialect
from tests.simulator.wire import JSON, Head, write_answer

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def understand(dialect: Dialect, head: Head, body: bytes, form: dict[str, str]) -> str:
    """Put a token request into standard words, in place; returns what is wrong with it, or nothing."""
    seen = _seen(dialect, head, body, form)
    if seen is None:
        return "parameters are not where they belong"
    missing = [name for name, value in dialect.headers.items() if head.headers.get(name) != value]
    exchange = "code" in seen or dialect.names.get("code", "code") in seen
    for name, value in dialect.parameters.items():
        when, _, wanted = name.rpartition(":")
        if when in ("", "code" if exchange else "refresh") and seen.get(wanted) != value:
            missing.append(wanted)
    if missing:
        return f"{missing[0]} is missing"
    if not exchange and head.method != dialect.method:
        return "another method is wanted"
    form.clear()
    form.update(seen)
    rename(dialect, form)
    kind = form.get("grant_type", "authorization_code" if exchange else "refresh_token")
    form["grant_type"] = dialect.grant_types.get(kind, kind)
    return ""


def _seen(dialect: Dialect, head: Head, body: bytes, form: dict[str, str]) -> dict[str, str] | None:
    """The parameters, if they stand where this provider looks for them."""
    match dialect.body:
        case "query":
            return dict(parse_qsl(head.query, keep_blank_values=True)) if not body else None
        case "json":
            is_json = "json" in head.headers.get("content-type", "") and not head.query
            return {name: str(value) for name, value in json.loads(body).items()} if is_json else None
        case "form":
            is_form = "urlencoded" in head.headers.get("content-type", "") and not head.query
            return dict(parse_qsl(body.decode(), keep_blank_values=True)) if is_form else None
    return dict(form)


def rename(dialect: Dialect, form: dict[str, str]) -> None:
    """Give parameters their standard names; what has a standard name here that is not this provider's is not seen."""
    for standard, theirs in dialect.names.items():
        form.pop(standard, None) if standard != theirs else None
    for standard, theirs in dialect.names.items():
        if theirs in form:
            form[standard] = form[theirs]


def signer(dialect: Dialect, form: dict[str, str], now: float) -> str | None:
    """Tell whose assertion shows who asks (RFC 7523, section 2.2), or whose minted secret; None: nobody's."""
    statement = form.get("client_secret", "")
    if form.get("client_assertion_type") == ASSERTION_TYPE:
        statement = form.get("client_assertion", "")
    found = claims(dialect, statement, now)
    client_id = form.get("client_id", "")
    if form.get("grant_type") == JWT_BEARER and not statement:
        return client_id or next(iter(dialect.keys))
    return client_id if found is not None and found.get("sub") == client_id else None


def claims(dialect: Dialect, statement: str, now: float) -> dict[str, Any] | None:
    """Return what a statement claims, if one of the known keys has signed it and it holds now."""
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, RSAKey

    for pem in dialect.keys.values():
        for kind, algorithms in ((ECKey, ["ES256", "ES384"]), (RSAKey, ["RS256", "PS256"])):
            try:
                found = jwt.decode(statement, kind.import_key(pem), algorithms=algorithms)
            except (JoseError, ValueError):
                continue
            stated: dict[str, Any] = found.claims
            fits = stated["iat"] <= now + 1 and now < stated["exp"] <= now + 15_777_000
            named = not dialect.audience or stated.get("aud") == dialect.audience
            return stated if fits and named and found.header.get("typ") == "JWT" else None
    return None


def refusal(dialect: Dialect, status: int, error: str, text: str) -> bytes:
    """An error in this provider's dress."""
    code = dialect.error_codes.get(error, error)

    def dressed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: dressed(each) for name, each in value.items()}
        if isinstance(value, list):
            return [dressed(each) for each in value]
        if value == "{number}":
            return int(code) if code.isdecimal() else code
        return value.format(code=code, text=text) if isinstance(value, str) else value

    return write_answer(dialect.error_status or status, json.dumps(dressed(dialect.error)).encode(), JSON)
