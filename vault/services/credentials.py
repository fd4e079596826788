"""Credentials that are not a grant's: stored, replaced, rolled back, brought back, destroyed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from vault.credentials import certificates
from vault.credentials.kinds import Checked, Kind, checked, checked_instant
from vault.credentials.policies import problems
from vault.engine.values import PAIR, Values, without_value
from vault.errors import InvalidCredential, UnknownCredential
from vault.model import Credential, CredentialValue
from vault.ports import Change, CredentialStore, Found, SealedVersion
from vault.secret import Secret

ROTATED, ROLLED_BACK = "credential.rotated", "credential.rolled_back"
MOST_WORDS: Final = 64
"""Tags of one credential."""
LONGEST_WORD: Final = 1_024


class Draft(NamedTuple):
    """A credential that is about to be stored."""

    kind: Kind
    value: Secret
    owner: str = ""
    provider: str = ""
    connection_id: UUID | None = None
    name: str = ""
    tags: Mapping[str, str] = {}
    expires_at: datetime | None = None
    """When it ends by itself, for kinds whose values do not say."""
    facts: Mapping[str, str] = {}
    policy: Mapping[str, Any] = {}


class Keeping:
    """The use cases behind ``Vault.store_…`` and ``Vault.credential``, of one tenant."""

    def __init__(self, tenant: str, store: CredentialStore, values: Values, *, new_id: Callable[[], UUID]) -> None:
        self.tenant, self._store, self._values, self._new_id = tenant, store, values, new_id

    # --------------------------------------------------------------------------------------------------------- writing

    def store(self, *drafts: Draft, pair: bool = False) -> list[UUID]:
        """Keep new credentials, all or none; returns their ids.

        Args:
            drafts: What to keep.
            pair: They are a certificate and its key, and are only replaced together.

        Raises:
            InvalidCredential, KeyUnavailable, CannotOpen, StoreUnavailable
        """
        values = [_checked(draft) for draft in drafts]
        ids = [self._new_id() for _ in drafts]
        if pair:
            certificates.check_pair(values[0].value, values[1].value)
            others = (ids[1], ids[0])
            values = [
                value._replace(facts={**value.facts, PAIR: str(other)})
                for value, other in zip(values, others, strict=True)
            ]
        now = self._store.now()
        new = [self._first(*each, now) for each in zip(ids, drafts, values, strict=True)]
        self._store.add_credentials(new)
        return ids

    def put(
        self,
        credential_id: UUID,
        value: Secret,
        *,
        expected: int | None,
        expires_at: datetime | None,
        overlap: timedelta | None,
    ) -> int:
        """Replace a value; see ``Vault.put``."""
        while True:
            seen = self._values.seen(self.tenant, credential_id, expected)
            if PAIR in seen.facts:
                raise InvalidCredential(seen.kind, "it is replaced together with its other half: put_certificate()")
            found = checked(Kind(seen.kind), value.reveal(), seen.facts)
            change = self._change(seen, _ending(seen.kind, found, expires_at), overlap)
            if self._store.put_versions([change], ROTATED):
                return change.new.version

    def put_pair(self, certificate_id: UUID, certificate: Secret, key: Secret, *, expected: int | None) -> int:
        """Replace a certificate and its key; see ``Vault.put_certificate``."""
        pem, private = checked(Kind.CERTIFICATE, certificate.reveal()), checked(Kind.PRIVATE_KEY, key.reveal())
        certificates.check_pair(pem.value, private.value)
        while True:
            seen = self._values.seen(self.tenant, certificate_id, expected)
            if seen.kind != Kind.CERTIFICATE or PAIR not in seen.facts:
                raise InvalidCredential(seen.kind, "it is no certificate that was stored with its key")
            other = self._values.seen(self.tenant, UUID(seen.facts[PAIR]))
            changes = [
                self._change(seen, pem._replace(facts={**pem.facts, PAIR: str(other.id)}), None),
                self._change(other, private._replace(facts={PAIR: str(seen.id)}), None),
            ]
            if self._store.put_versions(changes, ROTATED):
                return changes[0].new.version

    def roll_back(self, credential_id: UUID, version: int | None, *, expected: int | None) -> int:
        """Make an earlier value current again, as a new version; see ``Vault.roll_back``."""
        while True:
            seen = self._values.seen(self.tenant, credential_id, expected)
            pairs = [(seen, self._earlier(seen, version))]
            if PAIR in seen.facts:
                other = self._values.seen(self.tenant, UUID(seen.facts[PAIR]))
                pairs.append((other, self._earlier(other, pairs[0][1].version.version)))
            changes = [
                self._change(
                    each,
                    Checked(self._values.opened(found).reveal(), found.version.expires_at, found.version.facts),
                    None,
                )
                for each, found in pairs
            ]
            if self._store.put_versions(changes, ROLLED_BACK):
                return changes[0].new.version

    def change(
        self, credential_id: UUID, *, name: str | None, tags: Mapping[str, str] | None, policy: Mapping[str, Any] | None
    ) -> None:
        """Give other words or numbers; see ``Vault.change_credential``."""
        while True:
            seen = self._values.seen(self.tenant, credential_id)
            changed = seen._replace(
                name=seen.name if name is None else name,
                tags=seen.tags if tags is None else dict(tags),
                policy=seen.policy if policy is None else dict(policy),
            )
            _check_words(changed.kind, changed.name, changed.tags, changed.policy)
            if changed.policy != seen.policy:
                changed = self._values.dated_again(changed, self._store.now())
            if self._store.change_credential(seen, changed):
                return

    # --------------------------------------------------------------------------------------------------------- reading

    def read(self, credential_id: UUID, version: int | None, reason: str) -> CredentialValue:
        """Open a value; see ``Vault.credential``."""
        found = self._store.read_version(self.tenant, credential_id, version, reason=reason)
        if found is None:
            raise UnknownCredential(credential_id, "active" if version is None else f"active and has version {version}")
        return CredentialValue(found.credential, without_value(found.version), self._values.opened(found))

    def signing(self, credential_id: UUID, *, making: bool) -> tuple[str, list[Secret]]:
        """Return the style of a webhook secret and the values that count now, the current one first.

        ``making``: with the one that a rotation is about to make current, which a sender may have been told already.
        """
        found = self._store.serving_versions(self.tenant, credential_id)
        if not found or found[0].credential.kind != Kind.WEBHOOK_SECRET:
            raise UnknownCredential(credential_id, "an active webhook secret")
        wanted = [each for each in found if making or each.version.stage != "pending"]
        return found[0].credential.facts["style"], [self._values.opened(each) for each in wanted]

    # ----------------------------------------------------------------------------------------------------------- ending

    def delete(self, ids: Sequence[UUID]) -> set[UUID]:
        """Delete, so that it can be brought back for a while; returns which were there."""
        known = {each: self._store.credential(self.tenant, each) for each in ids}
        lives = {
            each: self._values.policy(found).recovery.total_seconds()
            for each, found in known.items()
            if found is not None
        }
        return self._store.delete_credentials(self.tenant, lives) if lives else set()

    def undelete(self, credential_id: UUID) -> None:
        """Bring back what was deleted. Raises ``UnknownCredential`` when it cannot be (any more)."""
        if not self._store.undelete_credential(self.tenant, credential_id):
            raise UnknownCredential(credential_id, "deleted and can be brought back")

    def destroy(self, ids: Sequence[UUID]) -> set[UUID]:
        """Take every value away for good; returns which were there."""
        return self._store.destroy_credentials(self.tenant, list(ids))

    def destroy_version(self, credential_id: UUID, version: int) -> None:
        """Take one value away for good. Raises ``UnknownCredential`` when it is not there, or the current one."""
        if not self._store.destroy_version(self.tenant, credential_id, version):
            raise UnknownCredential(credential_id, f"at another version than {version}, and still has that one")

    # ------------------------------------------------------------------------------------------------------------ parts

    def _first(self, new_id: UUID, draft: Draft, found: Checked, now: datetime) -> tuple[Credential, SealedVersion]:
        stored = Credential(
            new_id, self.tenant, draft.owner, draft.provider, draft.connection_id, str(draft.kind), draft.name,
            dict(draft.tags), dict(draft.policy), "active", 1, 1, dict(found.facts), now, now,
        )  # fmt: skip
        return self._values.first(stored, found)

    def _change(self, seen: Credential, found: Checked, overlap: timedelta | None) -> Change:
        policy = self._values.policy(seen)
        dates = self._values.dates(seen, found.expires_at, self._store.now())
        overlap = policy.overlap if overlap is None else overlap
        return Change(seen, self._values.sealed(seen, seen.latest + 1, found), dates, overlap, policy.keep)

    def _earlier(self, seen: Credential, version: int | None) -> Found:
        if version is None:
            kept = [each for each in self._store.versions(self.tenant, seen.id) if each.envelope is not None]
            version = next((each.version for each in kept if each.version < seen.version), 0)
        found = self._store.read_version(self.tenant, seen.id, version, reason="roll back")
        if found is None:
            raise UnknownCredential(seen.id, "at a later version, and still has the one to go back to")
        return found


def _checked(draft: Draft) -> Checked:
    found = checked(draft.kind, draft.value.reveal(), draft.facts)
    _check_words(draft.kind, draft.name, draft.tags, draft.policy)
    return _ending(draft.kind, found, draft.expires_at)


def _ending(kind: str, found: Checked, expires_at: datetime | None) -> Checked:
    if expires_at is None:
        return found
    if kind == Kind.CERTIFICATE:
        raise InvalidCredential(kind, "it says itself when it ends")
    return found._replace(expires_at=checked_instant(Kind(kind), "its end", expires_at))


def _check_words(kind: str, name: str, tags: Mapping[str, str], policy: Mapping[str, Any]) -> None:
    for problem in problems(policy):
        raise InvalidCredential(kind, f"its policy: {problem}")
    words = [name, *tags, *tags.values()]
    if len(tags) > MOST_WORDS or any(len(word) > LONGEST_WORD or "\0" in word for word in words):
        raise InvalidCredential(
            kind, f"its name and up to {MOST_WORDS} tags are text of {LONGEST_WORD:,} characters at most"
        )
