"""Between a claim and a secret: opens the refresh token that is sent, seals the answer that comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID
from zlib import crc32

from vault import policy
from vault.claims import Claim, Kept
from vault.envelope import DataKey, context, open_envelope, seal
from vault.keyring import CURRENT, Keyring
from vault.means import means_of, next_text
from vault.model import Answer
from vault.policy import RefreshPolicy
from vault.ports import NewGrant, SealedMetadata
from vault.provider import Provider, Rotation
from vault.secret import Secret

ACCESS_TOKEN = "access_token"  # the name of a field
REFRESH_TOKEN = "refresh_token"  # the name of a field
METADATA = "metadata"
SHORTEST_REST = timedelta(seconds=1)
"""Between two refreshes of a grant, however short a life its provider tells: else a drain would never be done."""
LARGEST_METADATA = 16 * 1024
"""Bytes of metadata that an app may give, as JSON."""


def share_of(connection_id: UUID) -> float:
    """Return a number in [0, 1) that spreads connections evenly and is the same on every machine."""
    return crc32(connection_id.bytes) / 2**32


class Prepared(NamedTuple):
    """Keys in hand for one answer: whatever happens to the KMS or the cache meanwhile, it can be sealed."""

    key: DataKey
    fingerprint: Callable[[UUID, str], bytes]


class Sealer:
    """Opens and seals the two tokens of a grant."""

    def __init__(self, keyring: Keyring, refresh_policy: RefreshPolicy) -> None:
        self._keyring = keyring
        self._policy = refresh_policy

    def prepare(self, claim: Claim) -> Prepared:
        """S1: take the keys the answer will be sealed with in hand, before anything is sent.

        Raises:
            KeyUnavailable: they cannot be had now.
            CannotOpen: the wrapped key is damaged.
        """
        record = claim.data_key
        if record.state == CURRENT:
            key = self._keyring.key(record)
        else:
            key = self._keyring.sealing_key(record.tenant, record.owner, record.provider)
        return Prepared(key, self._keyring.fingerprinter(claim.tenant))

    def refresh_token(self, claim: Claim, prepared: Prepared) -> Secret:
        """Open the refresh token of a claim. Raises ``KeyUnavailable``, ``CannotOpen``."""
        bound = context(claim.tenant, claim.connection_id, REFRESH_TOKEN)
        key = prepared.key if prepared.key.id == claim.data_key.id else self._keyring.key(claim.data_key)
        plain = open_envelope(key, claim.refresh_envelope or b"", bound, claim.version)
        return Secret(plain.decode())

    def keep(
        self, claim: Claim, provider: Provider, answer: Answer, spent: Secret, prepared: Prepared, sent_at: datetime
    ) -> Kept:
        """Seal an answer for the row that was claimed.

        Args:
            claim: the claim it answers.
            provider: whose answer it is.
            answer: what was read from it.
            spent: the refresh token that was sent; it stays the grant's when the answer brings none.
            prepared: from ``prepare``.
            sent_at: the database's time when the request left; the token's life is counted from here.
        """
        key = prepared.key
        life = answer.expires_in or provider.default_life
        idle = answer.refresh_expires_in or provider.idle_life
        version = claim.version + 1
        connection_id, tenant = claim.connection_id, claim.tenant
        due = max(SHORTEST_REST, policy.refresh_in(self._policy, provider, life, share_of(connection_id), idle))
        access = (answer.access_token.reveal() or means_of(spent.reveal()).access_token).encode()
        text = next_text(provider, spent, answer)
        return Kept(
            connection_id,
            tenant,
            claim.epoch,
            claim.consent,
            claim.parent_fp or b"",
            claim.version,
            prepared.fingerprint(connection_id, text),
            key.id,
            seal(key, access, context(tenant, connection_id, ACCESS_TOKEN), version),
            seal(key, text.encode(), context(tenant, connection_id, REFRESH_TOKEN), version),
            answer.token_type,
            None if answer.scopes is None else " ".join(answer.scopes),
            sent_at,
            sent_at + life,
            sent_at + due,
            _ends_at(provider, claim, answer, sent_at, idle),
            provider.rotation is Rotation.UNTIL_SUCCESSOR_USED,
            claim.reason,
        )

    def reseal(self, kept: Kept, version: int) -> Kept:
        """Bind a kept answer to another version of its row. Raises ``KeyUnavailable``, ``CannotOpen``."""
        key = self._keyring.opening_key(kept.data_key_id)
        envelopes = []
        for field, envelope in ((ACCESS_TOKEN, kept.access_envelope), (REFRESH_TOKEN, kept.refresh_envelope)):
            bound = context(kept.tenant, kept.connection_id, field)
            envelopes.append(seal(key, open_envelope(key, envelope, bound, kept.version), bound, version))
        return kept._replace(parent_version=version - 1, access_envelope=envelopes[0], refresh_envelope=envelopes[1])

    def metadata(
        self, tenant: str, owner: str, provider: str, connection_id: UUID, version: int, metadata: Mapping[str, str]
    ) -> SealedMetadata:
        """Seal what is kept with a connection. Raises ``KeyUnavailable``."""
        key = self._keyring.sealing_key(tenant, owner, provider)
        envelope = seal(key, _json(metadata), context(tenant, connection_id, METADATA), version)
        return SealedMetadata(connection_id, version, key.id, envelope)

    def open_metadata(self, tenant: str, sealed: SealedMetadata) -> dict[str, str]:
        """Open it again. Raises ``KeyUnavailable``, ``CannotOpen``."""
        key = self._keyring.opening_key(sealed.data_key_id)
        return read(
            open_envelope(key, sealed.envelope, context(tenant, sealed.connection_id, METADATA), sealed.version)
        )

    def first(self, grant: NewGrant, answer: Answer, renewed_with: str | None) -> NewGrant:
        """Seal the tokens of a new consent into ``grant``, whose other fields are given.

        Args:
            grant: Without them.
            answer: With the access token.
            renewed_with: See ``vault.means``; None: nothing renews it.

        Raises:
            KeyUnavailable: They cannot be sealed now.
        """
        key = self._keyring.sealing_key(grant.tenant, grant.owner, grant.provider)
        access = context(grant.tenant, grant.connection_id, ACCESS_TOKEN)
        sealed = grant._replace(
            data_key_id=key.id,
            access_envelope=seal(key, answer.access_token.reveal().encode(), access, grant.version),
        )
        if renewed_with is None:
            return sealed
        refresh = context(grant.tenant, grant.connection_id, REFRESH_TOKEN)
        return sealed._replace(
            refresh_envelope=seal(key, renewed_with.encode(), refresh, grant.version),
            refresh_fp=self._keyring.fingerprint(grant.tenant, grant.connection_id, renewed_with),
        )


def _ends_at(
    provider: Provider, claim: Claim, answer: Answer, sent_at: datetime, idle: timedelta | None
) -> datetime | None:
    """Say when the grant ends: by the absolute clock where it has one, else when it will have lain idle."""
    if answer.grant_expires_in:
        return sent_at + answer.grant_expires_in
    if claim.grant_ends_at is not None and (provider.grant_life or idle is None):
        return claim.grant_ends_at
    return sent_at + idle if idle else None


def written(metadata: Mapping[str, str]) -> bytes:
    """Return metadata that an app gave, as it is sealed.

    Raises:
        ValueError: it is not text by text, or more than ``LARGEST_METADATA``.
    """
    if not all(isinstance(part, str) for pair in metadata.items() for part in pair):
        raise ValueError("metadata is text by text")
    text = _json(metadata)
    if len(text) > LARGEST_METADATA:
        raise ValueError(f"metadata is {len(text)} bytes long; at most {LARGEST_METADATA} are kept")
    return text


def _json(metadata: Mapping[str, str]) -> bytes:
    return json.dumps(dict(metadata), ensure_ascii=False, separators=(",", ":")).encode()


def read(text: bytes) -> dict[str, str]:
    """Return metadata that was opened."""
    found: dict[str, str] = json.loads(text)
    return found
