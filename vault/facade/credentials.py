"""Credentials that are no grant's: the part of the face for web apps that stores and reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_bytes
from typing import Any, NamedTuple
from uuid import UUID

from vault.credentials.certificates import read_key
from vault.credentials.kinds import Kind
from vault.errors import UnknownCredential
from vault.facade.ids import read_id
from vault.jobs import RotateCredentials
from vault.model import Credential, CredentialValue, CredentialVersion
from vault.ports import Wanted
from vault.secret import Secret
from vault.services.credentials import Draft, Keeping
from vault.webhooks import Style, generate, sign, verify
from vault.wiring import Wiring

Id = UUID | str
Text = Secret | str


class BasicAuth(NamedTuple):
    """The ids of a user name and its password."""

    username: UUID
    password: UUID


class ClientCertificate(NamedTuple):
    """The ids of a certificate and its key."""

    certificate: UUID
    key: UUID


class CredentialCalls:
    """What ``Vault`` offers for credentials of seven kinds. An app keeps ids only.

    Every ``store_…`` call takes these words beside the value:

    * ``provider``, ``owner``, ``connection``: whose door it opens, whose it is, and for which connection; all optional.
    * ``name``, ``tags``: yours; tags can be searched for.
    * ``expires_at``: when it ends by itself, if it does and somebody knows.
    * ``policy``: numbers of its own, such as ``{"max_age": 30}`` (docs/credentials.md).

    All raise ``InvalidCredential`` when the value is not what it is said to be, ``ValueError`` for words nobody knows,
    ``KeyUnavailable`` and ``StoreUnavailable``.
    """

    tenant: str
    _keeping: Keeping
    _wiring: Wiring

    # --------------------------------------------------------------------------------------------------------- storing

    def store_api_key(self, key: Text, **words: Any) -> UUID:
        """Keep an API key; returns its id."""
        return self._keeping.store(_draft(Kind.API_KEY, key, words))[0]

    def store_basic_auth(self, username: Text, password: Text, **words: Any) -> BasicAuth:
        """Keep a user name and its password, each under an id of its own."""
        drafts = (
            _draft(Kind.USERNAME, username, {**words, "expires_at": None}),
            _draft(Kind.PASSWORD, password, words),
        )
        return BasicAuth(*self._keeping.store(*drafts))

    def store_certificate(
        self, certificate: Text, key: Text, *, password: Text | None = None, **words: Any
    ) -> ClientCertificate:
        """Keep a client certificate with its chain, and its private key.

        Args:
            certificate: PEM, the leaf first, each following one having signed the one before.
            key: PEM; it must be the certificate's.
            password: Of the key, if it is encrypted; it is not kept.
            words: See the class; not ``expires_at``, which the certificate says.
        """
        private = Secret(read_key(_revealed(key), None if password is None else _revealed(password)))
        drafts = (_draft(Kind.CERTIFICATE, certificate, words), _draft(Kind.PRIVATE_KEY, private, words))
        return ClientCertificate(*self._keeping.store(*drafts, pair=True))

    def store_webhook_secret(self, secret: Text | None = None, *, style: str = "standard", **words: Any) -> UUID:
        """Keep the secret that a provider signs its webhooks with; returns its id.

        Args:
            secret: None: a new one is made.
            style: ``standard`` (Standard Webhooks), ``github`` or ``stripe``: which headers it signs.
            words: See the class.
        """
        given = generate(token_bytes) if secret is None else secret
        return self._keeping.store(_draft(Kind.WEBHOOK_SECRET, given, words, style=style))[0]

    def store_secret(self, value: Text, **words: Any) -> UUID:
        """Keep any other text of up to 64 KiB; returns its id."""
        return self._keeping.store(_draft(Kind.CUSTOM, value, words))[0]

    # --------------------------------------------------------------------------------------------------------- reading

    def credential(self, credential_id: Id, *, version: int | None = None, reason: str = "") -> CredentialValue:
        """Open a credential; that it was read is written into the audit.

        Args:
            credential_id: From a ``store_…`` call.
            version: None: the current one.
            reason: Why, for the audit; never a value.

        Raises:
            UnknownCredential: This tenant has none of that id, it is deleted, or it has no such version (any more).
            KeyUnavailable, CannotOpen, StoreUnavailable
        """
        return self._keeping.read(_id(credential_id), version, reason)

    def describe_credential(self, credential_id: Id) -> Credential:
        """Return what a credential is, without its value, whatever its state. Raises ``UnknownCredential``."""
        return self._keeping.describe(_id(credential_id))

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
        """List credentials of this tenant by id, without values; ``after`` is the last id of the page before."""
        of = None if connection is None else read_id(connection)
        wanted = Wanted(self._keeping.tenant, owner, provider, of, None if kind is None else Kind(kind), tags, state)
        return self._keeping.found(wanted, None if after is None else _id(after), limit)

    def list_expiring(self, days: float = 30, limit: int = 1_000) -> list[Credential]:
        """List credentials that end by themselves within so many days, or have ended, the first first; no values."""
        return self._keeping.expiring(timedelta(days=days), limit)

    def check_rotation_required(self, limit: int = 1_000) -> list[Credential]:
        """List credentials that their policies want rotated by now, the oldest first; no values."""
        return self._keeping.past_their_age(limit)

    def history(self, credential_id: Id) -> list[CredentialVersion]:
        """Return every version of a credential, without values, newest first. Raises ``UnknownCredential``."""
        return self._keeping.history(_id(credential_id))

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
        value = _secret(value)
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
            _id(certificate_id), _secret(certificate), _secret(key), expected=expected_version
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
        given = None if value is None else _secret(value)
        begun = self._wiring.rotating.begin(self.tenant, _id(credential_id), value=given, overlap=overlap, force=force)
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


_WORDS = ("owner", "provider", "name", "tags", "expires_at", "policy", "connection")


def _draft(kind: Kind, value: Text, words: Mapping[str, Any], **facts: str) -> Draft:
    unknown = sorted(set(words) - set(_WORDS))
    if unknown:
        raise TypeError(f"unknown words {', '.join(unknown)}; known: {', '.join(_WORDS)}")
    said = {name: found for name, found in words.items() if found is not None}
    connection = said.pop("connection", None)
    return Draft(
        kind, _secret(value), connection_id=None if connection is None else read_id(connection), facts=facts, **said
    )


def _secret(value: Text) -> Secret:
    return value if isinstance(value, Secret) else Secret(value)


def _revealed(value: Text) -> str:
    return value.reveal() if isinstance(value, Secret) else value


def _id(credential_id: Id) -> UUID:
    try:
        return credential_id if isinstance(credential_id, UUID) else UUID(credential_id)
    except (ValueError, AttributeError, TypeError):
        raise UnknownCredential(credential_id) from None


def _ids(credential_ids: Iterable[Id]) -> Sequence[UUID]:
    return [_id(each) for each in credential_ids]
