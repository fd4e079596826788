"""Sessions of the user's own service: made, looked at, changed, ended.

What is kept of a token: a keyed fingerprint, by which its row is found, and bcrypt over base64(HMAC-SHA-256), which
proves it. The HMAC takes in whose session it is, so that a hash that was moved to another row fits nothing there. A
token that nobody has is told by the fingerprint, at the price of one indexed read; bcrypt is for those who hold one.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from hmac import digest
from typing import Final
from uuid import UUID

import structlog

from vault.cache import Cache, Turns
from vault.engine.sealing import read, written
from vault.envelope import context, open_envelope, seal
from vault.errors import InvalidCredential, UnknownSession
from vault.forks import in_children
from vault.keyring import Keyring
from vault.ports import SealedSessionMetadata, SessionRow, SessionStore, TokenHash
from vault.secret import Secret
from vault.validation.refusals import refused
from vault.validation.sessions import (
    NewSession,
    Subscription,
    UserSession,
    checked_name,
    checked_scopes,
    checked_token,
    is_token,
    new_token,
)

log = structlog.get_logger(__name__)

EVERY_SESSION: Final = UUID("5e551035-0000-4000-8000-000000000000")
"""The subject of fingerprints of tokens: one for all, as a token is found before anybody knows whose it is."""
TOKEN, METADATA = "session_token", "session_metadata"  # names of fields
NOBODYS_PROVIDER: Final = ""
"""The data key of a session's metadata is the user's own, at no provider; it goes when they are shredded."""


class Remembered:
    """Tokens that were proved a moment ago, of all tenants, in this process. Thread-safe.

    Held are digests under a key that nobody outside this process has.
    """

    def __init__(
        self, life: timedelta, capacity: int, *, monotonic: Callable[[], float], random: Callable[[int], bytes]
    ) -> None:
        self._life, self._capacity = life.total_seconds(), capacity
        self._monotonic, self._random = monotonic, random
        self.begin_anew()
        in_children(self.begin_anew)

    def begin_anew(self) -> None:
        """Forget everything. A process that was just forked does this by itself."""
        self._key = self._random(32)
        self._sessions: Cache[bytes, UserSession] = Cache(self._capacity, self._monotonic)
        self.turns: Turns[bytes] = Turns()
        self.changes = 0
        """How often something was forgotten: what was read before that is not remembered after it."""

    def name(self, tenant: str, token: str) -> bytes:
        """Return what a token is called here."""
        return digest(self._key, f"{len(tenant)}:{tenant}:{token}".encode(), sha256)

    def get(self, name: bytes) -> UserSession | None:
        """Return a session that was proved a moment ago."""
        return self._sessions.get(name)

    def put(self, name: bytes, session: UserSession, left: timedelta, seen: int) -> None:
        """Remember for as long as it has ``left``, at most; and only if nothing was forgotten since ``seen``."""
        ends = self._monotonic() + min(self._life, left.total_seconds())
        self._sessions.put(name, session, ends)
        if seen != self.changes:
            self._sessions.drop(name)

    def forget(self, session_ids: Sequence[UUID]) -> None:
        """Forget sessions that are not what they were."""
        self.changes += 1
        gone = frozenset(session_ids)
        if gone:
            self._sessions.drop_every(lambda session: session.id in gone)

    def __len__(self) -> int:
        return len(self._sessions)


class Sessions:
    """Sessions of one tenant. Thread-safe."""

    def __init__(
        self,
        tenant: str,
        store: SessionStore,
        keyring: Keyring,
        hashing: TokenHash,
        remembered: Remembered,
        *,
        life: timedelta,
        per_device: bool,
        new_id: Callable[[], UUID],
        random: Callable[[int], bytes],
    ) -> None:
        self._tenant, self._store, self._keyring, self._hashing = tenant, store, keyring, hashing
        self._remembered, self._life, self._per_device = remembered, life, per_device
        self._new_id, self._random = new_id, random

    # --------------------------------------------------------------------------------------------------------- making

    def create(
        self,
        user_id: str,
        *,
        device: str,
        subscription: str,
        scopes: Sequence[str],
        metadata: Mapping[str, str] | None,
        life: timedelta | None,
        token: Secret | None,
    ) -> NewSession:
        """See ``Vault.create_session``."""
        checked_name("user id", user_id)
        checked_name("device", device, empty=True)
        if device and not self._per_device:
            raise ValueError("a user has one session: VAULT_SESSION_PER_DEVICE gives them one on each device")
        given = new_token(self._random) if token is None else checked_token(token)
        session_id, text = self._new_id(), given.reveal()
        row = SessionRow(
            session_id, self._tenant, user_id, device, _level(subscription), " ".join(checked_scopes(scopes)),
            self._keyring.fingerprint(self._tenant, EVERY_SESSION, text),
            self._hashing.hash(self._proof(session_id, user_id, text)),
            self._life if life is None else _checked_life(life),
            None if metadata is None else self._sealed(session_id, user_id, metadata, 1),
        )  # fmt: skip
        made = self._store.add(row, only_one=not self._per_device)
        if made is None:
            raise InvalidCredential("session_token", "another session has it")
        session, replaced = made
        self._remembered.forget(replaced)
        return NewSession(session, given)

    def _proof(self, session_id: UUID, user_id: str, token: str) -> bytes:
        """What bcrypt is given: 44 bytes that every byte of the token, and whose it is, have a part in."""
        said = f"{len(user_id)}:{user_id}:{token}"
        return b64encode(self._keyring.digest(self._tenant, session_id, TOKEN, said))

    def _sealed(
        self, session_id: UUID, user_id: str, metadata: Mapping[str, str], version: int
    ) -> SealedSessionMetadata:
        key = self._keyring.sealing_key(self._tenant, user_id, NOBODYS_PROVIDER)
        bound = context(self._tenant, session_id, METADATA)
        return SealedSessionMetadata(version, key.id, seal(key, written(metadata), bound, version))

    # -------------------------------------------------------------------------------------------------------- proving

    def verify(self, token: str) -> tuple[UserSession, bool]:
        """Tell whose session a token is, and whether it was proved a moment ago.

        Raises ``TokenRefused``, ``StoreUnavailable``, ``KeyUnavailable``.
        """
        if not is_token(token):
            raise refused("malformed")
        name = self._remembered.name(self._tenant, token)
        known = self._remembered.get(name)
        if known is not None:
            return known, True
        with self._remembered.turns.of(name):  # many requests with one token prove it once
            known = self._remembered.get(name)
            return (known, True) if known is not None else (self._prove(name, token), False)

    def _prove(self, name: bytes, token: str) -> UserSession:
        seen = self._remembered.changes
        found = self._store.find(self._tenant, self._keyring.fingerprint(self._tenant, EVERY_SESSION, token))
        if found is None:
            raise refused("unknown")
        session, token_hash, now = found
        if session.revoked_at is not None:
            raise refused("revoked")
        if session.expires_at <= now:
            raise refused("expired")
        if not self._hashing.fits(self._proof(session.id, session.user_id, token), token_hash):
            log.error("session.altered", session_id=str(session.id))
            raise refused("unknown")
        self._remembered.put(name, session, session.expires_at - now, seen)
        return session

    # ----------------------------------------------------------------------------------------------- looking, changing

    def session(self, session_id: UUID) -> UserSession:
        """Read one. Raises ``UnknownSession``."""
        found = self._store.session(self._tenant, session_id)
        if found is None:
            raise UnknownSession(session_id)
        return found

    def sessions(self, *, user_id: str | None, after: UUID | None, limit: int) -> list[UserSession]:
        """See ``Vault.sessions``."""
        return self._store.sessions(self._tenant, user_id=user_id, after=after, limit=limit)

    def metadata(self, session_id: UUID) -> dict[str, str]:
        """See ``Vault.session_metadata``."""
        self.session(session_id)
        kept = self._store.metadata(self._tenant, session_id)
        if kept is None:
            return {}
        key = self._keyring.opening_key(kept.data_key_id)
        return read(open_envelope(key, kept.envelope, context(self._tenant, session_id, METADATA), kept.version))

    def update(
        self,
        session_id: UUID,
        *,
        subscription: str | None,
        scopes: Sequence[str] | None,
        metadata: Mapping[str, str] | None,
        life: timedelta | None,
    ) -> UserSession:
        """See ``Vault.update_session``."""
        level = None if subscription is None else _level(subscription)
        words = None if scopes is None else " ".join(checked_scopes(scopes))
        longer = None if life is None else _checked_life(life)
        try:
            while True:
                session, sealed = self.session(session_id), None
                if metadata is not None:
                    before = self._store.metadata(self._tenant, session_id)
                    version = 1 if before is None else before.version + 1
                    sealed = self._sealed(session_id, session.user_id, metadata, version)
                changed = self._store.change(
                    self._tenant, session_id, subscription=level, scopes=words, life=longer, metadata=sealed
                )
                if changed is not None:
                    return changed
        finally:
            self._remembered.forget([session_id])  # also when nobody knows what became of the commit

    def revoke(self, session_id: UUID) -> None:
        """See ``Vault.revoke_session``."""
        try:
            if not self._store.revoke(self._tenant, session_id=session_id, user_id=None):
                raise UnknownSession(session_id)
        finally:
            self._remembered.forget([session_id])

    def revoke_all(self, user_id: str) -> int:
        """See ``Vault.revoke_sessions``."""
        ended = self._store.revoke(self._tenant, session_id=None, user_id=user_id)
        self._remembered.forget(ended)
        return len(ended)


def _level(subscription: str) -> str:
    if subscription not in list(Subscription):
        raise ValueError(f"a subscription is one of {', '.join(Subscription)}")
    return str(Subscription(subscription))


def _checked_life(life: timedelta) -> timedelta:
    if not timedelta(0) < life <= timedelta(days=3660):
        raise ValueError("a session lives for more than no time, and ten years at most")
    return life
