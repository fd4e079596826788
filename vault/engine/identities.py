"""Client certificates that requests to providers are made with (RFC 8705), read from the credentials at rest."""

from __future__ import annotations

from uuid import UUID

from vault.credentials.certificates import check_pair
from vault.credentials.kinds import Kind
from vault.engine.values import PAIR, Values
from vault.errors import InvalidCredential, UnknownCredential
from vault.provider import TlsIdentity

WHY = "requests to providers"
TRIES = 5


class Identities:
    """Certificates of one tenant, each with its key."""

    def __init__(self, tenant: str, values: Values) -> None:
        self._tenant, self._values = tenant, values

    def read(self, certificate_id: UUID, known: TlsIdentity | None) -> TlsIdentity:
        """Return a certificate as it is now; what is known, while that is its current version.

        Raises:
            UnknownCredential: There is no active certificate of that id that was stored with its key.
            RotationFailed: Its value has just been taken away.
            KeyUnavailable, CannotOpen, StoreUnavailable
        """
        for _ in range(TRIES):
            found = self._values.seen(self._tenant, certificate_id)
            if found.kind != Kind.CERTIFICATE or PAIR not in found.facts:
                break
            if known is not None and known.version == found.version:
                return known
            key = self._values.seen(self._tenant, UUID(found.facts[PAIR]))
            chain = self._values.value(self._tenant, found.id, found.version, WHY)
            private = self._values.value(self._tenant, key.id, key.version, WHY)
            try:
                check_pair(chain.reveal(), private.reveal())
            except InvalidCredential:  # they were replaced between the two reads
                continue
            return TlsIdentity(found.version, chain, private)
        raise UnknownCredential(certificate_id, "a certificate that was stored with its key")
