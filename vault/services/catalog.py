"""What credentials there are, of all nine kinds: seven that are stored by themselves, and the two of each grant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from heapq import merge
from itertools import islice
from operator import attrgetter
from uuid import UUID

from vault.credentials.grants import is_refresh_token_id
from vault.credentials.kinds import Kind
from vault.credentials.policies import Policy
from vault.engine.sealing import REFRESH_TOKEN
from vault.engine.values import Values, without_value
from vault.envelope import context, open_envelope
from vault.errors import UnknownCredential, UnknownProvider
from vault.keyring import Keyring
from vault.means import means_of
from vault.model import Credential, CredentialValue, CredentialVersion
from vault.ports import CredentialStore, GrantViews, Providers, Wanted
from vault.provider import Rotation
from vault.secret import Secret

OF_GRANTS = frozenset({Kind.ACCESS_TOKEN, Kind.REFRESH_TOKEN})


class Catalog:
    """The use cases behind the lists of ``Vault``, of one tenant. Nothing but ``refresh_token`` opens a value."""

    def __init__(
        self,
        tenant: str,
        store: CredentialStore,
        grants: GrantViews,
        values: Values,
        keyring: Keyring,
        providers: Providers,
    ) -> None:
        self.tenant, self._store, self._grants = tenant, store, grants
        self._values, self._keyring, self._providers = values, keyring, providers

    def describe(self, credential_id: UUID) -> Credential:
        """Return what it is, whatever its state. Raises ``UnknownCredential``."""
        found = self._stored(credential_id) or self.view(credential_id)
        if found is None:
            raise UnknownCredential(credential_id)
        return found

    def history(self, credential_id: UUID) -> list[CredentialVersion]:
        """Return every version without its value, newest first; a grant's tokens have one. See ``describe``."""
        found = self._store.versions(self.tenant, credential_id)
        if found:
            return [without_value(each) for each in found]
        return [_only_version(self.describe(credential_id))]

    def policy(self, credential_id: UUID) -> Policy:
        """Return the numbers that hold for it, and where each comes from. Raises ``UnknownCredential``."""
        return self._values.policy(self.describe(credential_id))

    def found(self, wanted: Wanted, after: UUID | None, limit: int) -> list[Credential]:
        """Return some credentials without their values, by id."""
        stored: Sequence[Credential] = []
        grants: Sequence[Credential] = []
        if wanted.kind not in OF_GRANTS:
            stored = self._store.credentials(wanted, after, limit)
        if wanted.kind is None or wanted.kind in OF_GRANTS:
            grants = [self._dated(each) for each in self._grants.views(wanted, after, limit)]
        return list(islice(merge(stored, grants, key=attrgetter("id.int")), limit))

    def expiring(self, within: timedelta, limit: int) -> list[Credential]:
        """Return what ends by itself within a time, or has, the first first; a consent is its refresh token's end."""
        stored = self._store.expiring(self.tenant, within, limit)
        grants = [self._dated(each) for each in self._grants.ending(self.tenant, within, limit)]
        return list(islice(merge(stored, grants, key=attrgetter("expires_at")), limit))

    def past_their_age(self, limit: int) -> list[Credential]:
        """Return what its policy wants rotated by now, the oldest first."""
        found = list(self._store.past_their_age(self.tenant, limit))
        now = self._store.now()
        for provider in self._providers.all():
            age = self._values.policy_for(self.tenant, provider.name, Kind.REFRESH_TOKEN).max_age
            if age is not None and provider.rotation is Rotation.NONE:
                aged = self._grants.aged(self.tenant, provider.name, now - age, limit)
                found += [self._dated(each) for each in aged]
        return sorted(found, key=attrgetter("rotate_at"))[:limit]

    def view(self, credential_id: UUID) -> Credential | None:
        """Return one of a grant's tokens, without its value; None: the id is of none."""
        found = self._grants.view(self.tenant, credential_id)
        return None if found is None else self._dated(found)

    def refresh_token(self, credential_id: UUID, version: int | None, reason: str) -> CredentialValue:
        """Open a refresh token; see ``Vault.credential``."""
        while True:
            shown = self.view(credential_id)
            if shown is None or shown.state != "active" or version not in (None, shown.version):
                raise UnknownCredential(credential_id, "active, at that version" if version else "active")
            found = self._grants.retrieve(shown, reason)
            if found is not None:
                break
        bound = context(self.tenant, found.connection_id, REFRESH_TOKEN)
        value = open_envelope(self._keyring.key(found.key), found.envelope, bound, found.version)
        return CredentialValue(shown, _only_version(shown), Secret(means_of(value.decode()).refresh_token))

    def access_token(self, shown: Credential, value: Secret, reason: str) -> CredentialValue:
        """Note that an access token was read as a credential; returns it as one."""
        self._grants.retrieved(shown, reason)
        return CredentialValue(shown, _only_version(shown), value)

    # ------------------------------------------------------------------------------------------------------------ parts

    def _stored(self, credential_id: UUID) -> Credential | None:
        return None if is_refresh_token_id(credential_id) else self._store.credential(self.tenant, credential_id)

    def _dated(self, of: Credential) -> Credential:
        """Say when a refresh token is to be replaced: by whoever connects again, unless its provider replaces it."""
        policy = self._values.policy(of)
        if of.kind != Kind.REFRESH_TOKEN or of.state != "active" or policy.max_age is None:
            return of
        try:
            lasting = self._providers.get(of.provider).rotation is Rotation.NONE
        except UnknownProvider:
            lasting = False
        return of if not lasting else of._replace(rotate_at=of.rotated_at + policy.max_age)


def _only_version(of: Credential) -> CredentialVersion:
    stage = "current" if of.state == "active" else "destroyed"
    return CredentialVersion(of.version, stage, None, of.facts, of.expires_at, of.created_at, of.rotated_at, None, None)
