"""Looking after connections that there are: read, refreshed on request, reported as refused, ended."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from requests.auth import AuthBase

from vault.engine.sealing import Sealer, written
from vault.errors import UnknownConnection
from vault.jobs import Deliver, Refresh
from vault.model import Connection, Status, Token
from vault.ports import CodeExchange, ConnectionStore, Doorbell, Providers


class Tending:
    """The use case behind everything ``Vault`` does with a connection beside serving its token. Thread-safe."""

    def __init__(
        self,
        tenant: str,
        store: ConnectionStore,
        providers: Providers,
        exchange: CodeExchange,
        sealer: Sealer,
        doorbell: Doorbell,
    ) -> None:
        self._tenant, self._store, self._doorbell = tenant, store, doorbell
        self._providers, self._exchange, self._sealer = providers, exchange, sealer

    def disconnect(self, connection_id: UUID) -> None:
        """End a connection; see ``Vault.disconnect``."""
        if not self._store.disconnect(self._tenant, connection_id):
            raise UnknownConnection(connection_id)
        self._doorbell.ring(Deliver.task, Deliver.lane, None)

    def signature(self, token: Token) -> AuthBase:
        """Return what signs requests with a token of OAuth 1.0a; see ``Vault.signature``."""
        self._providers.look()
        provider = self._providers.get(self.connection(token.connection_id).provider)
        return self._exchange.signature(provider, token)

    def report_rejected(self, connection_id: UUID) -> None:
        """Have another token got, or its owner told that only they can give one; see ``Vault.report_rejected``."""
        if self._store.reject(self._tenant, connection_id):
            self._doorbell.ring(Deliver.task, Deliver.lane, None)
        else:
            self.ask(connection_id, insist=False)

    def ask(self, connection_id: UUID, *, insist: bool) -> None:
        """Make a refresh due now, durably, then ring; see ``Vault.enqueue``."""
        if self._store.ask(self._tenant, connection_id, insist=insist) is None:
            if self._store.connection(self._tenant, connection_id) is None:
                raise UnknownConnection(connection_id)
            return
        self._doorbell.ring(Refresh.task, Refresh.lane, str(connection_id))

    def metadata(self, connection_id: UUID) -> dict[str, str]:
        """Open what is kept with a connection; see ``Vault.metadata``."""
        sealed = self._store.metadata(self._tenant, connection_id)
        if sealed is None:
            self.connection(connection_id)
            return {}
        return self._sealer.open_metadata(self._tenant, sealed)

    def set_metadata(self, connection_id: UUID, metadata: Mapping[str, str]) -> None:
        """Keep something else; see ``Vault.set_metadata``. The last of several at a time wins."""
        written(metadata)
        while True:
            known = self.connection(connection_id)
            if known.status is Status.DISCONNECTED:
                raise UnknownConnection(connection_id)
            before = self._store.metadata(self._tenant, connection_id)
            version = 1 if before is None else before.version + 1
            sealed = self._sealer.metadata(self._tenant, known.owner, known.provider, connection_id, version, metadata)
            if self._store.put_metadata(self._tenant, sealed):
                return

    def connection(self, connection_id: UUID) -> Connection:
        """Read one connection. Raises ``UnknownConnection``."""
        found = self._store.connection(self._tenant, connection_id)
        if found is None:
            raise UnknownConnection(connection_id)
        return found

    def grants(self, connection_id: UUID) -> list[Connection]:
        """List what goes with a connection; see ``Vault.grants``."""
        return self._store.further_grants(self._tenant, self.connection(connection_id).id)

    def connections(
        self,
        *,
        owner: str | None,
        provider: str | None,
        status: str | None,
        after: UUID | None,
        limit: int,
        further: bool,
    ) -> list[Connection]:
        """List connections; see ``Vault.connections``."""
        return self._store.connections(
            self._tenant, owner=owner, provider=provider, status=status, after=after, limit=limit, further=further
        )
