"""Between another system's row and a grant of ours: reads it, gives it its times, seals it, and proves what stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from vault import policy
from vault.engine.sealing import ACCESS_TOKEN, REFRESH_TOKEN, Sealer, share_of
from vault.envelope import context, open_envelope
from vault.errors import CannotOpen, UnknownProvider
from vault.keyring import Keyring
from vault.means import Means, first_text, means_of
from vault.migration import values
from vault.migration.values import Unreadable
from vault.model import SYSTEM, Answer
from vault.policy import RefreshPolicy
from vault.ports import Adoption, Moved, NewGrant, Providers, SourceRow, StoredGrant
from vault.provider import Provider
from vault.secret import Secret

OpenValue = Callable[[str, str], str]
"""Opens what another system kept, for a tenant. Raises ``CannotOpen``, ``KeyUnavailable``."""
FIRST_VERSION = 1


class Opened(NamedTuple):
    """What a row says, opened and checked."""

    key: str
    tenant: str
    owner: str
    provider: Provider
    account: str | None
    access_token: Secret | None
    refresh_token: Secret | None
    expires_at: datetime | None
    scopes: str
    connected_at: datetime | None
    labels: Mapping[str, str]
    kept: Secret
    """The more lasting of its tokens as the source keeps it: what tells whether the row has changed."""

    @property
    def lasting(self) -> Secret:
        """The refresh token, or where there is none, the access token."""
        token = self.refresh_token or self.access_token
        assert token is not None  # a row without any is not opened
        return token

    @property
    def values(self) -> int:
        """How many secrets it brings."""
        return (self.access_token is not None) + (self.refresh_token is not None)


def kept(row: SourceRow) -> Secret | None:
    """Return the more lasting token of a row as the source keeps it; None: it has none."""
    return row.tokens.get(REFRESH_TOKEN) or row.tokens.get(ACCESS_TOKEN)


class Reader:
    """Reads the rows of one source."""

    def __init__(
        self, providers: Providers, open_value: OpenValue, constants: Mapping[str, str], default_tenant: str
    ) -> None:
        self._providers, self._open_value = providers, open_value
        self._constants = {"tenant": default_tenant, **constants}

    def read(self, row: SourceRow) -> Opened:
        """Open and check a row.

        Raises:
            Unreadable: With the reason, as one of the documented words.
            CannotOpen: A value is damaged, or sealed under a key that is not at hand.
            KeyUnavailable: Its KMS is away or refuses.
        """
        if row.problem is not None:
            raise Unreadable(row.problem)
        lasting = kept(row)
        if lasting is None:
            raise Unreadable("no_credential")
        tenant, owner = self._needed(row, "tenant"), self._needed(row, "owner")
        provider = self._provider(self._needed(row, "provider"))
        values.names(tenant, owner, provider.name)
        if tenant == SYSTEM:
            raise Unreadable("no_tenant")
        said = row.fields
        return Opened(
            row.key,
            tenant,
            owner,
            provider,
            self._text(row, "account"),
            self._token(row, ACCESS_TOKEN, tenant),
            self._token(row, REFRESH_TOKEN, tenant),
            values.instant(said.get("expires_at"), "unreadable_expiry"),
            values.scopes(said.get("scopes", self._constants.get("scopes"))),
            values.instant(said.get("connected_at"), "unreadable_connected_at"),
            values.labels(said.get("labels")),
            lasting,
        )

    def _text(self, row: SourceRow, field: str) -> str | None:
        return values.text(row.fields.get(field, self._constants.get(field)))

    def _needed(self, row: SourceRow, field: str) -> str:
        found = self._text(row, field)
        if found is None:
            raise Unreadable(f"no_{field}")
        return found

    def _provider(self, name: str) -> Provider:
        try:
            provider = self._providers.get(name)
        except UnknownProvider:
            raise Unreadable("unknown_provider") from None
        if provider.client is None:
            raise Unreadable("no_client")
        return provider

    def _token(self, row: SourceRow, field: str, tenant: str) -> Secret | None:
        sealed = row.tokens.get(field)
        return None if sealed is None else Secret(values.token(self._open_value(sealed.reveal(), tenant)))


def renewed_with(opened: Opened, beside: Means | None = None) -> str | None:
    """Return what the grant of a row is renewed with (``vault.means``); None: nothing renews it."""
    return first_text(opened.provider, _answer(opened), beside or Means())


def _answer(opened: Opened) -> Answer:
    # A grant without an access token gets an empty one that is over: whatever looks after sealed rows, such as the
    # rotation of keys, finds the same two envelopes in each of them.
    return Answer(opened.access_token or Secret(""), opened.refresh_token, None)


def new_grant(
    opened: Opened, connection_id: UUID, now: datetime, refresh_policy: RefreshPolicy, *, renewable: bool
) -> NewGrant:
    """Return the grant of a row, not sealed yet, with the times it would have had if we had got the consent.

    When a token was issued no source says: it is taken for its provider's default life before its end, but not for
    later than now. A token whose end nobody knows counts as over where there is a refresh token, which then is due.
    """
    provider = opened.provider
    assert provider.client is not None  # a row of a provider without one is not opened
    life, age = _life(opened, now, renewable=renewable)
    due = max(policy.refresh_in(refresh_policy, provider, life, share_of(connection_id), provider.idle_life), age)
    return NewGrant(
        connection_id=connection_id,
        tenant=opened.tenant,
        owner=opened.owner,
        provider=provider.name,
        client=provider.name,
        client_id=provider.client.client_id,
        account=opened.account,
        requested_scopes=opened.scopes,
        granted_scopes=opened.scopes,
        labels=opened.labels,
        version=FIRST_VERSION,
        data_key_id=connection_id,  # until it is sealed
        access_envelope=b"",
        refresh_envelope=None,
        refresh_fp=None,
        token_type="Bearer",  # noqa: S106  # the name of a scheme
        life=life,
        refresh_in=due if renewable else max(life, age),
        grant_life=_grant_life(opened, now, age),
        age=age,
    )


def _life(opened: Opened, now: datetime, *, renewable: bool) -> tuple[timedelta, timedelta]:
    default, zero = opened.provider.default_life, timedelta(0)
    if opened.access_token is None:
        return default, default
    if opened.expires_at is None:
        return default, default if renewable else zero
    left = opened.expires_at - now
    return (left, zero) if left >= default else (default, default - left)


def _grant_life(opened: Opened, now: datetime, age: timedelta) -> timedelta | None:
    """From when the access token counts as issued, as all lives are; the grant itself began with the consent."""
    whole = opened.provider.grant_life
    return None if whole is None else whole + age + min((opened.connected_at or now) - now, timedelta(0))


def adoption(opened: Opened, grant: NewGrant, sealer: Sealer, keyring: Keyring) -> Adoption:
    """Seal a grant and fingerprint where it came from. Raises ``KeyUnavailable``, ``CannotOpen``."""
    print_of = keyring.fingerprinter(grant.tenant)
    return Adoption(
        opened.key,
        sealer.first(grant, _answer(opened), renewed_with(opened)),
        opened.expires_at if opened.access_token else None,
        opened.connected_at,
        print_of(grant.connection_id, opened.kept.reveal()),
        print_of(grant.connection_id, opened.lasting.reveal()),
    )


def record(made: Adoption) -> Moved:
    """Return the record that is kept of an adoption."""
    return Moved(made.grant.connection_id, made.grant.tenant, made.kept_fp, made.token_fp)


class Prover:
    """Reads back what stands, through keys unwrapped from the database anew and not from where they were made."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def holds(self, connection_id: UUID, stored: StoredGrant, opened: Opened) -> bool:
        """Whether exactly the tokens of a row stand there. Raises ``KeyUnavailable``."""
        text = renewed_with(opened)
        refresh = None if text is None else Secret(means_of(text).refresh_token)
        return self._tokens(connection_id, stored) == (opened.access_token or Secret(""), refresh)

    def holds_lasting(self, connection_id: UUID, stored: StoredGrant, opened: Opened) -> bool:
        """Whether the token of a row that matters stands there. Raises ``KeyUnavailable``."""
        access, refresh = self._tokens(connection_id, stored) or (None, None)
        return (refresh or access) == opened.lasting

    def opens(self, connection_id: UUID, stored: StoredGrant) -> bool:
        """Whether what stands there, refreshed since it was moved, can be opened. Raises ``KeyUnavailable``."""
        return self._tokens(connection_id, stored) is not None

    def _tokens(self, connection_id: UUID, stored: StoredGrant) -> tuple[Secret | None, Secret | None] | None:
        try:
            key = self._keyring.key(stored.data_key)
            found = [
                Secret(
                    open_envelope(key, envelope, context(stored.tenant, connection_id, field), stored.version).decode()
                )
                if envelope is not None
                else None
                for field, envelope in (
                    (ACCESS_TOKEN, stored.access_envelope),
                    (REFRESH_TOKEN, stored.refresh_envelope),
                )
            ]
        except CannotOpen:
            return None
        access, text = found
        return access, None if text is None else Secret(means_of(text.reveal()).refresh_token)


def unchanged(moved: Moved, row: SourceRow, keyring: Keyring) -> bool:
    """Whether a source still keeps, byte for byte, the token that was moved. Raises ``KeyUnavailable``."""
    lasting = kept(row)
    return lasting is not None and moved.kept_fp == keyring.fingerprint(
        moved.tenant, moved.connection_id, lasting.reveal()
    )


def same_token(moved: Moved, opened: Opened, keyring: Keyring) -> bool:
    """Whether it still is that token, however the source seals it by now. Raises ``KeyUnavailable``."""
    print_of = keyring.fingerprint(moved.tenant, moved.connection_id, opened.lasting.reveal())
    return moved.token_fp == print_of
