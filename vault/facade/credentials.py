"""Credentials of all nine kinds: the part of the face for web apps that finds, reads, replaces and ends them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from vault.credentials.grants import is_refresh_token_id
from vault.credentials.kinds import Kind
from vault.credentials.policies import Policy
from vault.errors import UnknownCredential
from vault.facade.ids import Id, Text, read_id, read_secret
from vault.facade.storing import StoringCalls
from vault.jobs import RotateCredentials
from vault.model import Credential, CredentialValue, CredentialVersion
from vault.ports import Wanted
from vault.services.access import MIN_TTL, Access
from vault.services.catalog import Catalog
from vault.webhooks import Style, sign, verify
from vault.wiring import Wiring


class CredentialCalls(StoringCalls):
    """What ``Vault`` offers for credentials of all nine kinds. An app keeps ids only."""

    _wiring: Wiring
    _access: Access
    _catalog: Catalog

    # --------------------------------------------------------------------------------------------------------- reading

    def credential(self, credential_id: Id, *, version: int | None = None, reason: str = "") -> CredentialValue:
        """Open a credential; that it was read is written into the audit.

        The id of a connection is that of its access token, which is served as ``get()`` does; to look after its refresh
        token is our business, and whoever reads it must not use it.

        Args:
            credential_id: From a ``store_…`` call, or a connection's.
            version: None: the current one; a grant's tokens have no other.
            reason: Why, for the audit; never a value.

        Raises:
            UnknownCredential: This tenant has none of that id, it is deleted, or it has no such version (any more).
            RefreshPending, ReconnectRequired: Of an access token, as ``get()`` does.
            KeyUnavailable, CannotOpen, StoreUnavailable
        """
        wanted = _id(credential_id)
        if is_refresh_token_id(wanted):
            return self._catalog.refresh_token(wanted, version, reason)
        try:
            return self._keeping.read(wanted, version, reason)
        except UnknownCredential:
            shown = self._catalog.view(wanted)
            if shown is None or version not in (None, shown.version):
                raise
        return self._catalog.access_token(shown, self._access.get(wanted, MIN_TTL).access_token, reason)

    def describe_credential(self, credential_id: Id) -> Credential:
        """Return what a credential is, without its value, whatever its state. Raises ``UnknownCredential``."""
        return self._catalog.describe(_id(credential_id))

    def credential_policy(self, credential_id: Id) -> Policy:
        """Return the numbers that hold for a credential, and where each comes from. Raises ``UnknownCredential``."""
        return self._catalog.policy(_id(credential_id))

    def credentials(
        self,
        *,
        owner: str | None = None,
        provider: str | None = None,
        connection: Id | None = None,
        kind: str | None = None,
        tags: Mapping[str, str] | None = None,
        state: str | None = "active",
        after: Id | None = None,
        limit: int = 100,
    ) -> list[Credential]:
        """List credentials of this tenant by id, without values; ``after`` is the last id of the page before.

        A connection is two of them, tagged with its labels.
        """
        of = None if connection is None else read_id(connection)
        wanted = Wanted(self.tenant, owner, provider, of, None if kind is None else Kind(kind), tags, state)
        return self._catalog.found(wanted, None if after is None else _id(after), limit)

    def list_expiring(self, days: float = 30, limit: int = 1_000) -> list[Credential]:
        """List credentials that end by themselves within so many days, or have ended, the first first; no values.

        A consent that ends is its refresh token's end; access tokens end all the time, and are not listed.
        """
        return self._catalog.expiring(timedelta(days=days), limit)

    def check_rotation_required(self, limit: int = 1_000) -> list[Credential]:
        """List credentials that their policies want rotated by now, the oldest first; no values.

        Of refresh tokens those that their providers never replace: a new one comes with a new consent.
        """
        return self._catalog.past_their_age(limit)

    def history(self, credential_id: Id) -> list[CredentialVersion]:
        """Return every version of a credential, without values, newest first. Raises ``UnknownCredential``."""
        return self._catalog.history(_id(credential_id))

    def sign_webhook(self, credential_id: Id, body: bytes, *, message_id: str = "") -> dict[str, str]:
        """Return the headers that sign a body with a webhook secret, and with the one before while it still counts.

        Args:
            credential_id: Of a webhook secret; its style says which headers.
            body: Exactly the bytes that are sent.
            message_id: Which message this is, the same whenever it is sent; style ``standard`` needs it.

        Raises:
            UnknownCredential, KeyUnavailable, CannotOpen, StoreUnavailable
            ValueError: The message's id cannot be signed.
        """
        style, secrets = self._keeping.signing(_id(credential_id), making=False)
        return sign(Style(style), secrets, body, now=datetime.now(UTC), message_id=message_id)

    def verify_webhook(self, credential_id: Id, headers: Mapping[str, str], body: bytes) -> None:
        """Return when a webhook was signed with a secret that counts now, within five minutes of now.

        While the secret is rotated these are two: whichever the sender uses will do.

        Args:
            credential_id: Of a webhook secret; its style says which headers are read.
            headers: As they came.
            body: Exactly the bytes that came.

        Raises:
            SignatureInvalid: Whatever the cause.
            UnknownCredential, KeyUnavailable, CannotOpen, StoreUnavailable
        """
        style, secrets = self._keeping.signing(_id(credential_id), making=True)
        verify(Style(style), secrets, headers, body, now=datetime.now(UTC))

    # --------------------------------------------------------------------------------------------------------- changing

    def put(
        self,
        credential_id: Id,
        value: Text,
        *,
        expected_version: int | None = None,
        expires_at: datetime | None = None,
        overlap: timedelta | None = None,
    ) -> int:
        """Replace a value; returns the number of the new version. The one before is kept.

        Args:
            credential_id: Which.
            value: The new value, of the same kind.
            expected_version: Only if this is still the current one.
            expires_at: When the new value ends by itself.
            overlap: How long the value before goes on working; None: as the policy says.

        Raises:
            UnknownCredential, InvalidCredential, VersionConflict, KeyUnavailable, StoreUnavailable
        """
        value = read_secret(value)
        return self._keeping.put(
            _id(credential_id), value, expected=expected_version, expires_at=expires_at, overlap=overlap
        )

    def put_certificate(
        self, certificate_id: Id, certificate: Text, key: Text, *, expected_version: int | None = None
    ) -> int:
        """Replace a certificate and its key together; returns the number of the certificate's new version.

        Raises as ``put`` does.
        """
        return self._keeping.put_pair(
            _id(certificate_id), read_secret(certificate), read_secret(key), expected=expected_version
        )

    def roll_back(
        self, credential_id: Id, *, to_version: int | None = None, expected_version: int | None = None
    ) -> int:
        """Make an earlier value current again, as a new version; returns its number.

        Args:
            credential_id: Which; of a certificate or its key, both go back.
            to_version: None: the one before the current.
            expected_version: Only if this is still the current one.

        Raises:
            UnknownCredential: There is none, or no such version (any more).
            VersionConflict, KeyUnavailable, CannotOpen, StoreUnavailable
        """
        return self._keeping.roll_back(_id(credential_id), to_version, expected=expected_version)

    def change_credential(
        self,
        credential_id: Id,
        *,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> None:
        """Give a credential another name, other tags, or numbers of its own; None leaves what is there.

        Raises ``UnknownCredential``, ``InvalidCredential``, ``StoreUnavailable``.
        """
        self._keeping.change(_id(credential_id), name=name, tags=tags, policy=policy)

    def rotate(
        self,
        credential_id: Id,
        *,
        value: Text | None = None,
        overlap: timedelta | None = None,
        force: bool = False,
    ) -> UUID:
        """Have workers rotate a credential by its rotator, in steps that survive any crash; returns the request's id.

        Args:
            credential_id: Which.
            value: The new value; None: the rotator makes one.
            overlap: How long the old value goes on working; zero when it has leaked. None: as the policy says.
            force: Also while the value before the current one still works: its time is then over.

        Raises:
            UnknownCredential
            InvalidCredential: It has no rotator, or the value is not of its kind.
            RotationBusy: A rotation of it is not over.
            KeyUnavailable, StoreUnavailable
        """
        given = None if value is None else read_secret(value)
        begun = self._wiring.credentials.rotating_of(self.tenant).begin(
            self.tenant, _id(credential_id), value=given, overlap=overlap, force=force
        )
        self._wiring.doorbell.ring(RotateCredentials.task, RotateCredentials.lane, None)
        self._wiring.doorbell.flush()
        return begun

    # ----------------------------------------------------------------------------------------------------------- ending

    def delete_credentials(self, *credential_ids: Id) -> set[UUID]:
        """Delete credentials so that each can be brought back while its policy says; returns which were there."""
        return self._keeping.delete(_ids(credential_ids))

    def undelete_credential(self, credential_id: Id) -> None:
        """Bring back a deleted credential. Raises ``UnknownCredential`` when it cannot be (any more)."""
        self._keeping.undelete(_id(credential_id))

    def destroy_credentials(self, *credential_ids: Id) -> set[UUID]:
        """Take all values of credentials away for good; returns which were there."""
        return self._keeping.destroy(_ids(credential_ids))

    def destroy_version(self, credential_id: Id, version: int) -> None:
        """Take one former value away for good. Raises ``UnknownCredential``: it is not there, or the current one."""
        self._keeping.destroy_version(_id(credential_id), version)


def _id(credential_id: Id) -> UUID:
    try:
        return credential_id if isinstance(credential_id, UUID) else UUID(credential_id)
    except (ValueError, AttributeError, TypeError):
        raise UnknownCredential(credential_id) from None


def _ids(credential_ids: Iterable[Id]) -> Sequence[UUID]:
    return [_id(each) for each in credential_ids]
