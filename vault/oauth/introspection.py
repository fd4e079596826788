"""Asks the issuer of a token about it, and reads what it says (RFC 7662).

What cannot be read says nothing of the token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from vault.egress.once import Heard, Http, Sent
from vault.oauth.assertions import BadKey
from vault.oauth.authentication import Authentication
from vault.oauth.writing import COMMON
from vault.provider import Provider
from vault.secret import Secret
from vault.validation.outcome import Active, Inactive, Introspected, Unanswered

MAX_BODY: Final = 64 * 1024
"""Bytes of an answer."""
DEFAULT_WAIT: Final = timedelta(seconds=60)
"""After a 429 that says nothing else."""
LONGEST_TEXT: Final = 512
"""Characters of a name that is taken over."""
MOST_WORDS: Final = 200
"""Scopes, and names of an audience, that are taken over; a token with more of them is not read by halves."""
_LATEST_S: Final = datetime(9000, 1, 1, tzinfo=UTC).timestamp()
_OPERATOR_FAILURES: Final = frozenset({"certificate", "refused_uri"})
_HEADERS: Final = ("Content-Type: application/x-www-form-urlencoded", *COMMON)


class HttpIntrospector:
    """``Introspector`` over the same transport, with the same bounds, as everything else that leaves."""

    def __init__(self, http: Http, clock: Callable[[], datetime]) -> None:
        self._http, self._authentication = http, Authentication(clock)

    def ask(self, provider: Provider, token: Secret) -> Introspected:
        """See ``Introspector.ask``."""
        if provider.introspect_uri is None or provider.client is None:
            return Unanswered("client_auth" if provider.introspect_uri else "no_endpoint", operator=True)
        try:
            provider = provider.at({})
            headers, said = self._authentication.shown(provider)
        except ValueError:  # it has as many addresses as connections, and a token does not say whose it is
            return Unanswered("no_endpoint", operator=True)
        except BadKey:
            return Unanswered("client_auth", operator=True)
        body = urlencode({"token": token.reveal(), "token_type_hint": "access_token", **said}).encode()
        sent = Sent("POST", provider.introspect_uri or "", (*_HEADERS, *headers), body, provider.identity)
        return read(self._http.send(sent))


def read(heard: Heard) -> Introspected:
    """Tell what an issuer said. Only ``active`` being false says that a token is not good."""
    if heard.status == 0:
        return Unanswered(heard.failure, operator=heard.failure in _OPERATOR_FAILURES)
    if heard.status == 429:
        return Unanswered("http_429", heard.retry_after or DEFAULT_WAIT)
    if heard.status >= 500 or heard.status in (408, 425):
        return Unanswered(f"http_{heard.status}", heard.retry_after)
    if 300 <= heard.status < 400:
        return Unanswered("redirected", operator=True)
    document = _document(heard.body)
    if heard.status == 401 or document.get("error") in ("invalid_client", "unauthorized_client"):
        return Unanswered("client_refused", operator=True, of_client=True)
    if heard.status != 200:
        return Unanswered(f"http_{heard.status}", operator=True, of_request=True)
    if document.get("active") is False:
        return Inactive()
    if document.get("active") is not True:
        return Unanswered("unreadable", operator=True)
    return _active(document)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _active(said: dict[str, Any]) -> Introspected:
    try:
        return Active(
            _text(said.get("sub")), _words(said.get("scope")), _instant(said.get("exp")), _instant(said.get("nbf")),
            _text(said.get("client_id")), _names(said.get("aud")), _text(said.get("iss")),
        )  # fmt: skip
    except ValueError:
        return Unanswered("unreadable", operator=True)


def _text(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= LONGEST_TEXT:
        raise ValueError
    return value


def _words(value: object) -> tuple[str, ...]:
    """Scopes: text with spaces between them, or, as some servers have it, a list."""
    words = value.split(" ") if isinstance(value, str) else value or []
    return _all(words)


def _names(value: object) -> tuple[str, ...]:
    return _all([value] if isinstance(value, str) else value or [])


def _all(words: object) -> tuple[str, ...]:
    if not isinstance(words, list) or len(words) > MOST_WORDS:
        raise ValueError
    return tuple(found for word in words if (found := _text(word or None)) is not None)


def _instant(value: object) -> datetime | None:
    """A NumericDate; one past the year 9000 is that year."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ValueError
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return datetime.fromtimestamp(min(value, _LATEST_S), UTC)
