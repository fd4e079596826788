"""Which KMS serves which tenant: the configured one, those it took the place of, and those that tenants brought."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

from vault.errors import ConfigurationError, KeyUnavailable
from vault.kms import open_kms
from vault.kms.guard import GuardedKms
from vault.kms.local import LocalKms
from vault.ports import Kms, TenantKeks

CAPACITY: Final = 1_000
"""KMS clients kept open at once: one for each KEK that tenants brought, the unused make room."""


class KekDirectory:
    """Opens a KMS when it is first needed, with a breaker of its own. Thread-safe."""

    def __init__(
        self,
        uri: str,
        former_uris: Sequence[str],
        tenants: TenantKeks,
        monotonic: Callable[[], float],
        *,
        open_kms: Callable[[str], Kms] = open_kms,
    ) -> None:
        """Nothing is opened yet.

        Args:
            uri: The KEK of tenants that brought none.
            former_uris: Where their keys may still be wrapped.
            tenants: Which tenant brought which KEK.
            monotonic: Seconds of a clock that never goes back.
            open_kms: Opens what a URI names.
        """
        self._uri, self._former_uris, self._tenants = uri, tuple(former_uris), tenants
        self._monotonic, self._open = monotonic, open_kms
        self._lock = Lock()
        self._opened: OrderedDict[str, GuardedKms] = OrderedDict()

    def of(self, tenant: str) -> Kms:
        """See ``Keks.of``."""
        brought = self._tenants.tenant_kek(tenant)
        return self.at(brought.uri if brought else None)

    def at(self, uri: str | None) -> Kms:
        """See ``Keks.at``."""
        uri = uri or self._uri
        with self._lock:
            kms = self._opened.get(uri)
            if kms is None:
                kms = self._opened[uri] = GuardedKms(self._opening(uri), self._monotonic)
                while len(self._opened) > CAPACITY:
                    self._opened.popitem(last=False)
            self._opened.move_to_end(uri)
            return kms

    def holding(self, tenant: str, kek_id: str) -> Kms:
        """See ``Keks.holding``."""
        brought = self._tenants.tenant_kek(tenant)
        places = (None,) if brought is None else (brought.uri, *brought.former_uris)
        for place in places:
            for uri in (place,) if place is not None else (self._uri, *self._former_uris):
                kms = self.at(uri)
                if kms.holds(kek_id):
                    return kms
        raise KeyUnavailable(
            kek_id, "no KMS in use holds it; was it left out of VAULT_KEK_FORMER_URIS?", transient=False
        )

    def keyring_file(self) -> LocalKms:
        """Open the keyring file that is the configured KEK. Raises ``ConfigurationError`` when it is none."""
        kms = open_kms(self._uri)
        if not isinstance(kms, LocalKms):
            raise ConfigurationError(["VAULT_KEK_URI names no keyring file, so there is none to look after"])
        return kms

    def _opening(self, uri: str) -> Kms:
        try:
            return self._open(uri)
        except ConfigurationError as error:
            if uri == self._uri or uri in self._former_uris:
                raise
            reason = "; ".join(error.problems)  # what a tenant brought is no reason to stop the others
            raise KeyUnavailable(uri, f"cannot be opened: {reason}", transient=False) from None
