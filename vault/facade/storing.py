"""Storing credentials of all nine kinds: a part of the face for web apps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from secrets import token_bytes
from typing import Any, NamedTuple
from uuid import UUID

from vault.credentials.certificates import read_key
from vault.credentials.grants import refresh_token_id
from vault.credentials.kinds import Kind
from vault.facade.ids import Id, Text, read_id, read_secret, revealed
from vault.secret import Secret
from vault.services.credentials import Draft, Keeping
from vault.services.handing_over import HandedOver, HandingOver
from vault.webhooks import generate


class BasicAuth(NamedTuple):
    """The ids of a user name and its password."""

    username: UUID
    password: UUID


class ClientCertificate(NamedTuple):
    """The ids of a certificate and its key."""

    certificate: UUID
    key: UUID


class OAuthGrant(NamedTuple):
    """The ids of a grant: its connection's, and those of its two tokens."""

    connection: UUID
    access_token: UUID
    """The connection's own id."""
    refresh_token: UUID


class StoringCalls:
    """What ``Vault`` offers to hand credentials over. An app keeps ids only.

    Every ``store_…`` call but the first takes these words beside the value:

    * ``provider``, ``owner``, ``connection``: whose door it opens, whose it is, and for which connection; all optional.
    * ``name``, ``tags``: yours; tags can be searched for.
    * ``expires_at``: when it ends by itself, if it does and somebody knows.
    * ``policy``: numbers of its own, such as ``{"max_age": 30}`` (docs/credentials.md).

    All raise ``InvalidCredential`` when the value is not what it is said to be, ``ValueError`` for words nobody knows,
    ``KeyUnavailable`` and ``StoreUnavailable``.
    """

    tenant: str
    _keeping: Keeping
    _handing_over: HandingOver

    def store_oauth(
        self,
        provider: str,
        *,
        owner: str,
        access_token: Text | None = None,
        refresh_token: Text | None = None,
        expires_at: datetime | None = None,
        scopes: Sequence[str] = (),
        account: str | None = None,
        tags: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        token_type: str = "Bearer",  # noqa: S107  # the name of a scheme
        consented_at: datetime | None = None,
        variables: Mapping[str, str] | None = None,
        subject: str | None = None,
        key: Text | None = None,
        connection: Id | None = None,
    ) -> OAuthGrant:
        """Keep a grant that was got elsewhere; from now on it is refreshed as any other, and ``get()`` serves it.

        Nobody else may refresh it from now on: most providers take a refresh token once. Of providers that our
        registration itself asks (client credentials, signed assertions) no token need be given.

        Args:
            provider: A name of the registry.
            owner: Your id for the person or account that owns it.
            access_token: None: the first refresh gets one.
            refresh_token: None: the grant lives as long as its access token.
            expires_at: When the access token ends; None: nobody knows, and it is refreshed at once if it can be.
            scopes: That were granted.
            account: What the provider calls the account.
            tags: Words of your own; the labels of the connection.
            metadata: Text by text to keep sealed with it, at most 16 KB.
            token_type: As the provider said.
            consented_at: When the owner agreed, for providers whose grants end some time after that; None: now.
            variables: Parts of the provider's addresses, where its row has some, such as the shop.
            subject: Whom assertions speak for, where the provider is asked with signed ones.
            key: The private key of this connection for those, PEM, JWK or a service account's JSON; None: they are
                signed with the registration's.
            connection: Whose grant it takes the place of; None: a new connection.

        Raises:
            InvalidCredential: There is no token, it is none, or an instant has no time zone.
            UnknownProvider, ConfigurationError, UnknownConnection, ConnectRefused, KeyUnavailable, StoreUnavailable
            ValueError: The metadata is not text by text, or too long.
        """
        given = HandedOver(
            provider, owner, None if access_token is None else read_secret(access_token),
            None if refresh_token is None else read_secret(refresh_token), expires_at, token_type, " ".join(scopes),
            account, dict(tags or {}), metadata, consented_at, dict(variables or {}), subject,
            None if key is None else read_secret(key), None if connection is None else read_id(connection),
        )  # fmt: skip
        made = self._handing_over.store(given).id
        return OAuthGrant(made, made, refresh_token_id(made))

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
        private = Secret(read_key(revealed(key), None if password is None else revealed(password)))
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


_WORDS = ("owner", "provider", "name", "tags", "expires_at", "policy", "connection")


def _draft(kind: Kind, value: Text, words: Mapping[str, Any], **facts: str) -> Draft:
    unknown = sorted(set(words) - set(_WORDS))
    if unknown:
        raise TypeError(f"unknown words {', '.join(unknown)}; known: {', '.join(_WORDS)}")
    said = {name: found for name, found in words.items() if found is not None}
    connection = said.pop("connection", None)
    return Draft(
        kind, read_secret(value), connection_id=None if connection is None else read_id(connection), facts=facts, **said
    )
