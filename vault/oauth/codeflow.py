"""The authorization code flow, through requests-oauthlib: the part of OAuth a person waits in.

oauthlib writes the requests; what came back is read by the same rules as a refresh (``answers``), from the HTTP
answer itself. oauthlib's own reading is not used: it raises a bare ``Warning`` when the granted scopes differ, and
that warning would carry away a refresh token.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from urllib.parse import urlsplit

import requests
from requests_oauthlib import OAuth2Session

from vault.errors import ConnectRefused
from vault.model import Answer
from vault.oauth import answers
from vault.outcome import Outcome, Refreshed
from vault.ports import Exchange
from vault.provider import Client, ClientAuth, Provider
from vault.secret import Secret

DEADLINE_S = (5, 10)
"""Seconds to connect, and between bytes of the answer."""


class RequestsCodeExchange:
    """``CodeExchange`` on requests-oauthlib."""

    def __init__(self, insecure_hosts: Iterable[str] = ()) -> None:
        self._insecure_hosts = frozenset(insecure_hosts)
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
        session.max_redirects = 0
        session.trust_env = False
        heard: list[requests.Response] = []
        session.register_compliance_hook("access_token_response", _listener(heard))
        secret = client.client_secret.reveal() if client.client_secret else None
        auth = None
        if provider.client_auth is ClientAuth.BASIC and secret is not None:
            auth = requests.auth.HTTPBasicAuth(client.client_id, secret)
        try:
            session.fetch_token(
                self._checked(provider.token_uri),
                code=code.reveal(),
                code_verifier=verifier.reveal(),
                auth=auth,
                include_client_id=auth is None,
                client_secret=None if auth else secret,
                timeout=DEADLINE_S,
            )
        except _Heard:
            pass
        except requests.RequestException as error:
            raise ConnectRefused(
                "provider_unreachable", f"no answer from {provider.name}: {type(error).__name__}"
            ) from None
        return _answer(provider, _outcome(provider, heard))

    def _checked(self, uri: str) -> str:
        parts = urlsplit(uri)
        if parts.scheme != "https" and parts.hostname not in self._insecure_hosts:
            raise ConnectRefused(
                "insecure", "the provider's address is not https and its host not in VAULT_INSECURE_HOSTS"
            )
        return uri


class _Heard(Exception):  # not an error: it stops oauthlib once the answer is in our hands
    pass


def _listener(heard: list[requests.Response]) -> Callable[[requests.Response], requests.Response]:
    def listen(response: requests.Response) -> requests.Response:
        heard.append(response)
        raise _Heard

    return listen


def _outcome(provider: Provider, heard: Sequence[requests.Response]) -> Outcome:
    response = heard[0]
    return answers.read(provider, Exchange(None, response.status_code, response.content, None, True, ""))


def _answer(provider: Provider, outcome: Outcome) -> Answer:
    if isinstance(outcome, Refreshed):
        return outcome.answer
    reason = getattr(outcome, "code", None) or getattr(outcome, "cause", "refused")
    raise ConnectRefused("exchange_refused", f"{provider.name} did not exchange the code ({reason})")
