"""OAuth 1.0a (RFC 5849): a request token, the owner's consent, and a token that requests are signed with.

requests-oauthlib signs; what came back is read here. The token's secret never leaves: what is stored is both of them,
with the key of the registration that they were given to.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

import requests
from requests_oauthlib import OAuth1

from vault.egress.once import Heard, Http, Sent
from vault.errors import ConnectRefused
from vault.model import SIGNING, Answer, Token
from vault.oauth.answers import LONGEST_MEMBER
from vault.outcome import Exchange, Started
from vault.provider import Provider
from vault.secret import Secret

TOKEN, TOKEN_SECRET, CONSUMER_KEY = "oauth_token", "oauth_token_secret", "oauth_consumer_key"


class OnceHeard(Exception):  # not an error: it stops requests and oauthlib once the answer is in our hands
    """An answer, carried past libraries that would read it their own way."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        super().__init__()


class SignedFlow:
    """Both ends of a connect flow, each one signed request. Thread-safe."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def begin(self, provider: Provider, authorize_uri: str, redirect_uri: str, state: str) -> Started:
        """Get a request token, which is what the owner agrees to. Raises ``ConnectRefused``."""
        callback = f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode({'state': state})}"
        heard = self._send(provider, provider.request_token_uri or "", callback_uri=callback)
        if heard.status == 0:
            raise ConnectRefused("provider_unreachable", f"no answer from {provider.name}: {heard.failure}")
        found = _members(heard.body) if heard.status == requests.codes.ok else {}
        if not found.get(TOKEN) or not found.get(TOKEN_SECRET):
            refused = heard.status == requests.codes.unauthorized
            detail = f"{provider.name} gave no request token (http_{heard.status})"
            raise ConnectRefused("exchange_refused", detail, client_refused=refused)
        asked = {TOKEN: found[TOKEN], **provider.authorize_parameters}
        kept = {TOKEN: found[TOKEN], TOKEN_SECRET: found[TOKEN_SECRET]}
        return Started(f"{authorize_uri}{'&' if '?' in authorize_uri else '?'}{urlencode(asked)}", urlencode(kept))

    def exchange(self, provider: Provider, verifier: Secret, remembered: Secret, token: str) -> Heard:
        """Exchange what the owner agreed to. Raises ``ConnectRefused``: it is not what was begun."""
        begun = dict(parse_qsl(remembered.reveal()))
        if token != begun[TOKEN]:
            raise ConnectRefused("other_token", "the owner agreed to another request than the one that was begun")
        return self._send(
            provider, provider.token_uri, resource_owner_key=begun[TOKEN], resource_owner_secret=begun[TOKEN_SECRET],
            verifier=verifier.reveal(),
        )  # fmt: skip

    def read(self, provider: Provider, exchange: Exchange) -> Answer:
        """Read the token. Raises ``ConnectRefused``."""
        found = _members(exchange.body) if exchange.status == requests.codes.ok else {}
        if not found.get(TOKEN) or not found.get(TOKEN_SECRET) or provider.client is None:
            refused = exchange.status == requests.codes.unauthorized
            detail = f"{provider.name} gave no token (http_{exchange.status})"
            raise ConnectRefused("exchange_refused", detail, client_refused=refused)
        pair = {name: found[name] for name in (TOKEN, TOKEN_SECRET)}
        text = urlencode({CONSUMER_KEY: provider.client.client_id, **pair})
        style = provider.answer
        kept = {name: found[name] for name in style.kept if name in found}
        return Answer(
            Secret(text), None, None, SIGNING, account=found.get(style.account or ""), extra=kept
        )  # fmt: skip

    def _send(self, provider: Provider, uri: str, **said: Any) -> Heard:
        client = provider.client
        assert client is not None  # flows are begun with one
        secret = client.client_secret.reveal() if client.client_secret else None
        request = requests.Request("POST", uri, auth=OAuth1(client.client_id, secret, **said)).prepare()
        headers = (f"Authorization: {_text(request.headers['Authorization'])}", "User-Agent: evergrant")
        return self._http.send(Sent("POST", request.url or uri, headers, b"", provider.identity))


def signature(provider: Provider, token: Token) -> requests.auth.AuthBase:
    """See ``CodeExchange.signature``."""
    found = dict(parse_qsl(token.access_token.reveal()))
    client = provider.asking_as(found[CONSUMER_KEY]).client
    secret = client.client_secret.reveal() if client and client.client_secret else None
    signer: requests.auth.AuthBase = OAuth1(found[CONSUMER_KEY], secret, found[TOKEN], found[TOKEN_SECRET])
    return signer


def _members(body: bytes) -> dict[str, str]:
    text = body.decode("utf-8", "replace").strip()
    return {k: v for k, v in parse_qsl(text) if v.isprintable() and len(v) <= LONGEST_MEMBER}


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
