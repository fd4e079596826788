"""What goes to a token endpoint and what became of it, in classes that different rules follow (docs/concepts.md)."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from vault.model import Answer
from vault.provider import TlsIdentity


class Started(NamedTuple):
    """A connect flow on its way."""

    url: str
    """Where the owner is sent."""
    remembered: str
    """What its end wants to know, and nobody else may: the code verifier, or OAuth 1.0a's request token."""

    def __repr__(self) -> str:
        """Show nothing."""
        return "<Started>"


class TokenRequest(NamedTuple):
    """A POST to a provider, complete; ``tag`` comes back with its end."""

    tag: object
    uri: str
    headers: tuple[str, ...]
    body: bytes
    deadline: timedelta
    send_within: timedelta
    """The body must not leave later than this after the start: the claim would not hold until the answer."""
    identity: TlsIdentity | None = None
    method: str = "POST"

    def __repr__(self) -> str:
        """Show what has no secret in it."""
        return f"<{self.method} {self.uri.partition('?')[0]}>"


class Exchange(NamedTuple):
    """The end of one POST. ``status`` 0: no answer; then ``sent`` says whether a byte of the request may have left."""

    tag: object
    status: int
    body: bytes
    retry_after: timedelta | None
    sent: bool
    failure: str
    """Empty, or one of ``connect``, ``resolve``, ``timeout``, ``reset``, ``closed``, ``truncated``,
    ``too_large``, ``too_late``, ``tls``, ``certificate``, ``refused_uri``, ``protocol``."""
    seen: int = 0
    """The status of an answer that began to come and did not come whole; for who does not read answers."""

    def __repr__(self) -> str:
        """Show what has no secret in it."""
        return f"<{self.failure or self.status}, {len(self.body)} bytes>"


class Refreshed(NamedTuple):
    """The provider gave a new token."""

    answer: Answer


class NotSent(NamedTuple):
    """Not a byte of the request left: nothing was spent."""

    cause: str


class Ambiguous(NamedTuple):
    """It may have been processed and no readable answer came: a time-out, a reset, a 5xx, an unreadable 200."""

    cause: str
    retry_after: timedelta | None = None


class Throttled(NamedTuple):
    """The provider asks for patience and says it processed nothing (429, 425, a 4xx that is no OAuth answer)."""

    cause: str
    retry_after: timedelta | None = None


CLIENT_CODES = frozenset(
    {"invalid_client", "unauthorized_client", "incorrect_client_credentials", "bad_client_secret", "no_code"}
    | {"invalid_client_id", "invalid_client_secret"}
)
"""What providers say to a wrong client secret (RFC 6749, section 5.2; GitHub, Slack, Zoho; no word, beside a 401)."""


_OF_ONE_PERHAPS = frozenset({"no_code", "redirected", "invalid_request", "invalid_scope", "unsupported_grant_type"})


class Misconfigured(NamedTuple):
    """Our own registration or settings were refused; no grant is to blame."""

    code: str

    @property
    def of_client(self) -> bool:
        """Whether another secret of the same registration might do."""
        return self.code in CLIENT_CODES

    @property
    def of_all(self) -> bool:
        """Whether it holds for every grant. Some words do not say so: one grant alone may meet them (a closed shop)."""
        return self.code not in _OF_ONE_PERHAPS


class Dead(NamedTuple):
    """The provider says this refresh token is no good; whether that is conclusive, the protocol decides (S7)."""

    code: str


class StepNeeded(NamedTuple):
    """The owner must do something at the provider."""

    code: str


class Unknown(NamedTuple):
    """A rejection no table knows."""

    code: str


Outcome = Refreshed | NotSent | Ambiguous | Throttled | Misconfigured | Dead | StepNeeded | Unknown
