"""What operators do about API keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from vault.api_keys import ApiKey
from vault.errors import UnknownApiKey
from vault.model import checked_tenant
from vault.services.api_keys import NewApiKey
from vault.wiring import Wiring


class ApiKeys:
    """Keys with which programs ask over HTTP. From ``Maintenance.api_keys``.

    A key's tenant is whose data it opens; no request says so. Every method raises ``StoreUnavailable``.
    """

    def __init__(self, wiring: Wiring, tenant: str) -> None:
        self._wiring, self._tenant = wiring, tenant

    def create(
        self, name: str, scopes: Sequence[str], *, tenant: str | None = None, life: timedelta | None = None
    ) -> NewApiKey:
        """Make a key; its secret is seen this once, only a digest of it is kept.

        Args:
            name: What it is for, to be found again by.
            scopes: What it may be used for (docs/http.md).
            tenant: Whose; default ``VAULT_TENANT``.
            life: For so long it can be used; None: until it is revoked.

        Raises:
            ConfigurationError: Words that a key cannot have.
        """
        whose = checked_tenant(tenant or self._tenant)
        return self._wiring.serving.key_keeping.create(whose, name, scopes, life)

    def list(self, tenant: str | None = None) -> Sequence[ApiKey]:
        """List keys, without their secrets, also those that have ended: of a tenant, or of all."""
        return self._wiring.serving.key_keeping.list(tenant)

    def revoke(self, key_id: UUID | str) -> ApiKey:
        """End a key; processes that have it at hand notice within ``VAULT_HTTP_KEY_CACHE_S``.

        Raises ``UnknownApiKey``.
        """
        try:
            found = key_id if isinstance(key_id, UUID) else UUID(key_id)
        except ValueError:
            raise UnknownApiKey(key_id) from None
        return self._wiring.serving.key_keeping.revoke(found)
