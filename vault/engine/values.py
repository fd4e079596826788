"""Between a credential at rest and its value: sealed, opened, and dated by the policy that holds for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from vault.credentials.kinds import Checked, Kind
from vault.credentials.policies import Policy, Rule, digest, due, due_again, resolve
from vault.envelope import DataKey, context, open_envelope, seal
from vault.errors import RotationFailed, UnknownCredential, VersionConflict
from vault.keyring import Keyring
from vault.model import Credential, CredentialVersion
from vault.ports import CredentialStore, Dates, Found, SealedVersion
from vault.secret import Secret

VALUE: Final = "value"
"""The field that envelopes of credentials are bound to."""
PAIR: Final = "pair"
"""The fact that names the other half: a certificate's key, and a key's certificate."""


class Values:
    """Values of credentials, of any tenant."""

    def __init__(self, store: CredentialStore, keyring: Keyring, rules: Sequence[Rule]) -> None:
        self._store, self._keyring, self._rules = store, keyring, rules

    def policy(self, of: Credential) -> Policy:
        """Return the numbers that hold for a credential, and where each comes from."""
        return self.policy_for(of.tenant, of.provider, Kind(of.kind), of.policy)

    def policy_for(self, tenant: str, provider: str, kind: Kind, own: Mapping[str, Any] | None = None) -> Policy:
        """Return the numbers that hold for whatever fits these words; ``own`` are those of one credential."""
        return resolve(tenant, provider, kind, self._rules, own)

    def seen(self, tenant: str, credential_id: UUID, expected: int | None = None) -> Credential:
        """Return an active credential. Raises ``UnknownCredential``, and ``VersionConflict`` at another version."""
        found = self._store.credential(tenant, credential_id)
        if found is None or found.state != "active":
            raise UnknownCredential(credential_id, "active")
        if expected is not None and found.version != expected:
            raise VersionConflict(credential_id, expected, found.version)
        return found

    def sealed(self, of: Credential, version: int, found: Checked, stage: str = "current") -> SealedVersion:
        """Seal a value as a version of a credential. Raises ``KeyUnavailable``, ``StoreUnavailable``."""
        key = self._keyring.sealing_key(of.tenant, of.owner, of.provider)
        envelope = seal(key, found.value.encode(), context(of.tenant, of.id, VALUE), version)
        fp = self._keyring.fingerprint(of.tenant, of.id, found.value)
        return SealedVersion(of.id, version, stage, key.id, envelope, fp, dict(found.facts), found.expires_at)

    def first(self, of: Credential, found: Checked) -> tuple[Credential, SealedVersion]:
        """Seal the first value of a credential, and date it from its creation. Raises as ``sealed`` does."""
        dates = self.dates(of, found.expires_at, of.created_at)
        return of._replace(**dates._asdict()), self.sealed(of, of.version, found)

    def opened(self, found: Found) -> Secret:
        """Open a value. Raises as ``sealed`` does."""
        of, version = found.credential, found.version
        assert version.envelope is not None  # the store gives none that is destroyed
        return _opened(self._keyring.key(found.key), of.tenant, of.id, version.version, version.envelope)

    def value(self, tenant: str, credential_id: UUID, version: int, reason: str) -> Secret:
        """Open any version that is not destroyed, of a deleted credential too. Raises ``RotationFailed`` when it is."""
        found = self._store.read_version(tenant, credential_id, version, reason=reason, deleted=True)
        if found is None:
            raise RotationFailed("the value is gone", permanent=True)
        return self.opened(found)

    def dates(self, of: Credential, expires_at: datetime | None, now: datetime) -> Dates:
        """Return the dates of a credential that gets a new value now."""
        return Dates(now, expires_at, *due(self.policy(of), now, expires_at, now))

    def dated_again(self, of: Credential, now: datetime) -> Credential:
        """Return a credential whose policy was changed with its new dates; see ``due_again``."""
        return of._replace(**due_again(self.policy(of), of.rotated_at, of.expires_at, now)._asdict())

    def dated_by_policy(self, of: Credential, now: datetime) -> Credential:
        """Return a credential with the dates of its policy; as it is, if it has them."""
        by_policy = due(self.policy(of), of.rotated_at, of.expires_at, now)
        warned = of.warn_at == by_policy.warn_at or (of.warn_at is not None and of.warn_at <= now)
        if warned and (of.rotate_at, of.rotator) == (by_policy.rotate_at, by_policy.rotator):
            return of
        return self.dated_again(of, now)

    @property
    def digest(self) -> bytes:
        """Tells one state of all policies from another."""
        return digest(self._rules)

    def dates_of_version(self, of: Credential, version: int | None) -> Dates:
        """Return the dates of a credential one of whose versions becomes the current one now."""
        found = next((each for each in self._store.versions(of.tenant, of.id) if each.version == version), None)
        return self.dates(of, None if found is None else found.expires_at, self._store.now())


def opened(
    keyring: Keyring, tenant: str, credential_id: UUID, version: int, data_key_id: UUID, envelope: bytes
) -> Secret:
    """Open a value whose key is not at hand. Raises ``KeyUnavailable``, ``CannotOpen``, ``StoreUnavailable``."""
    return _opened(keyring.opening_key(data_key_id), tenant, credential_id, version, envelope)


def _opened(key: DataKey, tenant: str, credential_id: UUID, version: int, envelope: bytes) -> Secret:
    return Secret(open_envelope(key, envelope, context(tenant, credential_id, VALUE), version).decode())


def without_value(of: SealedVersion) -> CredentialVersion:
    """Return what may be shown of a version."""
    return CredentialVersion(
        of.version, of.stage, of.fp.hex() if of.fp else None, of.facts, of.expires_at, of.created_at, of.current_at,
        of.replaced_at, of.serves_until,
    )  # fmt: skip
