"""The authorization code flow, through requests-oauthlib: the part of OAuth a person waits in.

oauthlib writes the requests; what came back is read by the same rules as a refresh (``answers``), from the HTTP
answer itself. oauthlib's own reading is not used: it raises a bare ``Warning`` when the granted scopes differ, and
that warning would carry away a refresh token. Nor is its debug log, which holds codes, secrets and tokens.
"""

from __future__ import annotations

import logging
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests_oauthlib import OAuth2Session

from vault.egress.once import Heard, Http, Sent
from vault.egress.rules import Egress
from vault.errors import ConfigurationError, ConnectRefused
from vault.model import Answer, Token
from vault.oauth import answers
from vault.oauth.assertions import BadKey
from vault.oauth.authentication import Authentication, Shown
from vault.oauth.endpoint import OAuthEndpoint
from vault.oauth.oauth1 import OnceHeard, SignedFlow, signature
from vault.oauth.refusals import tells
from vault.oauth.transport import MAX_BODY
from vault.oauth.writing import written
from vault.outcome import Exchange, Misconfigured, Outcome, Refreshed, Started, TokenRequest
from vault.provider import Client, Provider, Strategy
from vault.secret import Secret

DEADLINE = timedelta(seconds=10)
"""From the request to the last byte of the answer."""

_exchanging: ContextVar[bool] = ContextVar("exchanging", default=False)
_LOGS = [logging.getLogger(f"requests_oauthlib.{name}") for name in ("oauth1_auth", "oauth1_session", "oauth2_session")]
_LOGS += [logging.getLogger(f"oauthlib.oauth1.rfc5849{name}") for name in ("", ".signature")]


def _not_ours(_: logging.LogRecord) -> bool:
    return not _exchanging.get()


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep what requests-oauthlib logs about our requests, and only about them, out of every log."""
    for each in _LOGS:
        each.addFilter(_not_ours)
    token = _exchanging.set(True)
    try:
        yield
    finally:
        _exchanging.reset(token)


class RequestsCodeExchange:
    """``CodeExchange`` on requests-oauthlib."""

    def __init__(self, egress: Egress, clock: Callable[[], datetime]) -> None:
        self._egress, self._http = egress, Http(egress, DEADLINE, MAX_BODY)
        self._clock, self._authentication = clock, Authentication(clock)
        self._signed, self._endpoint = SignedFlow(self._http), OAuthEndpoint(clock)
        if egress.insecure_hosts:
            # oauthlib knows only this switch for plain HTTP; which hosts may have it is checked in _checked.
            os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"

    def authorization(
        self,
        provider: Provider,
        redirect_uri: str,
        scopes: Sequence[str],
        state: str,
        verifier: str,
        grants: Mapping[str, Sequence[str]],
    ) -> Started:
        """See ``CodeExchange.authorization``; the challenge is S256 (RFC 7636, section 4.2)."""
        if provider.strategy is Strategy.OAUTH1:
            self._checked(provider.request_token_uri or "")
            with _unlogged():
                return self._signed.begin(provider, self._checked(provider.authorize_uri), redirect_uri, state)
        more = dict(provider.authorize_parameters)
        for name, wanted in grants.items():
            if wanted and (parameter := provider.grants[name].scope_parameter):
                more[parameter] = provider.scope_separator.join(wanted)
        if provider.pkce:
            challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
            more |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        scope = provider.scope_separator.join(scopes) or None
        session = OAuth2Session(_client(provider).client_id, redirect_uri=redirect_uri, scope=scope)
        url, _ = session.authorization_url(self._checked(provider.authorize_uri), state=state, **more)
        return Started(_renamed(str(url), provider.request.names), verifier if provider.pkce else "")

    def fetch(
        self, provider: Provider, redirect_uri: str, code: Secret, remembered: Secret, parameters: Mapping[str, str]
    ) -> Answer:
        """See ``CodeExchange.fetch``; never repeated, since a code is good for one exchange."""
        uri = self._checked(provider.token_uri)
        with _unlogged():
            if provider.strategy is Strategy.OAUTH1:
                heard = self._signed.exchange(provider, code, remembered, parameters.get("oauth_token", ""))
            else:
                heard = self._exchanged(provider, uri, redirect_uri, code, remembered)
        if heard.status == 0 and heard.failure != "too_large":
            raise ConnectRefused("provider_unreachable", f"no answer from {provider.name}: {heard.failure}")
        exchange = Exchange(None, heard.status, heard.body, None, True, heard.failure)
        if provider.strategy is Strategy.OAUTH1:
            return self._signed.read(provider, exchange)
        answer = _answer(provider, answers.read(provider, exchange, self._clock()), code, remembered)
        return self._lengthened(provider, answer) if provider.lengthen_uri else answer

    def _lengthened(self, provider: Provider, short: Answer) -> Answer:
        """Exchange a short-lived token for the one that is kept; what else the first answer said still holds."""
        said = {"grant_type": "refresh_token", "refresh_token": short.access_token.reveal()}
        shown = self._shown(provider)
        found = written(provider.lengthen, self._checked(provider.lengthen_uri or ""), said | shown.parameters)
        headers = (*found.headers, *shown.headers)
        heard = self._http.send(Sent(found.method, found.uri, headers, found.body, provider.identity))
        exchange = Exchange(None, heard.status, heard.body, None, True, heard.failure)
        long = _answer(provider, answers.read(provider, exchange, self._clock()), short.access_token)
        return replace(
            long, scopes=long.scopes or short.scopes, account=long.account or short.account,
            extra={**short.extra, **long.extra}, grants=short.grants,
        )  # fmt: skip

    def revoke(self, provider: Provider, token: Secret) -> str:
        """See ``CodeExchange.revoke``."""
        request = self._endpoint.revoke_request(provider, token, None, DEADLINE)
        if not isinstance(request, TokenRequest):
            return "no_request"
        sent = Sent(request.method, request.uri, request.headers, request.body, request.identity)
        heard = self._http.send(sent)
        return "revoked" if heard.status in (200, 204) else heard.failure or f"http_{heard.status}"

    def signature(self, provider: Provider, token: Token) -> requests.auth.AuthBase:
        """See ``CodeExchange.signature``."""
        return signature(provider, token)

    def _exchanged(self, provider: Provider, uri: str, redirect_uri: str, code: Secret, verifier: Secret) -> Heard:
        session = OAuth2Session(_client(provider).client_id, redirect_uri=redirect_uri)
        session.trust_env = False
        for scheme in ("https://", "http://"):
            session.mount(scheme, _Sending(self._http, provider, self._shown(provider)))
        proof = verifier.reveal() if provider.pkce else None
        try:
            with session:
                session.fetch_token(uri, code=code.reveal(), code_verifier=proof, include_client_id=False)
        except OnceHeard as found:
            return found.heard
        raise AssertionError("what is sent ends with what was heard")

    def _shown(self, provider: Provider) -> Shown:
        try:
            return self._authentication.shown(provider)
        except BadKey:
            problem = f"our secret at {provider.name} is no private key of the kind that its row says"
            raise ConfigurationError([problem]) from None

    def _checked(self, uri: str) -> str:
        if urlsplit(uri).scheme != "https" and not self._egress.allows_plain(uri):
            raise ConnectRefused(
                "insecure", "the provider's address is not https and its host not in VAULT_INSECURE_HOSTS"
            )
        return uri


class _Sending(BaseAdapter):
    """Has requests send by the same means, to the same places and in the same words as everything else here."""

    def __init__(self, http: Http, provider: Provider, shown: Shown) -> None:
        self._http, self._provider, self._shown = http, provider, shown
        super().__init__()

    def send(self, request: requests.PreparedRequest, *_: object, **__: object) -> requests.Response:
        """Send once."""
        body = request.body if isinstance(request.body, str) else (request.body or b"").decode()
        said = dict(parse_qsl(body, keep_blank_values=True)) | self._shown.parameters
        found = written(self._provider.request, request.url or "", said)
        headers = (*found.headers, *self._shown.headers)
        raise OnceHeard(
            self._http.send(Sent(found.method, found.uri, headers, found.body, self._provider.identity))
        )  # fmt: skip

    def close(self) -> None:
        """Nothing is kept open."""


def _client(provider: Provider) -> Client:
    assert provider.client is not None  # flows are begun with one
    return provider.client


def _renamed(url: str, names: Mapping[str, str]) -> str:
    """Put the provider's names for parameters into an address."""
    if not names:
        return url
    address, _, query = url.partition("?")
    renamed = [(names.get(name, name), value) for name, value in parse_qsl(query, keep_blank_values=True)]
    return f"{address}?{urlencode([(name, value) for name, value in renamed if name])}"


def _answer(provider: Provider, outcome: Outcome, *sent: Secret) -> Answer:
    if isinstance(outcome, Refreshed) and outcome.answer.access_token.reveal():
        return outcome.answer
    reason = str(getattr(outcome, "code", None) or getattr(outcome, "cause", "no_access_token"))
    secret = _client(provider).client_secret
    if any(tells(reason, each.reveal()) for each in (*sent, *((secret,) if secret else ()))):
        reason = "it told what it was sent"
    raise ConnectRefused(
        "exchange_refused",
        f"{provider.name} did not exchange the code ({reason})",
        client_refused=isinstance(outcome, Misconfigured) and outcome.of_client,
    )
