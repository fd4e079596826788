"""Connecting an owner's account: authorization code with PKCE (RFC 6749 section 4.1, RFC 7636)."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from vault.engine.consents import Consent, Consents
from vault.engine.sealing import METADATA, read, written
from vault.envelope import context, open_envelope, seal
from vault.errors import ConfigurationError, ConnectRefused, KeyUnavailable, UnknownConnection
from vault.keyring import Keyring
from vault.means import Means
from vault.model import Answer, Connection
from vault.ports import CodeExchange, ConnectAttempt, ConnectionStore, Providers
from vault.provider import Client, Provider
from vault.redirects import (
    check_issuer,
    check_redirect_uri,
    check_return_to,
    check_scopes,
    check_words,
    returned,
    variables_named,
    worth_keeping,
)
from vault.secret import Secret

ATTEMPT_LIFE = timedelta(minutes=10)
"""A connect flow must be completed within this."""
FLOW = "connect_flow"
FLOW_OWNER = ""
"""Data keys of flows belong to no owner: most flows of a crawler's never become a connection."""


class _Returned(NamedTuple):
    """What the exchange of a code is made of."""

    code: Secret
    remembered: Secret
    variables: Mapping[str, str]
    parameters: Mapping[str, str]

    def __repr__(self) -> str:
        """Show nothing: the code is among the parameters too."""
        return "<_Returned>"


class ConnectStart(NamedTuple):
    """Where to send the owner, and what to remember in their browser's session."""

    url: str
    state: str
    connection_id: UUID


class Connecting:
    """The use case behind ``begin`` and ``complete``, for one tenant. Thread-safe."""

    def __init__(
        self,
        tenant: str,
        store: ConnectionStore,
        providers: Providers,
        exchange: CodeExchange,
        keyring: Keyring,
        consents: Consents,
        *,
        redirect_uri: str | None,
        redirect_uris: Collection[str],
        return_to: Collection[str],
        new_id: Callable[[], UUID],
        new_token: Callable[[], str],
        monotonic: Callable[[], float],
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._providers = providers
        self._exchange = exchange
        self._keyring = keyring
        self._consents = consents
        self._redirect_uri, self._return_to = redirect_uri, return_to
        self._redirect_uris = frozenset({*redirect_uris, *([redirect_uri] if redirect_uri else [])})
        self._new_id = new_id
        self._new_token = new_token
        self._monotonic = monotonic

    def begin(
        self,
        provider_name: str,
        *,
        owner: str,
        redirect_uri: str | None,
        return_to: str | None,
        scopes: Sequence[str] | None,
        grants: Mapping[str, Sequence[str]],
        browser: str | None,
        labels: Mapping[str, str] | None,
        metadata: Mapping[str, str] | None,
        variables: Mapping[str, str] | None,
        reconnect: UUID | None,
    ) -> ConnectStart:
        """Start a flow; see ``Vault.begin``."""
        self._providers.look()
        provider = self._providers.get(provider_name)
        redirect = redirect_uri or self._redirect_uri
        if redirect is None:
            raise ConfigurationError(["VAULT_REDIRECT_URI is not set and begin() was not given a redirect_uri"])
        if redirect_uri:
            check_redirect_uri(redirect_uri, self._redirect_uris)
        if return_to is not None:
            check_return_to(return_to, self._return_to)
        before = None if reconnect is None else self._reconnecting(reconnect, owner, provider_name)
        if labels is None:
            labels = {} if before is None else before.labels
        check_words(owner, labels, browser)
        check_scopes(provider, scopes or (), grants)
        wanted = tuple(scopes) if scopes is not None else provider.scopes
        asked = {name: tuple(grants.get(name, each.scopes)) for name, each in provider.grants.items()}
        state, verifier = self._new_token(), self._new_token()
        connection_id = self._new_id() if before is None else before.id
        kept = None if metadata is None else written(metadata)
        client, found = _client(provider), _variables(provider, variables or {})
        key = self._keyring.sealing_key(self._tenant, FLOW_OWNER, provider.name)
        url, remembered = self._exchange.authorization(provider.at(found), redirect, wanted, state, verifier, asked)
        further = {name: " ".join(each) for name, each in asked.items()}
        flow = json.dumps({"remembered": remembered, "variables": found, "grants": further})
        attempt = ConnectAttempt(
            _digest(state),
            self._tenant,
            owner,
            provider.name,
            redirect,
            return_to,
            " ".join(wanted),
            None if browser is None else _digest(browser),
            connection_id,
            before is not None,
            key.id,
            seal(key, flow.encode(), context(self._tenant, connection_id, FLOW), 0),
            labels,
            None if kept is None else seal(key, kept, context(self._tenant, connection_id, METADATA), 0),
            client.client_id,
        )
        self._store.save_attempt(attempt, ATTEMPT_LIFE)
        return ConnectStart(url, state, connection_id)

    def _reconnecting(self, connection_id: UUID, owner: str, provider_name: str) -> Connection:
        known = self._store.connection(self._tenant, connection_id)
        if known is None:
            raise UnknownConnection(connection_id)
        if known.owner != owner or known.provider != provider_name:
            raise ConnectRefused("other_connection", "a reconnect must name the owner and provider it was made with")
        if known.part_of is not None:  # one consent gives all grants
            return self._reconnecting(known.part_of, owner, provider_name)
        return known

    def complete(
        self,
        *,
        state: str,
        code: str | None,
        browser: str | None,
        error: str | None,
        issuer: str | None,
        parameters: Mapping[str, str],
        provider_name: str | None,
        other_account: bool,
    ) -> Connection:
        """End a flow; see ``Vault.complete``."""
        said = returned(code, error, issuer, parameters)
        attempt = self._taken(state, browser)
        if provider_name is not None and attempt.provider != provider_name:
            raise ConnectRefused("other_provider", "the flow was begun with another provider")
        if said.error is not None or not said.code:
            raise ConnectRefused("denied", "the owner or the provider did not agree")
        provider = self._begun_with(attempt)
        check_issuer(provider, said.issuer)
        flow = json.loads(self._opened(attempt, FLOW, attempt.verifier_envelope))
        variables = _variables(provider, variables_named(provider, flow["variables"], parameters))
        given = None
        if attempt.metadata_envelope is not None:
            given = read(self._opened(attempt, METADATA, attempt.metadata_envelope))
        before = self._store.connection(self._tenant, attempt.connection_id)
        self._keyring.sealing_key(self._tenant, attempt.owner, provider.name)  # sooner without it than without the code
        sent_at = self._monotonic()
        received = _Returned(Secret(said.code), Secret(flow["remembered"]), variables, parameters)
        answer = self._fetch(provider, attempt, received)
        answer = replace(answer, extra={**worth_keeping(provider, parameters), **answer.extra})
        beside, asked = Means(variables=variables), flow.get("grants", {})
        consent = Consent(provider, attempt, answer, beside, asked, before, other_account, given, sent_at)
        return replace(self._consents.keep(consent), return_to=attempt.return_to)

    def _taken(self, state: str, browser: str | None) -> ConnectAttempt:
        """Take the flow of a state, which is then used up, whoever brought it."""
        attempt = self._store.take_attempt(self._tenant, _digest(state))
        if attempt is None:
            raise ConnectRefused("unknown_state", "this flow is unknown, over ten minutes old, or was completed before")
        brought = b"" if browser is None else _digest(browser)
        if not hmac.compare_digest(attempt.browser_digest or b"", brought):
            raise ConnectRefused("other_browser", "the flow was begun in another browser")
        return attempt

    def _begun_with(self, attempt: ConnectAttempt) -> Provider:
        """Return the provider as the registration it was asked with: the code is given to that one alone."""
        self._providers.look()
        provider = self._as(attempt)
        if attempt.client_id not in (None, _client(provider).client_id):  # a newer one, which begin() elsewhere knew
            self._providers.look(at_once=True)
            provider = self._as(attempt)
        if attempt.client_id not in (None, _client(provider).client_id):
            raise ConnectRefused("other_client", "our registration that the flow was begun with cannot be had now")
        return provider

    def _as(self, attempt: ConnectAttempt) -> Provider:
        provider = self._providers.get(attempt.provider)
        return provider if attempt.client_id is None else provider.asking_as(attempt.client_id)

    def _fetch(self, provider: Provider, attempt: ConnectAttempt, returned: _Returned) -> Answer:
        """Exchange the code; when our secret was refused, whose code it is was not looked at yet: with the other."""
        client, (code, remembered, variables, said) = _client(provider), returned
        try:
            return self._exchange.fetch(provider.at(variables), attempt.redirect_uri, code, remembered, said)
        except ConnectRefused as refusal:
            if not refusal.client_refused or not self._providers.refused(provider):
                raise
        provider = self._providers.get(provider.name).asking_as(client.client_id)
        try:
            return self._exchange.fetch(provider.at(variables), attempt.redirect_uri, code, remembered, said)
        except ConnectRefused as refusal:
            if refusal.client_refused:
                self._providers.refused(provider)
            raise

    def _opened(self, attempt: ConnectAttempt, field: str, envelope: bytes) -> bytes:
        key = self._keyring.opening_key(attempt.data_key_id)
        return open_envelope(key, envelope, context(attempt.tenant, attempt.connection_id, field), 0)


def _client(provider: Provider) -> Client:
    if provider.discover and not provider.token_uri:
        raise ConnectRefused("provider_unreachable", f"the issuer of {provider.name} has not told its addresses yet")
    if provider.client is None and provider.locked:
        key_id = f"of our client secret at {provider.name}"
        raise KeyUnavailable(key_id, "the registration in the store cannot be opened", transient=True)
    if provider.client is None:
        name = f"VAULT_CLIENT_{provider.name.upper()}_ID"
        missing = f"{name} is not set, and the store has no registration ('evergrant client set')"
        raise ConfigurationError([f"{missing}: {provider.name} does not know who is asking"])
    return provider.client


def _variables(provider: Provider, given: Mapping[str, str]) -> dict[str, str]:
    try:
        return provider.variables_of(given)
    except ValueError as error:
        raise ConnectRefused("variables", str(error)) from None


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
