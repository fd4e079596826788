"""Providers: who they are, what is said to them, and how it travels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from requests.auth import AuthBase

from vault.model import Answer, Token
from vault.outcome import Exchange, Outcome, Started, TokenRequest
from vault.provider import Provider
from vault.secret import Secret


class Providers(Protocol):
    """The registry."""

    def get(self, name: str) -> Provider:
        """The provider as our current registration; ``asking_as`` has the others. Raises ``UnknownProvider``."""

    def all(self) -> Sequence[Provider]:
        """Every provider that has a client, by name."""

    def look(self, *, at_once: bool = False) -> None:
        """Take in changed registrations, when the last look is some time ago or ``at_once``; never raises.

        May ask the database and the KMS, which the other methods never do.
        """

    def refused(self, provider: Provider) -> bool:
        """The provider refused the secret of the registration it was asked as.

        Returns:
            Whether another secret is used from now on (or already was); ``get()`` then knows it.
        """


class TokenEndpoint(Protocol):
    """The dialects of providers: how a refresh is asked for, and what an answer means."""

    def refresh_request(
        self, provider: Provider, spent: Secret, tag: object, deadline: timedelta, send_within: timedelta
    ) -> TokenRequest | Outcome:
        """The POST that spends what a grant is renewed with (``vault.means``); or what came of it without any."""

    def revoke_request(
        self, provider: Provider, spent: Secret, tag: object, deadline: timedelta
    ) -> TokenRequest | Outcome | None:
        """The POST that revokes a grant (RFC 7009); an outcome: it cannot be written; None: there is no endpoint."""

    def read(
        self, provider: Provider, exchange: Exchange, now: datetime | None = None, spent: Secret | None = None
    ) -> Outcome:
        """What became of a POST; ``now`` is for answers that name an instant, ``spent`` for those that repeat it."""


class Transport(Protocol):
    """Many POSTs at once on one thread; each is sent once and never again by itself."""

    in_flight: int

    def start(self, request: TokenRequest) -> None:
        """Begin a POST."""

    def poll(self, timeout: timedelta) -> list[Exchange]:
        """Drive everything in flight; returns as soon as something ended, or after ``timeout``."""

    def close(self) -> None:
        """Drop every connection."""


class CodeExchange(Protocol):
    """The flow a person waits in."""

    def authorization(
        self,
        provider: Provider,
        redirect_uri: str,
        scopes: Sequence[str],
        state: str,
        verifier: str,
        grants: Mapping[str, Sequence[str]],
    ) -> Started:
        """Where to send the owner. Raises ``ConnectRefused``: OAuth 1.0a asks the provider first.

        Args:
            provider: Whom to ask.
            redirect_uri: Where it sends them back to.
            scopes: What to ask for.
            state: What comes back with them.
            verifier: The secret of PKCE.
            grants: What to ask for of each further grant.
        """

    def fetch(
        self, provider: Provider, redirect_uri: str, code: Secret, remembered: Secret, parameters: Mapping[str, str]
    ) -> Answer:
        """Exchange a code, once; ``parameters`` are all of the redirect's. Raises ``ConnectRefused``."""

    def revoke(self, provider: Provider, token: Secret) -> str:
        """Have a grant forgotten, now and once; returns how that ended, in a word. Raises nothing."""

    def signature(self, provider: Provider, token: Token) -> AuthBase:
        """What signs requests with a token of OAuth 1.0a."""


class Gate(Protocol):
    """Per client of a provider: how much may be sent now, and whether anything should be.

    A provider means here the one registration that it is asked as.
    """

    def room(self, provider: Provider) -> int:
        """How many sends may start now; 0 while the breaker is open."""

    def pause(self, provider: Provider) -> timedelta:
        """How long to wait before asking again while there is no room; zero: there is.

        Five minutes at most, since the gates of other processes may think otherwise.
        """

    def take(self, provider: Provider, sends: int) -> None:
        """Count sends against the rate."""

    def succeeded(self, provider: Provider) -> None:
        """The provider answered as it should."""

    def failed(self, provider: Provider, *, operator: bool, retry_after: timedelta | None) -> None:
        """It did not; ``operator`` when our own registration was refused."""

    def spared(self, provider: Provider) -> None:
        """What it said is about neither; was it a probe, then another may go."""
