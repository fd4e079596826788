"""Tokens that are presented to the user's own service: good for what is asked, or refused with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Lock
from typing import Final
from uuid import UUID

import structlog

from vault.errors import (
    ReconnectRequired,
    RefreshPending,
    TokenRefused,
    UnknownConnection,
    ValidationUnavailable,
    VaultError,
)
from vault.forks import in_children
from vault.metrics import validations
from vault.model import Connection, Status, Token
from vault.ports import ValidationTallies
from vault.secret import Secret
from vault.validation.outcome import Active, TokenKind, Validation
from vault.validation.refusals import refused
from vault.validation.rules import MethodRule, MethodRules
from vault.validation.sessions import Subscription, UserSession, is_token

log = structlog.get_logger(__name__)

HANDED_IN_EVERY_S: Final = 10.0
"""A process hands in what it has counted when it counts again after so long, and when it ends."""
MOST_SORTS: Final = 10_000
"""Of tenant, kind and outcome that are counted here while they cannot be handed in."""
VALID: Final = "valid"
ANYTHING: Final = MethodRule("", ())
"""What a method needs that is not asked about, or where there are no rules."""


class ValidationCounts:
    """How validations ended, in this process, on its way to the figures of all. Thread-safe."""

    def __init__(
        self,
        tallies: ValidationTallies,
        monotonic: Callable[[], float],
        apart: Callable[[Callable[[], None]], None],
    ) -> None:
        """Nothing is counted yet.

        Args:
            tallies: The figures of all.
            monotonic: Seconds of a clock that never goes back.
            apart: Calls something while its caller goes on: no request waits for a database because of figures.
        """
        self._tallies, self._monotonic, self._apart = tallies, monotonic, apart
        self._begin_anew()
        in_children(self._begin_anew)

    def _begin_anew(self) -> None:
        self._lock, self._handing_in, self._counted = Lock(), Lock(), Counter[tuple[str, str, str]]()
        self._hand_in_at = self._monotonic() + HANDED_IN_EVERY_S
        self._troubled = False

    def count(self, tenant: str, kind: TokenKind, outcome: str) -> None:
        """Count one; now and then hand in what was counted."""
        validations.labels(kind, outcome).inc()
        sort = (tenant, str(kind), outcome)
        with self._lock:
            if sort in self._counted or len(self._counted) < MOST_SORTS:
                self._counted[sort] += 1
            due = self._monotonic() >= self._hand_in_at and not self._handing_in.locked()
            if due:
                self._hand_in_at = self._monotonic() + HANDED_IN_EVERY_S
        if due:
            self._apart(self.hand_in)

    def hand_in(self) -> None:
        """Add what was counted to the figures; never raises, as figures are nobody's reason to refuse a token."""
        with self._handing_in:
            with self._lock:
                counted, self._counted = self._counted, Counter()
            if counted:
                self._add(counted)

    def _add(self, counted: Counter[tuple[str, str, str]]) -> None:
        try:
            self._tallies.add_validations(counted)
        except Exception as error:  # noqa: BLE001  # whatever it is: they are handed in another time
            with self._lock:
                self._counted.update(counted)
            if not self._troubled:
                log.warning("validations.uncounted", error=type(error).__name__)
            self._troubled = True
        else:
            self._troubled = False


class Validating:
    """Validates tokens for one tenant. Thread-safe."""

    def __init__(
        self,
        tenant: str,
        rules: MethodRules,
        counts: ValidationCounts,
        *,
        verify: Callable[[str], tuple[UserSession, bool]],
        introspect: Callable[[str, str, Secret], tuple[Active, bool]],
        connection: Callable[[UUID], Connection],
        get: Callable[[UUID, timedelta], Token],
        clock: Callable[[], datetime],
    ) -> None:
        self._tenant, self._rules, self._counts = tenant, rules, counts
        self._verify, self._introspect, self._connection, self._get = verify, introspect, connection, get
        self._clock = clock

    def session(self, token: str, method: str | None) -> Validation:
        """Validate a token of ``create_session()``; see ``Vault.validate``."""
        with self._counted(TokenKind.SESSION):
            rule = self._rule(method)
            session, cached = self._verify(token)
            found_good = Validation(
                TokenKind.SESSION, session.user_id, session.scopes, session.expires_at, cached,
                subscription=session.subscription, session_id=session.id,
            )  # fmt: skip
            return _suffices(rule, found_good)

    def bearer(self, token: str, provider: str, method: str | None, audience: str | None) -> Validation:
        """Validate a token that a provider issued; see ``Vault.validate``."""
        with self._counted(TokenKind.BEARER):
            if not is_token(token):
                raise refused("malformed")
            rule = self._rule(method)
            said, cached = self._introspect(self._tenant, provider, Secret(token))
            if audience is not None and audience not in said.audience:
                raise refused("other_audience")
            found_good = Validation(
                TokenKind.BEARER, said.subject, said.scopes, said.expires_at, cached,
                client_id=said.client_id, audience=said.audience,
            )  # fmt: skip
            return _suffices(rule, found_good)

    def connection(self, connection_id: UUID, method: str | None, min_ttl: timedelta) -> Validation:
        """Validate the access token of a connection; see ``Vault.validate_connection``."""
        with self._counted(TokenKind.CONNECTION):
            rule = self._rule(method)
            found = self._connection(connection_id)
            scopes = tuple(found.granted_scopes)
            found_good = Validation(
                TokenKind.CONNECTION, found.owner, scopes, found.expires_at, cached=False, connection_id=connection_id
            )
            _suffices(rule, found_good)
            if rule.refresh:  # served as to an app: a stale one is asked to be refreshed, one too short is waited for
                return found_good._replace(expires_at=self._get(connection_id, min_ttl).expires_at)
            if found.status is Status.DISCONNECTED:
                raise ReconnectRequired(connection_id, found.reason or found.status)
            if found.expires_at is None or found.expires_at <= self._clock():
                raise refused("expired", "no refresh is allowed for this method")
            return found_good

    def _rule(self, method: str | None) -> MethodRule:
        if method is None or not self._rules:
            return ANYTHING
        rule = self._rules.of(method)
        if rule is None:
            raise refused("no_rule")
        return rule

    @contextmanager
    def _counted(self, kind: TokenKind) -> Iterator[None]:
        outcome = "error"
        try:
            yield
            outcome = VALID
        except VaultError as error:
            outcome = _outcome(error)
            raise
        finally:
            self._counts.count(self._tenant, kind, outcome)


_OUTCOMES: Final[Mapping[type[VaultError], str]] = {
    ValidationUnavailable: "unavailable", RefreshPending: "pending", ReconnectRequired: "reconnect",
    UnknownConnection: "unknown",
}  # fmt: skip


def _outcome(error: VaultError) -> str:
    return error.reason if isinstance(error, TokenRefused) else _OUTCOMES.get(type(error), "error")


def _suffices(rule: MethodRule, found: Validation) -> Validation:
    missing = rule.missing(found.scopes)
    if missing:
        raise refused("insufficient_scope", " ".join(missing), missing=missing)
    level = found.subscription or Subscription.FREE
    if not level.reaches(rule.subscription):
        raise refused("insufficient_subscription", str(rule.subscription))
    return found
