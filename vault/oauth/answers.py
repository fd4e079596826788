"""Reads what a token endpoint said. Pure: bytes in, one of the outcomes of ``vault.outcome`` out.

RFC 6749 sections 5.1 and 5.2 are the rule; docs/concepts.md, lists how providers depart from it. A 5xx
outranks whatever its body says. A 200 is read for an error first, since some providers put one there.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any, TypeGuard
from urllib.parse import parse_qsl

from vault.model import Answer
from vault.outcome import (
    CLIENT_CODES,
    Ambiguous,
    Dead,
    Exchange,
    Misconfigured,
    NotSent,
    Outcome,
    Refreshed,
    StepNeeded,
    Throttled,
    Unknown,
)
from vault.provider import Provider
from vault.secret import Secret

OPERATOR_CODES = CLIENT_CODES - {"no_code"} | frozenset({"unsupported_grant_type", "invalid_request", "invalid_scope"})
STEP_CODES = frozenset({"interaction_required", "login_required", "consent_required", "insufficient_scope"})
PASSING_CODES = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
OPERATOR_FAILURES = frozenset({"certificate", "refused_uri"})
"""Ends without an answer that only the operator can mend."""
CODE_LENGTH = 64
"""A code from outside is cut to this before it is stored as a reason."""
LONGEST_MEMBER = 2048
"""Characters of a member that is kept; a longer one is not what it was thought to be."""
LONGEST_LIFE = timedelta(days=3650)
_FORM = re.compile(rb"[A-Za-z0-9_.~%+=&*-]+")


def read(provider: Provider, exchange: Exchange) -> Outcome:
    """Tell what became of a POST to a token endpoint."""
    status = exchange.status
    if status == 0:
        return _unanswered(exchange)
    if status >= 500 or status == 408:
        return Ambiguous(f"http_{status}", exchange.retry_after)
    if status in (425, 429):
        return Throttled(f"http_{status}", exchange.retry_after)
    if 300 <= status < 400:
        return Misconfigured("redirected")
    document = _document(exchange.body)
    if document is None:
        return Ambiguous("unreadable") if status < 300 else Throttled(f"http_{status}", exchange.retry_after)
    code = document.get("error")
    if not code and status < 300:
        return _success(provider, document)
    return _rejection(provider, status, _word(code), exchange)


def _unanswered(exchange: Exchange) -> Outcome:
    if exchange.sent:
        return Ambiguous(exchange.failure)
    return (Misconfigured if exchange.failure in OPERATOR_FAILURES else NotSent)(exchange.failure)


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return _form(body)
    return document if isinstance(document, dict) else None


def _form(body: bytes) -> dict[str, Any] | None:
    """Read the form that some providers answer with instead of JSON (GitHub, Facebook); a page is not taken for one."""
    members = dict(parse_qsl(body.decode(), keep_blank_values=True)) if _FORM.fullmatch(body) else {}
    return members if members.get("access_token") or members.get("error") else None


def _is_text(value: object) -> TypeGuard[str]:
    """Whether it is text that can be sealed, stored and put into a header: no control character, no lone surrogate."""
    return isinstance(value, str) and value != "" and value.isprintable()


def _word(code: object) -> str:
    """Return an error code fit for a log and a column: short, printable, of few characters."""
    text = code if isinstance(code, str) else "no_code"
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-.") else "_" for c in text[:CODE_LENGTH]) or "no_code"


def _rejection(provider: Provider, status: int, code: str, exchange: Exchange) -> Outcome:
    if code in PASSING_CODES:
        return Throttled(code, exchange.retry_after)
    if code in provider.dead_grant_codes:
        return Dead(code)
    if code in OPERATOR_CODES or (status == 401 and code == "no_code"):
        return Misconfigured(code)
    if code in STEP_CODES:
        return StepNeeded(code)
    return Unknown(code if code != "no_code" else f"http_{status}")


def _success(provider: Provider, document: dict[str, Any]) -> Outcome:
    access = document.get("access_token")
    if not _is_text(access):
        return Ambiguous("no_access_token")
    refresh = document.get("refresh_token")
    if isinstance(refresh, str) and refresh and not _is_text(refresh):
        return Ambiguous("unreadable")
    token_type = document.get("token_type")
    scope = document.get("scope")
    return Refreshed(
        Answer(
            access_token=Secret(access),
            refresh_token=Secret(refresh) if _is_text(refresh) else None,
            expires_in=seconds(document.get("expires_in")),
            token_type=token_type if _is_text(token_type) else "Bearer",
            scopes=_scopes(provider, scope),
            refresh_expires_in=seconds(document.get("refresh_token_expires_in")),
            account=_member(document, provider.account_member) if provider.account_member else None,
            extra=_kept(provider, document) if provider.kept_members else {},
        )
    )


def _kept(provider: Provider, document: dict[str, Any]) -> dict[str, str]:
    found = {name: _member(document, name) for name in provider.kept_members}
    return {name: text for name, text in found.items() if text is not None}


def _member(document: object, path: str) -> str | None:
    """Return a member as text: a path of names joined by dots leads to it; None when it is no text or number."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    if isinstance(document, bool) or not isinstance(document, (str, int)):
        return None
    text = str(document)
    return text if _is_text(text) and len(text) <= LONGEST_MEMBER else None


def _scopes(provider: Provider, scope: object) -> tuple[str, ...] | None:
    if not isinstance(scope, str):
        return None
    return tuple(part for part in scope.replace(provider.scope_separator, " ").split() if _is_text(part))


def seconds(value: object) -> timedelta | None:
    """Read a duration in seconds, number or text; None for anything else, which means the provider's default."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not 0 < number < float("inf"):
        return None
    return timedelta(seconds=min(number, LONGEST_LIFE.total_seconds()))
