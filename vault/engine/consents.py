"""Keeps what an owner gave: every grant of a consent sealed, all of them stored at once, or given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import structlog

from vault import policy
from vault.engine.giving_back import GivingBack
from vault.engine.sealing import Sealer, share_of
from vault.errors import CannotOpen, ConnectRefused, UnknownConnection, VaultError
from vault.means import Means, first_text
from vault.model import Answer, Connection, Status, grant_id
from vault.policy import RefreshPolicy
from vault.ports import ConnectAttempt, ConnectionStore, NewGrant, SealedMetadata
from vault.provider import Provider

log = structlog.get_logger(__name__)

SAVE_TRIES = 5


class Consent(NamedTuple):
    """What an owner gave, and for which connection."""

    provider: Provider
    """As the registration that the flow was begun with."""
    attempt: ConnectAttempt
    answer: Answer
    beside: Means
    asked: Mapping[str, str]
    """Scopes that were asked for of further grants, by the grants' names."""
    before: Connection | None
    """The connection as it was when they came back."""
    other_account: bool
    """Whether it may become another account's."""
    metadata: Mapping[str, str] | None
    """What the app wants kept; None: what was kept before."""
    sent_at: float
    """When the code was sent, by the monotonic clock: lives are counted from there."""

    def __repr__(self) -> str:
        """Show whose it is: metadata is sealed where it is kept."""
        return f"<Consent for {self.attempt.connection_id}>"


class Consents:
    """Stores consents of one tenant. Thread-safe."""

    def __init__(
        self,
        tenant: str,
        store: ConnectionStore,
        sealer: Sealer,
        give_back: GivingBack,
        refresh_policy: RefreshPolicy,
        monotonic: Callable[[], float],
    ) -> None:
        self._tenant, self._store, self._sealer = tenant, store, sealer
        self._give_back, self._policy, self._monotonic = give_back, refresh_policy, monotonic

    def keep(self, consent: Consent) -> Connection:
        """Keep a consent; when that cannot be, whoever gave it is told to forget it.

        Raises:
            ConnectRefused: It is another account's, or the connection became something else meanwhile.
            UnknownConnection, KeyUnavailable, StoreUnavailable
        """
        try:
            return self._save(consent)
        except VaultError as error:
            reason = error.reason if isinstance(error, ConnectRefused) else type(error).__name__
            for grant, answer in _grants(consent):
                unsealed = self._unsealed(consent, grant, answer, 1)
                self._give_back(consent.provider, unsealed, answer, consent.beside, reason)
            raise

    def _save(self, consent: Consent) -> Connection:
        """Seal and store; again when a refresh in flight moved a row's version on meanwhile: the new consent wins."""
        for _ in range(SAVE_TRIES):
            sealed = [self._sealed(consent, grant, answer) for grant, answer in _grants(consent)]
            self._check_wanted(consent)
            metadata = self._metadata(consent)
            age = timedelta(seconds=self._monotonic() - consent.sent_at)
            own, *further = (each._replace(age=age) for each in sealed)
            if (connection := self._store.connect(own._replace(metadata=metadata), *further)) is not None:
                return connection
        raise ConnectRefused("busy", "the connection changes too fast; start the flow again")

    def _check_wanted(self, consent: Consent) -> None:
        """Look at what became of a connection while its new consent was fetched. Raises ``ConnectRefused``."""
        before = consent.before
        if before is None:
            return
        now = self._store.connection(self._tenant, before.id)
        if now is None:
            raise UnknownConnection(before.id)
        if now.status is Status.DISCONNECTED is not before.status:
            raise ConnectRefused("disconnected", "the connection was ended meanwhile")
        if now.connected_at != before.connected_at:
            raise ConnectRefused("superseded", "another flow gave the connection a newer consent meanwhile")
        known = {each.grant: each.account for each in (now, *self._store.further_grants(self._tenant, now.id))}
        for grant, answer in _grants(consent):
            account = known.get(grant)
            if None not in (answer.account, account) and answer.account != account and not consent.other_account:
                raise ConnectRefused("other_account", "the owner agreed with another account than the connection's")

    def _metadata(self, consent: Consent) -> SealedMetadata | None:
        """Seal what the app gave, or had given before, together with what the provider's answer says."""
        attempt, given, extra = consent.attempt, consent.metadata, consent.answer.extra
        if given is None and not extra:
            return None
        before = self._store.metadata(attempt.tenant, attempt.connection_id)
        if given is None and before is not None:
            try:
                given = self._sealer.open_metadata(attempt.tenant, before)
            except CannotOpen:  # that is an alarm, and no reason to lose the owner's consent
                log.error("metadata.cannot_open", connection_id=str(attempt.connection_id))
        version = 1 if before is None else before.version + 1
        owner = (attempt.tenant, attempt.owner, attempt.provider)
        return self._sealer.metadata(*owner, attempt.connection_id, version, {**(given or {}), **extra})

    def _sealed(self, consent: Consent, grant: str | None, answer: Answer) -> NewGrant:
        version = self._store.grant_version(_id(consent, grant)) or 0
        unsealed = self._unsealed(consent, grant, answer, version + 1)
        return self._sealer.first(unsealed, answer, first_text(consent.provider, answer, consent.beside))

    def _unsealed(self, consent: Consent, grant: str | None, answer: Answer, version: int) -> NewGrant:
        provider, attempt = consent.provider, consent.attempt
        assert provider.client is not None  # flows are begun with one
        connection_id, life = _id(consent, grant), answer.expires_in or provider.default_life
        idle = answer.refresh_expires_in or provider.idle_life
        renewable = first_text(provider, answer, consent.beside) is not None
        due = policy.refresh_in(self._policy, provider, life, share_of(connection_id), idle)
        asked = attempt.scopes if grant is None else consent.asked.get(grant, "")
        kept = consent.before.account if consent.before and grant is None else None
        return NewGrant(
            connection_id=connection_id,
            tenant=attempt.tenant,
            owner=attempt.owner,
            provider=provider.name,
            client=provider.name,
            client_id=provider.client.client_id,
            account=answer.account or kept,
            requested_scopes=asked,
            granted_scopes=asked if answer.scopes is None else " ".join(answer.scopes),
            labels=attempt.labels,
            version=version,
            data_key_id=attempt.data_key_id,
            access_envelope=b"",
            refresh_envelope=None,
            refresh_fp=None,
            token_type=answer.token_type,
            life=life,
            refresh_in=due if renewable else life,
            grant_life=answer.grant_expires_in or provider.grant_life or (idle if renewable else None),
            part_of=None if grant is None else attempt.connection_id,
            grant_name=grant,
        )


def _grants(consent: Consent) -> list[tuple[str | None, Answer]]:
    """Return every grant of a consent, the connection's own first."""
    return [(None, consent.answer), *consent.answer.grants.items()]


def _id(consent: Consent, grant: str | None) -> UUID:
    own = consent.attempt.connection_id
    return own if grant is None else grant_id(own, grant)
