"""Reads what a token endpoint said. Pure: bytes in, one of the outcomes of ``vault.outcome`` out.

RFC 6749 sections 5.1 and 5.2 are the rule; a provider's row says how it departs from it. A 5xx outranks whatever its
body says. A 200 is read for an error first, since some providers put one there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeGuard
from urllib.parse import parse_qsl

from vault.dialect import Clock
from vault.model import SIGNING, Answer
from vault.oauth.lives import life, until
from vault.oauth.refusals import codes, confirmed, member, recognised, refusal
from vault.outcome import Ambiguous, Exchange, Misconfigured, NotSent, Outcome, Refreshed, Throttled
from vault.provider import Provider, Strategy
from vault.secret import Secret

OPERATOR_FAILURES = frozenset({"certificate", "refused_uri"})
"""Ends without an answer that only the operator can mend."""
LONGEST_MEMBER = 2048
"""Characters of a member that is kept; a longer one is not what it was thought to be."""
_SCHEME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_FORM = re.compile(rb"[A-Za-z0-9_.~%+=&*-]+")


def read(provider: Provider, exchange: Exchange, now: datetime | None = None) -> Outcome:
    """Tell what became of a POST to a token endpoint.

    Args:
        provider: Who was asked.
        exchange: How it ended.
        now: For answers that name the instant at which a token ends; without it that is not known.
    """
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
    if document is None and not recognised(provider, status, exchange.body):
        return Ambiguous("unreadable") if status < 300 else Throttled(f"http_{status}", exchange.retry_after)
    found = codes(provider.errors, document or {})
    if not found and status < 300 and document is not None:
        return _success(provider, document, now)
    return refusal(provider, status, found, exchange.body, exchange.retry_after)


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


def _is_scheme(value: object) -> TypeGuard[str]:
    """Whether a header can begin with it (RFC 9110, section 11.1); what signs requests comes in other answers."""
    return isinstance(value, str) and _SCHEME.fullmatch(value) is not None and value != SIGNING


def _success(provider: Provider, document: dict[str, Any], now: datetime | None) -> Outcome:
    found = _holder(provider, document)
    if found is None:
        return Ambiguous("no_access_token")
    main = _tokens(provider, found, now)
    grants = _further(provider, document, found, now)
    if main is None or grants is None:
        return Ambiguous("unreadable")
    account = _kept_text(document, provider.answer.account) if provider.answer.account else None
    extra = _kept(provider, document) if provider.answer.kept else {}
    if account or extra or grants:
        main = replace(main, account=account, extra=extra, grants=grants)
    return Refreshed(main)


def _tokens(provider: Provider, found: dict[str, Any], now: datetime | None) -> Answer | None:
    """Read the tokens of one grant; None: one is there and cannot be read."""
    style = provider.answer
    access, refresh = (member(found, _name(provider, each)) for each in ("access_token", "refresh_token"))
    if isinstance(refresh, str) and refresh and not _is_text(refresh):
        return None
    token_type = member(found, _name(provider, "token_type"))
    idle, ends = (_life(provider, found, name, now) for name in ("refresh_token_expires", "grant_expires"))
    if style.refresh_clock is Clock.ABSOLUTE:
        idle, ends = None, ends or idle
    return Answer(
        access_token=Secret(access or ""),
        refresh_token=Secret(refresh) if _is_text(refresh) else None,
        expires_in=_life(provider, found, "expires", now),
        token_type=token_type if _is_scheme(token_type) else "Bearer",
        scopes=_scopes(provider, member(found, _name(provider, "scope"))),
        refresh_expires_in=idle,
        grant_expires_in=ends,
    )


def _holder(provider: Provider, document: dict[str, Any]) -> dict[str, Any] | None:
    """Return what holds the access token; where the one before goes on, whatever holds the rest."""
    name = _name(provider, "access_token")
    for root in provider.answer.roots:
        found = member(document, root)
        if isinstance(found, dict) and _is_text(member(found, name)):
            return found
    goes_on = provider.strategy is Strategy.EXTEND and confirmed(provider.errors, document)
    return document if goes_on and not member(document, name) else None


def _further(
    provider: Provider, document: dict[str, Any], main: object, now: datetime | None
) -> Mapping[str, Answer] | None:
    """Read whatever else in an answer holds an access token; None: one of them cannot be read."""
    name, grants = _name(provider, "access_token"), dict[str, Answer]()
    for grant, style in provider.grants.items():
        found = member(document, style.root)
        if not isinstance(found, dict) or found is main or not (access := member(found, name)):
            continue
        tokens = _tokens(provider, found, now) if _is_text(access) else None
        if tokens is None:
            return None
        grants[grant] = replace(tokens, account=_kept_text(document, style.account) if style.account else None)
    return grants


def _life(provider: Provider, found: dict[str, Any], name: str, now: datetime | None) -> timedelta | None:
    """Read a life that is told as a duration, or as an instant."""
    told = life(member(found, _name(provider, f"{name}_in")), provider.answer.unit)
    if told is None and now is not None:
        told = until(member(found, _name(provider, f"{name}_at")), now)
    return told


def _name(provider: Provider, standard: str) -> str:
    """Return what this provider calls a member."""
    return provider.answer.names.get(standard, standard)


def _kept(provider: Provider, document: dict[str, Any]) -> dict[str, str]:
    found = {name: _kept_text(document, name) for name in provider.answer.kept}
    return {name: text for name, text in found.items() if text is not None}


def _kept_text(document: object, path: str) -> str | None:
    """Return a member as text; None when it is no text or number."""
    found = member(document, path)
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        return None
    text = str(found)
    return text if _is_text(text) and len(text) <= LONGEST_MEMBER else None


def _scopes(provider: Provider, scope: object) -> tuple[str, ...] | None:
    if isinstance(scope, list):
        return tuple(part for part in scope if _is_text(part) and " " not in part)
    if not isinstance(scope, str):
        return None
    return tuple(part for part in scope.replace(provider.scope_separator, " ").split() if _is_text(part))
