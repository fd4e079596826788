"""Writes requests to a provider's endpoints in the provider's own dialect, and reads what comes."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote_plus, urlencode

from vault.means import Means, is_more, means_of
from vault.model import Answer
from vault.oauth import answers
from vault.oauth.assertions import BadKey
from vault.oauth.authentication import SIGNED, Authentication
from vault.oauth.refusals import TOLD, tells
from vault.oauth.writing import COMMON, written
from vault.outcome import (
    Dead,
    Exchange,
    Misconfigured,
    NotSent,
    Outcome,
    Refreshed,
    StepNeeded,
    Throttled,
    TokenRequest,
    Unknown,
)
from vault.provider import PLAIN_REQUEST, Client, Provider, Strategy
from vault.secret import Secret

JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
NO_ADDRESS: Final = "no_address"
"""What a connection says of its provider's addresses does not fit the provider's row (any more)."""
BAD_KEY: Final = "bad_private_key"
_NOT_REVOKED: Final = frozenset({Strategy.CLIENT_CREDENTIALS, Strategy.JWT_BEARER, Strategy.OAUTH1})
_HEADERS: Final = ("Content-Type: application/x-www-form-urlencoded", *COMMON)
_RESERVED = re.compile("[^A-Za-z0-9_.~-]")


class OAuthEndpoint:
    """OAuth 2.0 token and revocation endpoints (RFC 6749, RFC 7009), and tokens that are made here."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._authentication = Authentication(clock)
        self._clients: dict[tuple[str, str], tuple[Client, tuple[str, ...], str]] = {}

    def refresh_request(
        self, provider: Provider, spent: Secret, tag: object, deadline: timedelta, send_within: timedelta
    ) -> TokenRequest | Outcome:
        """See ``TokenEndpoint.refresh_request``."""
        text = spent.reveal()
        if not _is_plain(provider) or is_more(text):
            return self._in_dialect(provider, means_of(text), tag, deadline, send_within)
        headers, suffix = self._shown(provider)
        body = f"grant_type=refresh_token&refresh_token={_quoted(text)}{suffix}"
        if provider.scope_on_refresh and provider.scopes:
            body += "&" + urlencode({"scope": provider.scope_separator.join(provider.scopes)})
        return TokenRequest(
            tag, provider.refresh_uri or provider.token_uri, headers, body.encode(), deadline, send_within,
            provider.identity,
        )  # fmt: skip

    def _in_dialect(
        self, provider: Provider, means: Means, tag: object, deadline: timedelta, send_within: timedelta
    ) -> TokenRequest | Outcome:
        try:
            provider = provider.at(means.variables)
        except ValueError:
            return NotSent(NO_ADDRESS)  # the row was changed, and no grant is to blame
        scopes = means.scopes or (provider.scope_separator.join(provider.scopes) if provider.scope_on_refresh else "")
        try:
            if provider.strategy is Strategy.MINTED:
                return self._minted(provider, means)
            asked = self._asked(provider, means, scopes)
        except BadKey:
            return StepNeeded(BAD_KEY) if means.key else Misconfigured(BAD_KEY)
        try:
            shown = self._authentication.shown(provider)
        except BadKey:
            return Misconfigured(BAD_KEY)
        if scopes and not (provider.strategy is Strategy.JWT_BEARER and provider.assertion.names_scopes):
            asked["scope"] = scopes
        uri = provider.refresh_uri or provider.token_uri
        request = written(provider.refresh, uri, {**asked, **shown.parameters})
        headers = (*request.headers, *shown.headers)
        return TokenRequest(
            tag, request.uri, headers, request.body, deadline, send_within, provider.identity, request.method
        )  # fmt: skip

    def _asked(self, provider: Provider, means: Means, scopes: str) -> dict[str, str]:
        if provider.strategy is Strategy.CLIENT_CREDENTIALS:
            return {"grant_type": "client_credentials"}
        if provider.strategy is Strategy.JWT_BEARER:
            statement = self._authentication.statement(
                provider, key=means.key, audience=provider.token_uri, subject=means.subject, scopes=scopes
            )
            return {"grant_type": JWT_BEARER, "assertion": statement}
        return {"grant_type": "refresh_token", "refresh_token": means.refresh_token}

    def _minted(self, provider: Provider, means: Means) -> Outcome:
        """Make the token itself; nobody is asked."""
        statement = self._authentication.statement(provider, key=means.key, subject=means.subject)
        return Refreshed(Answer(Secret(statement), None, provider.assertion.life))

    def revoke_request(
        self, provider: Provider, spent: Secret, tag: object, deadline: timedelta
    ) -> TokenRequest | Outcome | None:
        """See ``TokenEndpoint.revoke_request``."""
        means = means_of(spent.reveal())
        if provider.revoke_uri is None or provider.strategy in _NOT_REVOKED:
            return None
        try:
            provider = provider.at(means.variables)
            shown = self._authentication.shown(provider)
        except ValueError:
            return NotSent(NO_ADDRESS)
        except BadKey:
            return Misconfigured(BAD_KEY)
        is_access = not means.refresh_token or provider.strategy is Strategy.EXCHANGE
        hint = "access_token" if is_access else "refresh_token"
        said = {"token": means.refresh_token or means.access_token, "token_type_hint": hint, **shown.parameters}
        style = provider.request._replace(method="POST", parameters={})
        request = written(style, provider.revoke_uri or "", said)
        headers = (*request.headers, *shown.headers)
        return TokenRequest(tag, request.uri, headers, request.body, deadline, deadline, provider.identity)

    def read(
        self, provider: Provider, exchange: Exchange, now: datetime | None = None, spent: Secret | None = None
    ) -> Outcome:
        """See ``TokenEndpoint.read``."""
        outcome = answers.read(provider, exchange, now)
        return outcome if spent is None else _untold(provider, outcome, means_of(spent.reveal()))

    def _shown(self, provider: Provider) -> tuple[tuple[str, ...], str]:
        """Headers and the tail of the body that show who we are; made once for each client."""
        client = provider.client
        if client is None:
            return _HEADERS, ""
        registration = (provider.name, client.client_id)
        known = self._clients.get(registration)
        if known is None or known[0] is not client:
            shown = self._authentication.shown(provider)
            tail = "&" + urlencode(shown.parameters) if shown.parameters else ""
            known = (client, (*_HEADERS, *shown.headers), tail)
            self._clients[registration] = known
        return known[1], known[2]


def _untold(provider: Provider, outcome: Outcome, means: Means) -> Outcome:
    """Take out of a refusal's code what it repeats of the request: codes are stored, logged and told to others."""
    client = provider.client
    ours = [each.reveal() for each in (client.client_secret, client.other_secret) if each] if client else []
    secrets = (means.refresh_token, means.access_token, *ours)
    match outcome:
        case Dead(code) | Misconfigured(code) | StepNeeded(code) | Unknown(code):
            return outcome._replace(code=TOLD) if any(tells(code, each) for each in secrets) else outcome
        case Throttled(cause, _):
            return outcome._replace(cause=TOLD) if any(tells(cause, each) for each in secrets) else outcome
        case _:
            return outcome


def _is_plain(provider: Provider) -> bool:
    """Whether a refresh is asked for as RFC 6749 writes it: what thousands a second are."""
    return (
        provider.strategy is Strategy.REFRESH
        and provider.refresh is PLAIN_REQUEST
        and provider.client_auth not in SIGNED
        and not provider.variables
    )


def _quoted(token: str) -> str:
    """Return ``quote_plus(token)``, in a fifth of its time for tokens as they are, mostly letters and digits."""
    return _RESERVED.sub(_escaped, token)


def _escaped(found: re.Match[str]) -> str:
    return quote_plus(found[0])
