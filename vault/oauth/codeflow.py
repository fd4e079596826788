"""The authorization code flow, through requests-oauthlib: the part of OAuth a person waits in.

oauthlib writes the requests; what came back is read by the same rules as a refresh (``answers``), from the HTTP
answer itself. oauthlib's own reading is not used: it raises a bare ``Warning`` when the granted scopes differ, and
that warning would carry away a refresh token. Nor is its debug log, which holds codes, secrets and tokens.
"""

from __future__ import annotations

import logging
import os
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import quote_plus, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests_oauthlib import OAuth2Session

from vault.egress.once import Heard, Http, Sent
from vault.egress.rules import Egress
from vault.errors import ConnectRefused
from vault.model import Answer
from vault.oauth import answers
from vault.oauth.transport import MAX_BODY
from vault.outcome import Exchange, Misconfigured, Refreshed
from vault.provider import Client, ClientAuth, Provider, TlsIdentity
from vault.secret import Secret

DEADLINE = timedelta(seconds=10)
"""From the request to the last byte of the answer."""
_OURS = frozenset({"Content-Length", "Connection", "Accept-Encoding"})
"""Headers that whoever sends writes."""

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

    def __init__(self, egress: Egress) -> None:
        self._egress, self._http = egress, Http(egress, DEADLINE, MAX_BODY)
        if egress.insecure_hosts:
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
        for scheme in ("https://", "http://"):
            session.mount(scheme, _Sending(self._http, provider.identity))
        try:
            with session, _unlogged():
                session.fetch_token(
                    self._checked(provider.token_uri),
                    code=code.reveal(),
                    code_verifier=verifier.reveal(),
                    **_authentication(provider, client),
                )
        except _Heard as found:
            heard = found.heard
        else:
            raise AssertionError("what is sent ends with what was heard")
        if heard.status == 0 and heard.failure != "too_large":
            raise ConnectRefused("provider_unreachable", f"no answer from {provider.name}: {heard.failure}")
        return _answer(provider, Exchange(None, heard.status, heard.body, None, True, heard.failure))

    def _checked(self, uri: str) -> str:
        if urlsplit(uri).scheme != "https" and not self._egress.allows_plain(uri):
            raise ConnectRefused(
                "insecure", "the provider's address is not https and its host not in VAULT_INSECURE_HOSTS"
            )
        return uri


class _Heard(Exception):  # not an error: it stops requests and oauthlib once the answer is in our hands
    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        super().__init__()


class _Sending(BaseAdapter):
    """Has requests send by the same means, and to the same places, as everything else here."""

    def __init__(self, http: Http, identity: TlsIdentity | None) -> None:
        self._http, self._identity = http, identity
        super().__init__()

    def send(self, request: requests.PreparedRequest, *_: object, **__: object) -> requests.Response:
        """Send once."""
        headers = tuple(f"{name}: {_text(value)}" for name, value in request.headers.items() if name not in _OURS)
        body = request.body if isinstance(request.body, bytes) else (request.body or "").encode()
        raise _Heard(self._http.send(Sent(request.method or "POST", request.url or "", headers, body, self._identity)))

    def close(self) -> None:
        """Nothing is kept open."""


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


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
