"""Tokens that are presented to your own service: the part of the face for web apps that makes and validates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from uuid import UUID

from vault.errors import UnknownSession
from vault.facade.ids import Id, Text, read_id, read_secret, revealed
from vault.services.access import MIN_TTL
from vault.services.sessions import Sessions
from vault.services.validation import Validating
from vault.validation.outcome import Validation
from vault.validation.sessions import NewSession, Subscription, UserSession
from vault.wiring import Wiring


class SessionCalls:
    """What ``Vault`` offers for sessions of your users, and for validating tokens."""

    tenant: str
    _wiring: Wiring

    @cached_property
    def _sessions(self) -> Sessions:
        return self._wiring.validation.sessions(self.tenant)

    @cached_property
    def _validating(self) -> Validating:
        return self._wiring.validating(self.tenant)

    def create_session(
        self,
        user_id: str,
        *,
        device: str = "",
        subscription: str = Subscription.FREE,
        scopes: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        life: timedelta | None = None,
        token: Text | None = None,
    ) -> NewSession:
        """Sign a user in: a session, and its token, which is shown this once and can be had from nobody again.

        It takes the place of the session this user had; with ``VAULT_SESSION_PER_DEVICE``, of that on this device.

        Args:
            user_id: Yours.
            device: Where, if users have a session on each device.
            subscription: ``free``, ``plus`` or ``pro``.
            scopes: What the session may be used for; see ``validate``.
            metadata: Text by text to keep sealed with it, at most 16 KB.
            life: None: ``VAULT_SESSION_LIFE_S``.
            token: One that was made elsewhere, of 32 to 8192 characters, each of which counts; None: a new one.

        Raises:
            InvalidCredential: The token that was brought along cannot be one, or is another session's.
            ValueError: A name, a scope, the subscription, the metadata or the life cannot be such.
            KeyUnavailable, StoreUnavailable
        """
        return self._sessions.create(
            user_id, device=device, subscription=subscription, scopes=scopes, metadata=metadata, life=life,
            token=None if token is None else read_secret(token),
        )  # fmt: skip

    def verify_session(self, token: Text) -> UserSession:
        """Tell whose session a token is of.

        A token that was good is taken to be good for up to ``VAULT_SESSION_CACHE_S`` more in this process.

        Raises:
            TokenRefused: ``reason`` is ``malformed``, ``unknown``, ``expired`` or ``revoked``.
            KeyUnavailable, StoreUnavailable: Nobody can say now.
        """
        return self._sessions.verify(revealed(token))[0]

    def validate(
        self,
        token: Text,
        *,
        method: str | None = None,
        provider: str | None = None,
        audience: str | None = None,
    ) -> Validation:
        """Say that a token which was presented to your service is good for what is asked.

        Args:
            token: As it was presented, without the word ``Bearer``.
            method: What it is to be used for: a name that the rules of ``VAULT_SCOPE_RULES`` know. None: it need not
                be good for anything in particular.
            provider: Who issued it: its introspection endpoint is asked (RFC 7662). None: it is a session's.
            audience: For whom a provider's token must be; None: for anybody.

        Raises:
            TokenRefused: It is not good, or not for this: ``reason`` says why, ``who`` is to act.
            ValidationUnavailable: Its issuer does not say, which does not make it bad: ask again after ``retry_after``.
            UnknownProvider, ConfigurationError: Nobody can be asked.
            KeyUnavailable, StoreUnavailable
        """
        if provider is None:
            return self._validating.session(revealed(token), method)
        return self._validating.bearer(revealed(token), provider, method, audience)

    def validate_connection(
        self, connection_id: Id, *, method: str | None = None, min_ttl: timedelta = MIN_TTL
    ) -> Validation:
        """Say that the token of a connection is good for what is asked; one near its end is asked to be refreshed.

        Unless the method's rule says ``refresh = false``: then nothing is refreshed for it.

        Args:
            connection_id: From ``complete()``.
            method: As of ``validate``; its scopes are compared with those that were granted.
            min_ttl: Life the token must have left; as of ``get``.

        Raises:
            TokenRefused: It lacks scopes, or is over and may not be refreshed for this.
            UnknownConnection, RefreshPending, ReconnectRequired, KeyUnavailable, StoreUnavailable: As ``get`` does.
        """
        return self._validating.connection(read_id(connection_id), method, min_ttl)

    def user_session(self, session_id: Id) -> UserSession:
        """Read one session that has not ended. Raises ``UnknownSession``, ``StoreUnavailable``."""
        return self._sessions.session(_session_id(session_id))

    def sessions(self, *, user_id: str | None = None, after: Id | None = None, limit: int = 100) -> list[UserSession]:
        """List sessions of this tenant that have not ended, by id; ``after`` is the last id of the page before."""
        last = None if after is None else _session_id(after)
        return self._sessions.sessions(user_id=user_id, after=last, limit=limit)

    def session_metadata(self, session_id: Id) -> dict[str, str]:
        """Open what is kept sealed with a session.

        Raises ``UnknownSession``, ``KeyUnavailable``, ``CannotOpen``, ``StoreUnavailable``.
        """
        return self._sessions.metadata(_session_id(session_id))

    def update_session(
        self,
        session_id: Id,
        *,
        subscription: str | None = None,
        scopes: Sequence[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        life: timedelta | None = None,
    ) -> UserSession:
        """Change a session: all that is said, in one transaction, or nothing.

        Other processes take it in within ``VAULT_SESSION_CACHE_S``.

        Args:
            session_id: Which.
            subscription: None, as of everything here: it stays as it is.
            scopes: Those it has from now on.
            metadata: Takes the place of what was kept.
            life: From now on.

        Raises:
            UnknownSession: There is none, or it has ended.
            ValueError: As of ``create_session``; nothing was changed.
            KeyUnavailable, StoreUnavailable
        """
        return self._sessions.update(
            _session_id(session_id), subscription=subscription, scopes=scopes, metadata=metadata, life=life
        )

    def revoke_session(self, session_id: Id) -> None:
        """End a session: in this process at once, in others within ``VAULT_SESSION_CACHE_S``.

        Raises ``UnknownSession``, ``StoreUnavailable``.
        """
        self._sessions.revoke(_session_id(session_id))

    def revoke_sessions(self, user_id: str) -> int:
        """End every session of a user, as ``revoke_session`` does; returns how many there were."""
        return self._sessions.revoke_all(user_id)


def _session_id(given: Id) -> UUID:
    if isinstance(given, UUID):
        return given
    try:
        return UUID(given)
    except (ValueError, AttributeError, TypeError):
        raise UnknownSession(given) from None
