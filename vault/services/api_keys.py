"""Looking after API keys: making, listing, ending them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from vault.api_keys import PREFIX, ApiKey, check_words, digest_of
from vault.errors import ConfigurationError, UnknownApiKey
from vault.ports import ApiKeyStore
from vault.secret import Secret

_NOW = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands where the database says when."""


class NewApiKey(NamedTuple):
    """A key that was just made, with its secret: this is the only time that it is seen."""

    key: ApiKey
    secret: Secret


class KeyKeeping:
    """The use cases behind ``evergrant api-key``."""

    def __init__(self, store: ApiKeyStore, *, new_id: Callable[[], UUID], new_token: Callable[[], str]) -> None:
        self._store, self._new_id, self._new_token = store, new_id, new_token

    def create(self, tenant: str, name: str, scopes: Sequence[str], life: timedelta | None) -> NewApiKey:
        """See ``ApiKeys.create``."""
        check_words(name, scopes)
        if life is not None and life <= timedelta(0):
            raise ConfigurationError(["a key's life is longer than nothing"])
        text = PREFIX + self._new_token()
        asked = ApiKey(self._new_id(), tenant, name, tuple(dict.fromkeys(scopes)), _NOW, None, None, None)
        return NewApiKey(self._store.add_key(asked, digest_of(text), life), Secret(text))

    def list(self, tenant: str | None) -> Sequence[ApiKey]:
        """See ``ApiKeys.list``."""
        return self._store.keys(tenant)

    def revoke(self, key_id: UUID) -> ApiKey:
        """See ``ApiKeys.revoke``."""
        ended = self._store.revoke_key(key_id)
        if ended is None:
            raise UnknownApiKey(key_id)
        return ended
