"""The authorization code flow, through requests-oauthlib: the part of OAuth a person waits in.

oauthlib writes the requests; what came back is read by the same rules as a refresh (``answers``), from the HTTP
answer itself. oauthlib's own reading is not used: it raises a bare ``Warning`` when the granted scopes differ, and
that warning would carry away a refresh token. Nor is its debug log, which holds codes, secrets and tokens.
"""

from __future__ import annotations

import logging
import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

import requests
import urllib3
from requests_oauthlib import OAuth2Session

from vault.errors import ConnectRefused
from vault.model import Answer
from vault.oauth import answers
from vault.oauth.tls import PresentingAdapter
from vault.oauth.transport import MAX_BODY
from vault.outcome import Exchange, Misconfigured, Refreshed
from vault.provider import Client, ClientAuth, Provider
from vault.secret import Secret

CONNECT_S = 5.0
DEADLINE_S = 10.0
"""Seconds from the request to the last byte of the answer."""

_exchanging: ContextVar[bool] = ContextVar("exchanging", default=False)
_LOG = logging.getLogger("requests_oauthlib.oauth2_session")


def _not_ours(_: logging.LogRecord) -> bool:
    return not _exchanging.get()


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep what requests-oauthlib logs about our requests, and only about them, out of every log."""
    _LOG.addFilter(_not_ours)
    token = _exchanging.set(True)
    try:
        yield
    finally:
        _exchanging.reset(token)


class RequestsCodeExchange:
    """``CodeExchange`` on requests-oauthlib."""

    def __init__(self, insecure_hosts: Iterable[str] = (), authorities: Path | None = None) -> None:
        self._insecure_hosts, self._authorities = frozenset(insecure_hosts), authorities
        if self._insecure_hosts:
            # oauthlib knows only this switch for plain HTTP; which hosts may have it is checked in _checked.
            os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"

    def authorization(
        self, provider: Provider, client: Client, redirect_uri: str, scopes: Sequence[str], state: str, verifier: str
    ) -> str:
        """See ``CodeExchange.authorization``; the challenge is S256 (RFC 7636, section 4.2)."""
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        scope = provider.scope_separator.join(scopes) or None
        session = OAuth2Session(client.client_id, redirect_uri=redirect_uri, scope=scope)
        url, _ = session.authorization_url(
            self._checked(provider.authorize_uri),
            state=state,
            code_challenge=challenge,
            code_challenge_method="S256",
            **provider.authorize_parameters,
        )
        return str(url)

    def fetch(self, provider: Provider, client: Client, redirect_uri: str, code: Secret, verifier: Secret) -> Answer:
        """See ``CodeExchange.fetch``; never repeated, since a code is good for one exchange."""
        session = OAuth2Session(client.client_id, redirect_uri=redirect_uri)
        session.trust_env = False
        session.stream = True
        if self._authorities is not None:
            session.verify = str(self._authorities)
        if provider.identity is not None:
            session.mount("https://", PresentingAdapter(provider.identity, self._authorities))
        session.hooks["response"].append(_listener(time.monotonic() + DEADLINE_S))
        try:
            with session, _unlogged():
                session.fetch_token(
                    self._checked(provider.token_uri),
                    code=code.reveal(),
                    code_verifier=verifier.reveal(),
                    timeout=(min(CONNECT_S, DEADLINE_S), DEADLINE_S),
                    **_authentication(provider, client),
                )
        except _Heard as heard:
            return _answer(provider, heard.exchange)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise ConnectRefused(
                "provider_unreachable", f"no answer from {provider.name}: {type(error).__name__}"
            ) from None
        raise AssertionError("requests calls the hook for every answer")

    def _checked(self, uri: str) -> str:
        parts = urlsplit(uri)
        if parts.scheme != "https" and parts.hostname not in self._insecure_hosts:
            raise ConnectRefused(
                "insecure", "the provider's address is not https and its host not in VAULT_INSECURE_HOSTS"
            )
        return uri


class _Heard(Exception):  # not an error: it stops requests and oauthlib once the answer is in our hands
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        super().__init__()


def _listener(until: float) -> Callable[..., requests.Response]:
    """Return a hook that takes an answer before it is followed, logged or read to an end that may never come."""

    def listen(response: requests.Response, **_: object) -> requests.Response:
        body = b""
        while chunk := response.raw.read1(MAX_BODY, decode_content=True):
            body += chunk
            if len(body) > MAX_BODY:
                raise _Heard(Exchange(None, 0, b"", None, True, "too_large"))
            if time.monotonic() > until:
                raise requests.ReadTimeout
        raise _Heard(Exchange(None, response.status_code, body, None, True, ""))

    return listen


def _authentication(provider: Provider, client: Client) -> dict[str, Any]:
    """Show who we are as a refresh does (``endpoint``): both halves of a header encoded (RFC 6749, section 2.3.1)."""
    secret = client.client_secret.reveal() if client.client_secret else None
    if provider.client_auth is ClientAuth.BASIC and secret is not None:
        pair = requests.auth.HTTPBasicAuth(quote_plus(client.client_id), quote_plus(secret))
        return {"auth": pair, "include_client_id": False}
    shown = secret if provider.client_auth is ClientAuth.BODY else None
    return {"include_client_id": True, "client_secret": shown}


def _answer(provider: Provider, exchange: Exchange) -> Answer:
    outcome = answers.read(provider, exchange)
    if isinstance(outcome, Refreshed):
        return outcome.answer
    reason = getattr(outcome, "code", None) or getattr(outcome, "cause", "refused")
    raise ConnectRefused(
        "exchange_refused",
        f"{provider.name} did not exchange the code ({reason})",
        client_refused=isinstance(outcome, Misconfigured) and outcome.of_client,
    )
