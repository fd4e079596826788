"""What authorises calls to providers: tokens and credentials that are kept here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from vault.secret import Secret
from vault.services.access import Access
from vault.services.credentials import Keeping

LIFE: Final = timedelta(seconds=30)
"""For which a token must live: longer than the call that it goes with."""


class TenantAuthority:
    """``Authority``, by what apps of the tenant would be given."""

    def __init__(self, access: Callable[[str], Access], keeping: Callable[[str], Keeping]) -> None:
        self._access, self._keeping = access, keeping

    def access_token(self, tenant: str, connection_id: UUID) -> Secret:
        """See ``Authority.access_token``."""
        return self._access(tenant).get(connection_id, LIFE).access_token

    def credential(self, tenant: str, credential_id: UUID, reason: str) -> Secret:
        """See ``Authority.credential``."""
        return self._keeping(tenant).read(credential_id, None, reason).value
