"""The face for web apps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Self
from uuid import UUID

from requests.auth import AuthBase

from vault import settings as settings_module
from vault.errors import TokenUnavailable
from vault.facade.bearer import Bearer
from vault.facade.credentials import CredentialCalls
from vault.facade.ids import read_id
from vault.facade.serving import Serving
from vault.facade.session import ProviderSession
from vault.facade.sessions import SessionCalls
from vault.facade.standing import StandingCalls
from vault.jobs import Refresh
from vault.model import SIGNING, Connection, Token, checked_tenant, grant_id
from vault.services.access import MIN_TTL
from vault.services.connect import ConnectStart
from vault.settings import Settings
from vault.wiring import Wiring


class Vault(CredentialCalls, SessionCalls, StandingCalls):
    """Tokens of connected accounts, for web apps. One per process; thread-safe; the first call connects, not this."""

    def __init__(self, settings: Settings) -> None:
        self._wire(Wiring(settings), settings.tenant)

    def _wire(self, wiring: Wiring, tenant: str) -> None:
        self._wiring = wiring
        self.tenant = tenant
        self._access = wiring.access(tenant)
        self._connecting, self._tending = wiring.connecting(tenant), wiring.tending(tenant)
        self._strings = wiring.keys.strings(tenant)
        self._keeping = wiring.credentials.keeping(tenant)
        self._catalog = wiring.catalog(tenant)
        self._handing_over = wiring.handing_over(tenant)

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
        other._wire(self._wiring, checked_tenant(tenant))
        return other

    @property
    def serving(self) -> Serving:
        """What whoever serves this vault to others needs to know."""
        return Serving(self._wiring)

    # -------------------------------------------------------------------------------------------------------- tokens

    def get(self, connection_id: UUID | str, min_ttl: timedelta = MIN_TTL, *, grant: str | None = None) -> Token:
        """Answer with a token that works.

        A stored token that lives longer than ``min_ttl`` comes at once. Otherwise a refresh is asked for, and waited
        for up to ``VAULT_GET_DEADLINE_S``; when none comes, a token that still lives is served nevertheless.

        Args:
            connection_id: From ``complete()``.
            min_ttl: Life the token must have left, by the database's clock.
            grant: Of which of its further grants, such as Slack's ``user``.

        Raises:
            UnknownConnection: This tenant has no such connection.
            RefreshPending: No live token now; ``retry_after`` says when to ask again.
            ReconnectRequired: The grant is gone; ``reason`` says why.
            KeyUnavailable: The KMS refuses the key, or has been away beyond cache life and grace.
            CannotOpen: The stored value is damaged.
            StoreUnavailable: PostgreSQL cannot be reached.
        """
        wanted = read_id(connection_id)
        return self._access.get(grant_id(wanted, grant) if grant else wanted, min_ttl)

    def get_many(
        self, connection_ids: Sequence[UUID | str], min_ttl: timedelta = MIN_TTL
    ) -> dict[UUID, Token | TokenUnavailable]:
        """Answer for many connections in one round trip, without waiting for refreshes.

        Returns:
            For each connection of this tenant that exists, its token or the error that ``get()`` would raise.
        """
        return self._access.get_many([read_id(each) for each in connection_ids], min_ttl)

    def enqueue(self, job: Refresh) -> None:
        """Make a job due, durably, then ring the workers for at most a fifth of a second. Redis down is no error.

        Raises:
            UnknownConnection: This tenant has no such connection.
            StoreUnavailable: PostgreSQL cannot be reached, so nothing was enqueued.
        """
        self._tending.ask(read_id(job.connection_id), insist=True)
        self._wiring.doorbell.flush()

    def session(
        self, connection_id: UUID | str, base: str, *, grant: str | None = None, **options: Any
    ) -> ProviderSession:
        """Return a session of requests that speaks to a provider's API with the token of a connection.

        Args:
            connection_id: In whose name; whether there is such a connection shows at the first request.
            base: The API's address; the token goes to its origin only.
            grant: With which of its further grants.
            options: See ``ProviderSession``.
        """
        wanted = read_id(connection_id)
        return ProviderSession(self, grant_id(wanted, grant) if grant else wanted, base, **options)

    def report_rejected(self, connection_id: UUID | str) -> None:
        """Tell that the provider's API refused the served token: a new one is asked for.

        Where nothing but its owner can give another (Apple Music's users), the connection needs a reconnect from now
        on. Raises as ``enqueue`` does.
        """
        self._tending.report_rejected(read_id(connection_id))

    def signature(self, token: Token) -> AuthBase:
        """Return what puts a token into a request of ``requests``: its header, or for OAuth 1.0a a signature.

        Raises ``UnknownConnection``, ``UnknownProvider``, ``KeyUnavailable``, ``StoreUnavailable``.
        """
        return self._tending.signature(token) if token.token_type == SIGNING else Bearer(token)

    # --------------------------------------------------------------------------------------------------- connections

    def begin(
        self,
        provider: str,
        *,
        owner: str,
        redirect_uri: str | None = None,
        return_to: str | None = None,
        scopes: Sequence[str] | None = None,
        grants: Mapping[str, Sequence[str]] | None = None,
        browser: str | None = None,
        labels: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
        reconnect: UUID | str | None = None,
    ) -> ConnectStart:
        """Start connecting an owner's account: send them to ``url``, keep ``state`` in their browser's session.

        Args:
            provider: A name of the registry.
            owner: Your id for the person or account that owns the grant.
            redirect_uri: Where the provider sends them back to; default ``VAULT_REDIRECT_URI``. Where that is set, it
                must be that one or one of ``VAULT_REDIRECT_URIS``.
            return_to: A path on your site, or an address below one of ``VAULT_RETURN_TO``, to go to afterwards; handed
                back by ``complete()``.
            scopes: What to ask for; default: the provider's in the registry.
            grants: What to ask for of further grants, where its row has some: their names, and scopes.
            browser: A value bound to their browser, such as a session id; ``complete()`` must then bring the same.
            labels: Words of your own to keep with the connection, to be seen by whoever may list connections;
                None: those kept before stay.
            metadata: Text by text to keep sealed, at most 16 KB; see ``metadata()``. None: what was kept before stays.
            variables: Parts of the provider's addresses, where its row has some, such as the shop.
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
            grants=grants or {},
            browser=browser,
            labels=labels,
            metadata=metadata,
            variables=variables,
            reconnect=None if reconnect is None else read_id(reconnect),
        )

    def complete(
        self,
        *,
        state: str,
        code: str | None = None,
        browser: str | None = None,
        error: str | None = None,
        issuer: str | None = None,
        parameters: Mapping[str, str] | None = None,
        provider: str | None = None,
        other_account: bool = False,
    ) -> Connection:
        """End a flow with what the provider's redirect carried; a state is good for one call.

        Args:
            state: The ``state`` parameter of the redirect.
            code: Its ``code``.
            browser: What ``begin()`` was given.
            error: Its ``error``, if the owner declined.
            issuer: Its ``iss``, if there is one (RFC 9207).
            parameters: All of its parameters: some providers say in others what is worth keeping, or is needed.
            provider: Whose redirect it is, where each provider has a callback of its own; another's flow is refused.
            other_account: Whether a reconnect may turn the connection into that of another account.

        Raises:
            ConnectRefused: ``reason`` is a word of the table in docs/connect.md.
            UnknownProvider, ConfigurationError, UnknownConnection, KeyUnavailable, StoreUnavailable
        """
        return self._connecting.complete(
            state=state,
            code=code,
            browser=browser,
            error=error,
            issuer=issuer,
            parameters=parameters or {},
            provider_name=provider,
            other_account=other_account,
        )

    def connection(self, connection_id: UUID | str) -> Connection:
        """Read one connection, without its secrets. Raises ``UnknownConnection``."""
        return self._tending.connection(read_id(connection_id))

    def grants(self, connection_id: UUID | str) -> list[Connection]:
        """List the further grants of a connection, by name; each is a connection of its own. Mostly there are none.

        Raises ``UnknownConnection``.
        """
        return self._tending.grants(read_id(connection_id))

    def connections(
        self,
        *,
        owner: str | None = None,
        provider: str | None = None,
        status: str | None = None,
        after: UUID | str | None = None,
        limit: int = 100,
        further: bool = False,
    ) -> list[Connection]:
        """List connections of this tenant by id.

        Args:
            owner: Only of this one.
            provider: Only there.
            status: Only these.
            after: The last id of the page before.
            limit: At most so many.
            further: Also further grants, which go with a connection; see ``grants()``.
        """
        last = None if after is None else read_id(after)
        return self._tending.connections(
            owner=owner, provider=provider, status=status, after=last, limit=limit, further=further
        )

    def metadata(self, connection_id: UUID | str) -> dict[str, str]:
        """Open what is kept sealed with a connection: what your app gave, and what its provider's row says to keep.

        Raises ``UnknownConnection``, ``KeyUnavailable``, ``CannotOpen``, ``StoreUnavailable``.
        """
        return self._tending.metadata(read_id(connection_id))

    def set_metadata(self, connection_id: UUID | str, metadata: Mapping[str, str]) -> None:
        """Keep this, sealed, in the place of what was kept before.

        Raises:
            UnknownConnection: There is no such connection, or it was disconnected.
            ValueError: It is not text by text, or more than 16 KB.
            KeyUnavailable, StoreUnavailable
        """
        self._tending.set_metadata(read_id(connection_id), metadata)

    def disconnect(self, connection_id: UUID | str) -> None:
        """Take a connection's secrets away at once, further grants and all, and have the provider told.

        Raises ``UnknownConnection``.
        """
        self._tending.disconnect(read_id(connection_id))

    def encrypt_string(self, text: str) -> str:
        """Encrypt text into text that carries its own wrapped key: ``kms:v2:…``, for wherever you keep it yourself.

        A key serves for many strings: one KMS call in a cache life. Raises ``KeyUnavailable``, ``CannotOpen`` and, for
        lone surrogates, ``ValueError``.
        """
        return self._strings.encrypt(text)

    def decrypt_string(self, text: str) -> str:
        """Give back the string in a text of ``encrypt_string()``, or of a system that Evergrant replaces.

        Read are ``kms:v2:…`` of ours and, with ``VAULT_FOREIGN_KEK_URI``, of others; ``iv:authTag:data`` in hex or
        base64 under ``ENCRYPTION_KEY``; and, with ``VAULT_ALLOW_PLAINTEXT``, what was never encrypted.

        Raises:
            KeyUnavailable: The KMS refused or did not answer, or the key of its format is not set.
            CannotOpen: It is damaged, another tenant's, or plain text that is not allowed.
        """
        return self._strings.decrypt(text)

    def close(self) -> None:
        """Let go of every connection to PostgreSQL."""
        self._wiring.close()
