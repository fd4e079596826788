"""The two faces of Evergrant: ``Vault`` for web apps, ``Maintenance`` for workers and operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Self
from uuid import UUID

from vault import settings as settings_module
from vault.claims import Overdue
from vault.engine.drain import Tally
from vault.errors import TokenUnavailable, UnknownConnection
from vault.jobs import Job, Refresh
from vault.model import Connection, Token
from vault.services.connect import ConnectStart
from vault.services.health import Health
from vault.services.rotation import KeyCount, Progress
from vault.settings import Settings
from vault.wiring import Wiring

MIN_TTL = timedelta(minutes=1)
DRAIN_BUDGET = timedelta(seconds=5)
"""A drain claims for this long, then makes room in its worker for urgent work; the next doorbell goes on."""


def _to_nobody(_: object) -> None: ...


class Vault:
    """Tokens of connected accounts, for web apps. One per process; thread-safe; the first call connects, not this."""

    def __init__(self, settings: Settings) -> None:
        self._wire(Wiring(settings), settings.tenant)

    def _wire(self, wiring: Wiring, tenant: str) -> None:
        self._wiring = wiring
        self.tenant = tenant
        self._access = wiring.access(tenant)
        self._connecting = wiring.connecting(tenant)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Make a vault from the ``VAULT_*`` environment.

        Args:
            environ: Where to read; the process's environment by default.
            overrides: Settings by field name that win over the environment.

        Raises:
            ConfigurationError: With every problem at once.
        """
        return cls(settings_module.load(environ, **overrides))

    def for_tenant(self, tenant: str) -> Self:
        """Return a vault of another tenant that shares this one's connections and caches."""
        other = object.__new__(type(self))
        other._wire(self._wiring, tenant)
        return other

    # -------------------------------------------------------------------------------------------------------- tokens

    def get(self, connection_id: UUID | str, min_ttl: timedelta = MIN_TTL) -> Token:
        """Answer with a token that works.

        A stored token that lives longer than ``min_ttl`` comes at once. Otherwise a refresh is asked for, and waited
        for up to ``VAULT_GET_DEADLINE_S``; when none comes, a token that still lives is served nevertheless.

        Args:
            connection_id: From ``complete()``.
            min_ttl: Life the token must have left, by the database's clock.

        Raises:
            UnknownConnection: This tenant has no such connection.
            RefreshPending: No live token now; ``retry_after`` says when to ask again.
            ReconnectRequired: The grant is gone; ``reason`` says why.
            KeyUnavailable: The KMS refuses the key, or has been away for longer than the cache lives.
            CannotOpen: The stored value is damaged.
            StoreUnavailable: PostgreSQL cannot be reached.
        """
        return self._access.get(_uuid(connection_id), min_ttl)

    def get_many(
        self, connection_ids: Sequence[UUID | str], min_ttl: timedelta = MIN_TTL
    ) -> dict[UUID, Token | TokenUnavailable]:
        """Answer for many connections in one round trip, without waiting for refreshes.

        Returns:
            For each connection of this tenant that exists, its token or the error that ``get()`` would raise.
        """
        return self._access.get_many([_uuid(each) for each in connection_ids], min_ttl)

    def enqueue(self, job: Refresh) -> None:
        """Make a job due, durably, then ring the workers for at most a fifth of a second. Redis down is no error.

        Raises:
            UnknownConnection: This tenant has no such connection.
            StoreUnavailable: PostgreSQL cannot be reached, so nothing was enqueued.
        """
        self._connecting.ask(_uuid(job.connection_id), insist=True)
        self._wiring.doorbell.flush()

    def report_rejected(self, connection_id: UUID | str) -> None:
        """Tell that the provider's API refused the served token: a new one is asked for. Raises as ``enqueue`` does."""
        self._connecting.ask(_uuid(connection_id), insist=False)

    # --------------------------------------------------------------------------------------------------- connections

    def begin(
        self,
        provider: str,
        *,
        owner: str,
        redirect_uri: str | None = None,
        return_to: str | None = None,
        scopes: Sequence[str] | None = None,
        browser: str | None = None,
        labels: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        reconnect: UUID | str | None = None,
    ) -> ConnectStart:
        """Start connecting an owner's account: send them to ``url``, keep ``state`` in their browser's session.

        Args:
            provider: A name of the registry.
            owner: Your id for the person or account that owns the grant.
            redirect_uri: Where the provider sends them back to; default ``VAULT_REDIRECT_URI``.
            return_to: A path on your site to go to afterwards; handed back by ``complete()``.
            scopes: What to ask for; default: the provider's in the registry.
            browser: A value bound to their browser, such as a session id; ``complete()`` must then bring the same.
            labels: Words of your own to keep with the connection, to be seen by whoever may list connections;
                None: those kept before stay.
            metadata: Text by text to keep sealed, at most 16 KB; see ``metadata()``. None: what was kept before stays.
            reconnect: A connection of this owner and provider to give a new grant, in place.

        Raises:
            UnknownProvider, ConfigurationError, ConnectRefused, UnknownConnection, KeyUnavailable, StoreUnavailable
            ValueError: The metadata is not text by text, or too long.
        """
        return self._connecting.begin(
            provider,
            owner=owner,
            redirect_uri=redirect_uri,
            return_to=return_to,
            scopes=scopes,
            browser=browser,
            labels=labels,
            metadata=metadata,
            reconnect=None if reconnect is None else _uuid(reconnect),
        )

    def complete(
        self,
        *,
        state: str,
        code: str | None = None,
        browser: str | None = None,
        error: str | None = None,
        issuer: str | None = None,
    ) -> Connection:
        """End a flow with what the provider's redirect carried; a state is good for one call.

        Args:
            state: The ``state`` parameter of the redirect.
            code: Its ``code``.
            browser: What ``begin()`` was given.
            error: Its ``error``, if the owner declined.
            issuer: Its ``iss``, if there is one (RFC 9207).

        Raises:
            ConnectRefused: ``reason`` is one of ``unknown_state``, ``other_browser``, ``denied``, ``other_issuer``,
                ``exchange_refused``, ``provider_unreachable``, ``insecure``, ``busy``.
        """
        return self._connecting.complete(state=state, code=code, browser=browser, error=error, issuer=issuer)

    def connection(self, connection_id: UUID | str) -> Connection:
        """Read one connection, without its secrets. Raises ``UnknownConnection``."""
        return self._connecting.connection(_uuid(connection_id))

    def connections(
        self,
        *,
        owner: str | None = None,
        provider: str | None = None,
        status: str | None = None,
        after: UUID | str | None = None,
        limit: int = 100,
    ) -> list[Connection]:
        """List connections of this tenant by id; ``after`` is the last id of the page before."""
        last = None if after is None else _uuid(after)
        return self._connecting.connections(owner=owner, provider=provider, status=status, after=last, limit=limit)

    def metadata(self, connection_id: UUID | str) -> dict[str, str]:
        """Open what is kept sealed with a connection: what your app gave, and what its provider's row says to keep.

        Raises ``UnknownConnection``, ``KeyUnavailable``, ``CannotOpen``, ``StoreUnavailable``.
        """
        return self._connecting.metadata(_uuid(connection_id))

    def set_metadata(self, connection_id: UUID | str, metadata: Mapping[str, str]) -> None:
        """Keep this, sealed, in the place of what was kept before.

        Raises:
            UnknownConnection: There is no such connection, or it was disconnected.
            ValueError: It is not text by text, or more than 16 KB.
            KeyUnavailable, StoreUnavailable
        """
        self._connecting.set_metadata(_uuid(connection_id), metadata)

    def disconnect(self, connection_id: UUID | str) -> None:
        """Take a connection's secrets away at once and have the provider told. Raises ``UnknownConnection``."""
        self._connecting.disconnect(_uuid(connection_id))

    def close(self) -> None:
        """Let go of every connection to PostgreSQL."""
        self._wiring.close()


class Maintenance:
    """What workers do, each also at an operator's word. One per process; for one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._wiring = Wiring(settings)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Make it from the ``VAULT_*`` environment; see ``Vault.from_env``."""
        return cls(settings_module.load(environ, **overrides))

    def refresh_scan(self, budget: timedelta = DRAIN_BUDGET) -> Tally:
        """Bring home dead processes' answers, tell providers of ended grants, refresh everything due.

        Args:
            budget: How long rows are claimed; what is in flight then takes one request deadline more.
        """
        self._wiring.revoking.run()
        return self._wiring.refreshing.scan(budget)

    def refresh(self, connection_id: UUID | str) -> Tally:
        """Refresh one connection now, due or not; one backing off keeps its pace (``Vault.enqueue`` insists)."""
        return self._wiring.refreshing.one(_uuid(connection_id))

    def overdue(self) -> Overdue:
        """What is due and in nobody's hands."""
        return self._wiring.refreshing.overdue()

    def rewrap(self, progress: Callable[[Progress], object] = _to_nobody) -> int:
        """Wrap every tenant key under the KEK in use; returns how many were. Resumable; touches no user's row."""
        return self._wiring.rotation.rewrap(progress)

    def rotate_data_keys(
        self, older_than: timedelta | None = None, progress: Callable[[Progress], object] = _to_nobody
    ) -> int:
        """Replace data keys past their age and re-seal what stands under replaced ones; returns how many were."""
        age = older_than if older_than is not None else timedelta(days=self.settings.data_key_max_age_days)
        return self._wiring.rotation.rotate_data_keys(age, progress)

    def key_counts(self) -> list[KeyCount]:
        """Count tenant keys, data keys and sealed values by method, version and KEK; reads every row."""
        return self._wiring.rotation.counts()

    def health_check(self) -> Health:
        """Look at every part."""
        return self._wiring.health.check()

    def cleanup(self, *, dry_run: bool = False) -> Mapping[str, int]:
        """Remove what has had its day, or count it."""
        return self._wiring.cleaning.run(dry_run=dry_run)

    def upgrade_schema(self) -> str:
        """Bring the database to the schema this version needs; returns the revision reached."""
        return self._wiring.schema.upgrade()

    def check(self) -> str:
        """Check, before work begins, what work stands on; returns the name of the KEK in use, never a key.

        Raises:
            SchemaOutdated: ``upgrade_schema`` has work to do.
            StoreUnavailable: PostgreSQL cannot be reached.
            KeyUnavailable: The KMS does not give the tenant's key back: is it the KEK the database was made with?
        """
        self._wiring.schema.check()
        self._wiring.keyring.check(self.settings.tenant)
        return self._wiring.keyring.kek_id()

    def ring(self, job: Job) -> None:
        """Ask the workers for a job, and wait a fifth of a second at most for the message to leave."""
        argument = str(job.connection_id) if isinstance(job, Refresh) else None
        self._wiring.doorbell.ring(job.task, job.lane, argument)
        self._wiring.doorbell.flush()

    def close(self) -> None:
        """Let go of connections and files."""
        self._wiring.close()


def _uuid(connection_id: UUID | str) -> UUID:
    if isinstance(connection_id, UUID):
        return connection_id
    try:
        return UUID(connection_id)
    except (ValueError, AttributeError, TypeError):
        raise UnknownConnection(connection_id) from None
