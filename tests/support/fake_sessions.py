"""Sessions in a dictionary, and a hash that counts: what services are tried out with, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from tests.support.fake_keys import Clock
from vault.ports import SealedSessionMetadata, SessionRow
from vault.validation.sessions import Subscription, UserSession

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


class FakeSessions:
    """``SessionStore``, as far as looking at tokens goes. Its clock is the database's."""

    def __init__(self, clock: Clock) -> None:
        self.rows: dict[UUID, tuple[SessionRow, UserSession]] = {}
        self.reads = 0
        self._clock = clock

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self._clock())

    def add(self, row: SessionRow, *, only_one: bool) -> tuple[UserSession, Sequence[UUID]] | None:
        now = self.now()
        made = UserSession(
            row.id, row.tenant, row.user_id, row.device, Subscription(row.subscription), tuple(row.scopes.split()),
            now, now, now + row.life,
        )  # fmt: skip
        self.rows[row.id] = (row, made)
        return made, ()

    def find(self, tenant: str, token_fp: bytes) -> tuple[UserSession, bytes, datetime] | None:
        self.reads += 1
        for row, session in self.rows.values():
            if (row.tenant, row.token_fp) == (tenant, token_fp):
                return session, row.token_hash, self.now()
        return None

    # What follows no test of logic asks for: it is tried on PostgreSQL, and whoever asks for it here is told so.

    def session(self, tenant: str, session_id: UUID) -> UserSession | None:
        raise NotImplementedError

    def sessions(self, tenant: str, *, user_id: str | None, after: UUID | None, limit: int) -> list[UserSession]:
        raise NotImplementedError

    def metadata(self, tenant: str, session_id: UUID) -> SealedSessionMetadata | None:
        raise NotImplementedError

    def change(
        self,
        tenant: str,
        session_id: UUID,
        *,
        subscription: str | None,
        scopes: str | None,
        life: timedelta | None,
        metadata: SealedSessionMetadata | None,
    ) -> UserSession | None:
        raise NotImplementedError

    def revoke(self, tenant: str, *, session_id: UUID | None, user_id: str | None) -> Sequence[UUID]:
        assert session_id is not None
        row, session = self.rows[session_id]
        self.rows[session_id] = (row, session._replace(revoked_at=self.now()))
        return [session_id]


class CountingHash:
    """``TokenHash``: fast, and says what it was given."""

    def __init__(self) -> None:
        self.hashed: list[bytes] = []
        self.compared: list[bytes] = []

    def hash(self, text: bytes) -> bytes:
        self.hashed.append(text)
        return sha256(text).digest()

    def fits(self, text: bytes, hashed: bytes) -> bool:
        self.compared.append(text)
        return sha256(text).digest() == hashed
