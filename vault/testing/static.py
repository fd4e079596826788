"""A vault for tests of apps: it serves what it was given, and needs no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NoReturn
from uuid import UUID

from vault import Connection, Refresh, Secret, Status, Token, TokenUnavailable, UnknownConnection, grant_id

LIFE = timedelta(hours=1)
MIN_TTL = timedelta(minutes=1)


class StaticVault:
    """Answers ``get()``, ``get_many()`` and the listing as ``Vault`` does; remembers what it was asked to do.

    ::

        vault = StaticVault()
        connection_id = vault.add("spotify", owner="user-17", access_token="at-1")
        assert vault.get(connection_id).headers() == {"Authorization": "Bearer at-1"}
        vault.fail(connection_id, ReconnectRequired(connection_id, "invalid_grant"))
    """

    def __init__(self, tenant: str = "default") -> None:
        self.tenant = tenant
        self.enqueued: list[UUID] = []
        """What ``enqueue()`` was called with, in order."""
        self.rejected: list[UUID] = []
        """What ``report_rejected()`` was called with, in order."""
        self._connections: dict[UUID, Connection] = {}
        self._tokens: dict[UUID, Token | TokenUnavailable] = {}
        self._metadata: dict[UUID, dict[str, str]] = {}

    def add(self, provider: str, *, owner: str, access_token: str, life: timedelta = LIFE) -> UUID:
        """Add a connection that serves this token; returns its id, the same for the same order of calls."""
        now = datetime.now(UTC)
        connection_id = UUID(int=len(self._connections) + 1)
        self._connections[connection_id] = Connection(
            id=connection_id, tenant=self.tenant, owner=owner, provider=provider, account=None, status=Status.ACTIVE,
            reason=None, requested_scopes=(), granted_scopes=(), labels={}, created_at=now, connected_at=now,
            refreshed_at=now, expires_at=now + life, grant_ends_at=None,
        )  # fmt: skip
        self._tokens[connection_id] = Token(connection_id, Secret(access_token), "Bearer", now + life, life)
        return connection_id

    def add_grant(self, connection_id: UUID | str, grant: str, *, access_token: str, life: timedelta = LIFE) -> UUID:
        """Add a further grant to a connection, such as Slack's ``user``; returns its id."""
        own = self.connection(connection_id)
        further = grant_id(own.id, grant)
        expires_at = datetime.now(UTC) + life
        self._connections[further] = replace(own, id=further, grant=grant, part_of=own.id, expires_at=expires_at)
        self._tokens[further] = Token(further, Secret(access_token), "Bearer", expires_at, life)
        return further

    def fail(self, connection_id: UUID | str, error: TokenUnavailable) -> None:
        """From now on ``get()`` of this connection raises ``error``."""
        self._tokens[self.connection(connection_id).id] = error

    def get(
        self,
        connection_id: UUID | str,
        min_ttl: timedelta = MIN_TTL,  # noqa: ARG002  # Vault has it
        *,
        grant: str | None = None,
    ) -> Token:
        """See ``Vault.get``; ``min_ttl`` is not looked at."""
        wanted = grant_id(_uuid(connection_id), grant) if grant else connection_id
        answer = self._tokens[self.connection(wanted).id]
        if isinstance(answer, TokenUnavailable):
            raise answer
        return answer

    def get_many(
        self,
        connection_ids: Sequence[UUID | str],
        min_ttl: timedelta = MIN_TTL,  # noqa: ARG002  # Vault has it
    ) -> dict[UUID, Token | TokenUnavailable]:
        """See ``Vault.get_many``."""
        wanted = {_uuid(each) for each in connection_ids}
        return {known: answer for known, answer in self._tokens.items() if known in wanted}

    def enqueue(self, job: Refresh) -> None:
        """See ``Vault.enqueue``; only remembered."""
        self.enqueued.append(self.connection(job.connection_id).id)

    def report_rejected(self, connection_id: UUID | str) -> None:
        """See ``Vault.report_rejected``; only remembered."""
        self.rejected.append(self.connection(connection_id).id)

    def signature(self, token: Token) -> NoReturn:
        """See ``Vault.signature``; nothing is signed here. Raises ``ValueError``."""
        raise ValueError(f"a StaticVault has no registration that could sign with a {token.token_type} token")

    def connection(self, connection_id: UUID | str) -> Connection:
        """See ``Vault.connection``."""
        found = self._connections.get(_uuid(connection_id))
        if found is None:
            raise UnknownConnection(connection_id)
        return found

    def grants(self, connection_id: UUID | str) -> list[Connection]:
        """See ``Vault.grants``."""
        own = self.connection(connection_id).id
        return sorted((each for each in self._connections.values() if each.part_of == own), key=lambda e: e.grant or "")

    def metadata(self, connection_id: UUID | str) -> dict[str, str]:
        """See ``Vault.metadata``."""
        return dict(self._metadata.get(self.connection(connection_id).id, {}))

    def set_metadata(self, connection_id: UUID | str, metadata: Mapping[str, str]) -> None:
        """See ``Vault.set_metadata``."""
        self._metadata[self.connection(connection_id).id] = dict(metadata)

    def connections(self, *, owner: str | None = None, provider: str | None = None) -> list[Connection]:
        """See ``Vault.connections``; without paging."""
        wanted: Mapping[str, str | None] = {"owner": owner, "provider": provider}
        return [
            each for each in self._connections.values()
            if each.part_of is None and all(value in (None, getattr(each, name)) for name, value in wanted.items())
        ]  # fmt: skip


def _uuid(connection_id: UUID | str) -> UUID:
    try:
        return connection_id if isinstance(connection_id, UUID) else UUID(connection_id)
    except ValueError:
        raise UnknownConnection(connection_id) from None
