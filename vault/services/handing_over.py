"""Keeping a grant that an app got elsewhere: from then on it is refreshed as any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from vault.credentials.kinds import Kind, checked_instant
from vault.engine.moving import Opened, new_grant, renewed_with
from vault.engine.sealing import Sealer, written
from vault.errors import ConfigurationError, ConnectRefused, InvalidCredential, UnknownConnection
from vault.means import Means
from vault.migration import values
from vault.migration.values import Unreadable
from vault.model import Answer, Connection
from vault.policy import RefreshPolicy
from vault.ports import ConnectionStore, Providers, SealedMetadata
from vault.provider import Provider, Strategy
from vault.secret import Secret

TRIES: Final = 5
SIGNED: Final = (Strategy.JWT_BEARER, Strategy.MINTED)
OURS: Final = (Strategy.CLIENT_CREDENTIALS, *SIGNED)
"""Where no owner's token is needed: the first renewal brings one."""


class HandedOver(NamedTuple):
    """A grant as the app has it."""

    provider: str
    owner: str
    access_token: Secret | None
    refresh_token: Secret | None
    expires_at: datetime | None
    """Of the access token."""
    token_type: str = "Bearer"
    scopes: str = ""
    account: str | None = None
    labels: Mapping[str, str] = {}
    metadata: Mapping[str, str] | None = None
    consented_at: datetime | None = None
    variables: Mapping[str, str] = {}
    """Parts of the provider's addresses."""
    subject: str | None = None
    key: Secret | None = None
    """Whom an assertion speaks for, and what it is signed with instead of the registration's key."""
    connection_id: UUID | None = None
    """Whose grant it replaces; None: it is a new connection's."""


class HandingOver:
    """The use case behind ``Vault.store_oauth``, of one tenant."""

    def __init__(
        self,
        tenant: str,
        store: ConnectionStore,
        providers: Providers,
        sealer: Sealer,
        refresh_policy: RefreshPolicy,
        *,
        new_id: Callable[[], UUID],
        now: Callable[[], datetime],
    ) -> None:
        self._tenant, self._store, self._providers, self._sealer = tenant, store, providers, sealer
        self._policy, self._new_id, self._now = refresh_policy, new_id, now

    def store(self, given: HandedOver) -> Connection:
        """Keep a grant; see ``Vault.store_oauth``."""
        if given.metadata is not None:
            written(given.metadata)
        connection_id = given.connection_id or self._new_id()
        opened = self._opened(given)
        if given.connection_id is not None:
            self._check_same(given.connection_id, given)
        answer = Answer(opened.access_token or Secret(""), opened.refresh_token, None)
        text = renewed_with(opened, self._beside(opened.provider, given))
        grant = new_grant(opened, connection_id, self._now(), self._policy, renewable=text is not None)
        grant = grant._replace(token_type=given.token_type)
        for _ in range(TRIES):
            version = (self._store.grant_version(connection_id) or 0) + 1
            sealed = self._sealer.first(grant._replace(version=version), answer, text)
            connection = self._store.connect(sealed._replace(metadata=self._metadata(connection_id, given)))
            if connection is not None:
                return connection
        raise ConnectRefused("busy", "the connection changes too fast; hand it over again")

    def _opened(self, given: HandedOver) -> Opened:
        """Check what was handed over. Raises ``InvalidCredential``, ``UnknownProvider``, ``ConfigurationError``."""
        self._providers.look()
        provider = self._providers.get(given.provider)
        if provider.client is None:
            raise ConfigurationError([f"{provider.name} has no client: its grants cannot be refreshed"])
        lasting = given.refresh_token or given.access_token
        if provider.strategy in OURS:
            lasting = lasting or Secret("")
        if lasting is None:
            raise InvalidCredential(Kind.ACCESS_TOKEN, "neither an access token nor a refresh token was given")
        for kind, token in ((Kind.ACCESS_TOKEN, given.access_token), (Kind.REFRESH_TOKEN, given.refresh_token)):
            if token is not None:
                _check(kind, token)
        for at in (given.expires_at, given.consented_at):
            if at is not None:
                checked_instant(Kind.ACCESS_TOKEN, "its end, or its consent's beginning,", at)
        return Opened(
            "", self._tenant, given.owner, provider, given.account, given.access_token, given.refresh_token,
            given.expires_at, given.scopes, given.consented_at, given.labels, lasting,
        )  # fmt: skip

    def _beside(self, provider: Provider, given: HandedOver) -> Means:
        """Return what the connection brings to its renewals, checked."""
        for name, value in (("subject", given.subject), ("key", given.key)):
            if value is not None and provider.strategy not in SIGNED:
                raise ConfigurationError([f"a {name} is for providers whose strategy is one of {', '.join(SIGNED)}"])
        try:
            variables = provider.variables_of(given.variables)
        except ValueError as error:
            raise ConfigurationError([str(error)]) from None
        scopes = provider.scope_separator.join(given.scopes.split() or provider.scopes)
        key = given.key.reveal() if given.key else ""
        return Means("", "", variables, given.subject or "", key, scopes if provider.strategy in OURS else "")

    def _check_same(self, connection_id: UUID, given: HandedOver) -> None:
        known = self._store.connection(self._tenant, connection_id)
        if known is None:
            raise UnknownConnection(connection_id)
        if (known.owner, known.provider) != (given.owner, given.provider):
            raise ConnectRefused("other_connection", "it must name the owner and provider it was made with")

    def _metadata(self, connection_id: UUID, given: HandedOver) -> SealedMetadata | None:
        if given.metadata is None:
            return None
        before = self._store.metadata(self._tenant, connection_id)
        version = 1 if before is None else before.version + 1
        return self._sealer.metadata(
            self._tenant, given.owner, given.provider, connection_id, version, given.metadata
        )  # fmt: skip


def _check(kind: Kind, token: Secret) -> None:
    try:
        values.token(token.reveal())
    except Unreadable:
        raise InvalidCredential(kind, "it is not printable ASCII of up to 64 KiB (RFC 6749, appendix A)") from None
