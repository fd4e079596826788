"""What operators do about our registrations at providers."""

from __future__ import annotations

from collections.abc import Sequence

from vault.secret import Secret
from vault.services.clients import RegisteredClient
from vault.wiring import Wiring


class Clients:
    """Registrations at providers, their secrets sealed in the store. From ``Maintenance.clients``.

    Other processes take in a change within half a minute.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def list(self) -> Sequence[RegisteredClient]:
        """List every registration, of the environment and of the store, without secrets; reads every grant."""
        return self._wiring.registering.registered()

    def set(self, provider: str, client_id: str, secret: Secret | None, *, mistyped: bool = False) -> int:
        """Keep a secret. A new client id becomes the next generation, which new consents are asked for with.

        For a client id that is known the secret before stays as the other one, until ``end_roll``: it is used when the
        provider refuses the new one.

        Args:
            provider: A name of the registry.
            client_id: As the provider gave it.
            secret: None: a public client, which has none.
            mistyped: The secret set last is wrong: it is forgotten, and the one before it stays the other one.

        Returns:
            The generation of the registration.

        Raises:
            UnknownProvider: It is not in the registry.
            ConfigurationError: It cannot be a client id, or a secret.
            KeyUnavailable, StoreUnavailable
        """
        return self._wiring.registering.set(provider, client_id, secret, mistyped=mistyped)

    def end_roll(self, provider: str, client_id: str) -> None:
        """Forget the other secret: the new one works everywhere, or the old one is known to others.

        Raises ``UnknownClient``, ``KeyUnavailable``, ``StoreUnavailable``.
        """
        self._wiring.registering.end_roll(provider, client_id)

    def remove(self, provider: str, client_id: str, *, force: bool = False) -> int:
        """Forget a registration.

        Args:
            provider: Where it is.
            client_id: Which.
            force: Also when grants need it: they cannot be refreshed any more, and their owners must connect again.

        Returns:
            How many grants needed it.

        Raises:
            DestructionRefused: So many grants need it.
            UnknownClient, StoreUnavailable
        """
        return self._wiring.registering.remove(provider, client_id, force=force)
