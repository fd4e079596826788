"""A session of requests that speaks to a provider's API in the name of a connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol
from urllib.parse import urljoin
from uuid import UUID

import requests
from requests.auth import AuthBase
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from vault.facade.bearer import Bearer
from vault.facade.ids import Id
from vault.model import SIGNING, Token

TIMEOUT: Final = (5.0, 30.0)
"""Seconds to connect, and between two bytes of an answer."""
LONGEST_WAIT: Final = timedelta(seconds=30)
DEFAULT_WAIT: Final = timedelta(seconds=1)
"""When an answer asks for patience and does not say how much."""
TRIES: Final = 3
NEW_TOKEN_S: Final = 10.0
"""How long a new token is waited for after the API refused one that should have worked."""
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110, section 9.2.1): what was asked may be asked again."""
_PATIENCE: Final = frozenset({429, 503})
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
"""Where an API may be spoken to without TLS: in tests."""
_REPEATABLE: Final = (bytes, str, type(None), Mapping, list)


class Tokens(Protocol):
    """What a session needs of a ``Vault``, and ``StaticVault`` has as well."""

    def get(self, connection_id: UUID | str) -> Token:
        """See ``Vault.get``."""

    def report_rejected(self, connection_id: UUID | str) -> None:
        """See ``Vault.report_rejected``."""

    def signature(self, token: Token) -> AuthBase:
        """See ``Vault.signature``."""


class ProviderSession(requests.Session):
    """A ``requests.Session`` with the token of a connection in every request, for one origin only.

    A 401 has the token refreshed once and the request sent once more. 429 and 503 are waited for as ``Retry-After``
    says, and lost connections tried again, for methods that change nothing. Everything else is the caller's: answers
    are returned as they are, and errors of ``Vault.get`` raised. For one thread at a time, as every session.

    Args:
        tokens: A ``Vault``, or in tests a ``StaticVault``.
        connection_id: In whose name.
        base: The API's address: what is asked for is joined to it, and the token goes to its origin only.
        timeout: Seconds to connect, and between two bytes; a call may say otherwise.
        longest_wait: Longer wishes of ``Retry-After`` are the caller's to see.
        retry_unsafe: Also send again what may change something, such as a POST: for APIs that tell repetitions apart.
        sleep: How to wait.
    """

    def __init__(
        self,
        tokens: Tokens,
        connection_id: Id,
        base: str,
        *,
        timeout: float | tuple[float, float] = TIMEOUT,
        longest_wait: timedelta = LONGEST_WAIT,
        retry_unsafe: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__()
        self._tokens, self._connection_id = tokens, connection_id
        self._base = base if base.endswith("/") else f"{base}/"
        self._timeout, self._longest_wait = timeout, longest_wait
        self._retry_unsafe, self._sleep = retry_unsafe, sleep
        scheme, host, _ = _origin(self._base)
        if not host or scheme not in ("https", "http") or (scheme == "http" and host not in _LOOPBACK):
            raise ValueError("base is the address of an API, such as https://api.example.com/v1")

    def request(self, method: str | bytes, url: str | bytes, *arguments: Any, **words: Any) -> requests.Response:
        """Send a request; see ``requests.Session.request``.

        Raises:
            TypeError: More than method and address was given without its name.
            ValueError: The address is of another origin than ``base``: the token is not for it.
            RefreshPending, ReconnectRequired, UnknownConnection, KeyUnavailable, CannotOpen, StoreUnavailable
            requests.RequestException: No answer came.
        """
        if arguments:
            raise TypeError("what is sent is given by name, such as data=…")
        verb = (method.decode() if isinstance(method, bytes) else method).upper()
        where = urljoin(self._base, url.decode() if isinstance(url, bytes) else url)
        if _origin(where) != _origin(self._base):
            raise ValueError(f"{_shown(where)} is not at {_shown(self._base)}: the token is not for it")
        words.setdefault("timeout", self._timeout)
        return self._sent(verb, where, words)

    def _sent(self, verb: str, where: str, words: dict[str, Any]) -> requests.Response:
        again = (verb in SAFE or self._retry_unsafe) and _repeatable(words)
        token, renewed, tries = self._tokens.get(self._connection_id), False, 0
        while True:
            tries += 1
            try:
                answer = super().request(verb, where, **{**words, "auth": self._authorization(token)})
            except requests.ConnectionError:
                if not again or tries >= TRIES:
                    raise
                self._sleep(DEFAULT_WAIT.total_seconds())
                continue
            if answer.status_code == requests.codes.unauthorized and not renewed and _repeatable(words):
                renewed, newer = True, self._another(token)
                if newer is not None:
                    token = newer
                    answer.close()
                    continue
            wait = _wait(answer) if answer.status_code in _PATIENCE else None
            if wait is None or not again or tries >= TRIES or wait > self._longest_wait:
                return answer
            answer.close()
            self._sleep(wait.total_seconds())

    def _authorization(self, token: Token) -> AuthBase:
        return self._tokens.signature(token) if token.token_type == SIGNING else Bearer(token)

    def _another(self, refused: Token) -> Token | None:
        """Have the token refreshed that was refused; None: there is no other in time."""
        until, pause = time.monotonic() + NEW_TOKEN_S, 0.05
        while True:
            self._tokens.report_rejected(self._connection_id)  # each time: the grant may turn out to be dead meanwhile
            token = self._tokens.get(self._connection_id)
            if token.access_token != refused.access_token:
                return token
            if time.monotonic() >= until:
                return None
            self._sleep(pause)
            pause = min(1.0, pause * 1.5)


def _repeatable(words: Mapping[str, Any]) -> bool:
    """Whether what is sent can be sent again: a stream that was read cannot."""
    data, files = words.get("data"), words.get("files")
    return not files and isinstance(data, _REPEATABLE)


def _wait(answer: requests.Response) -> timedelta:
    """Read ``Retry-After``: seconds, or a date (RFC 9110, section 10.2.3)."""
    said = answer.headers.get("Retry-After", "").strip()
    if said.isdecimal() and len(said) < 10:
        return timedelta(seconds=int(said))
    try:
        at = parsedate_to_datetime(said)
        return max(timedelta(0), (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC))
    except (ValueError, TypeError, OverflowError):
        return DEFAULT_WAIT


def _origin(url: str) -> tuple[str, str, int | None]:
    """Say where an address leads, as who sends there reads it: others end a host elsewhere, such as at a backslash."""
    try:
        parts = parse_url(url)
    except LocationParseError:
        return "", "", None
    scheme = parts.scheme or ""
    return scheme, (parts.host or "").strip("[]"), parts.port or {"https": 443, "http": 80}.get(scheme)


def _shown(url: str) -> str:
    scheme, host, port = _origin(url)
    return f"{scheme}://{host}:{port}"
