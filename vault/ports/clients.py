"""Our registrations at providers, as the database keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from vault.events import Fact


class StoredClient(NamedTuple):
    """One registration, its secrets sealed."""

    id: UUID
    provider: str
    generation: int
    """1 for the first registration at its provider; new consents are asked for with the newest."""
    client_id: str
    version: int
    """Of the secrets: +1 with each change. Both envelopes are bound to it."""
    data_key_id: UUID
    secret_envelope: bytes | None
    """None: the client is a public one."""
    other_envelope: bytes | None
    """While the secret is rolled: the one before."""
    changed_at: datetime | None = None


class KnownClients(Protocol):
    """What whoever asks providers needs to know of our registrations."""

    def clients(self) -> Sequence[StoredClient]:
        """All there are, by provider and generation; a few rows. Raises ``StoreUnavailable``."""

    def tell(self, facts: Sequence[Fact]) -> None:
        """Tell operators of these, each once."""


class ClientStore(KnownClients, Protocol):
    """Registrations at rest. Every change is one transaction with its audit row."""

    def add_client(self, client: StoredClient, detail: Mapping[str, object]) -> bool:
        """Keep a new registration; False when its id, or its generation, has been taken at that provider."""

    def change_client(self, client: StoredClient, event: str, detail: Mapping[str, object]) -> bool:
        """Put new secrets in the place of the version before, and of no other one; False when that is not there."""

    def remove_client(self, client: StoredClient, *, force: bool) -> int:
        """Remove a registration that nobody needs, or (``force``) whoever does.

        Returns:
            How many need it: grants that are alive, and tokens its provider is still to be told to forget.
        """

    def grants_by_client(self) -> Mapping[tuple[str, str], int]:
        """How many grants each registration (provider, client id) got that are not disconnected; reads every grant."""
