"""Credentials rotated in steps, each of which may be done twice: whoever does them may die anywhere.

    create ── set ── test ── finish ──(overlap)── retire ── done
       └───────┴──────┴── undo ── failed

The new value is kept, sealed, before anybody else is told of it; it becomes the current one after it was tried; the old
one is taken away at the far side when its overlap is over, and not before. A webhook secret that was undone goes on
counting for a while, since what was signed with it may be on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from vault.credentials.kinds import Kind, checked
from vault.credentials.rotators import Made, RotationRequest, Rotator, Rotators
from vault.engine.values import PAIR, Values
from vault.errors import InvalidCredential, KeyUnavailable, RotationBusy, RotationFailed, StoreUnavailable, VaultError
from vault.model import Credential
from vault.ports import CredentialStore, RotationRow, RotationStore, SealedVersion
from vault.secret import Secret

log = structlog.get_logger(__name__)

BATCH: Final = 50
LEASE: Final = timedelta(minutes=5)
"""A rotator's call that takes longer may be made a second time by somebody else."""
HOLD: Final = LEASE / 2
"""No step is begun when this has passed since a rotation was taken in hand: it would not be over in time."""
TRIES: Final = 20
"""Of a step before the new value is current; then the rotation is undone."""
LATE_TRIES: Final = 100
"""Of telling the far side to forget a value; then somebody must look."""
FIRST_WAIT: Final = timedelta(seconds=5)
LONGEST_WAIT: Final = timedelta(hours=1)
MOST_FACTS, LONGEST_FACT = 20, 500
UNDONE_LIFE: Final = timedelta(minutes=5)
"""For which a webhook secret that was undone still counts: as long as what it signed is of these minutes."""
_NO_WAIT: Final = timedelta(0)


class Rotating:
    """The use cases behind ``Vault.rotate`` and ``vault.rotate_credentials``."""

    def __init__(
        self,
        credentials: CredentialStore,
        store: RotationStore,
        values: Values,
        rotators: Rotators,
        *,
        new_id: Callable[[], UUID],
        share: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._credentials, self._store, self._values, self._rotators = credentials, store, values, rotators
        self._new_id, self._share, self._monotonic = new_id, share, monotonic

    def begin(
        self, tenant: str, credential_id: UUID, *, value: Secret | None, overlap: timedelta | None, force: bool
    ) -> UUID:
        """Begin a rotation; see ``Vault.rotate``."""
        seen = self._values.seen(tenant, credential_id)
        before = self._store.open_rotation(tenant, credential_id)
        if before is not None and not (force and self._can_be_forced(before)):
            raise RotationBusy(credential_id, before.step)
        policy = self._values.policy(seen)
        if not policy.rotator or PAIR in seen.facts:
            raise InvalidCredential(seen.kind, "nobody rotates it: put() a new value, or name a rotator in its policy")
        row = RotationRow(
            self._new_id(), tenant, credential_id, policy.rotator, seen.version, None, "create",
            policy.overlap if overlap is None else overlap, 0, 0,
        )  # fmt: skip
        pending = None
        if value is not None:
            pending = self._pending(seen, value)
            row = row._replace(to_version=pending.version, step="set")
        if not self._store.begin_rotation(row, pending):
            raise RotationBusy(credential_id, "create")
        if before is not None:
            self._store.end_overlaps(tenant, credential_id)
        return row.id

    def run(self, budget: timedelta) -> int:
        """Begin what is due by its age, and go on with whatever is begun; returns how many steps came to an end.

        Raises ``StoreUnavailable``.
        """
        until = self._monotonic() + budget.total_seconds()
        for tenant, credential_id in self._store.due_credentials(BATCH):
            try:
                self.begin(tenant, credential_id, value=None, overlap=None, force=False)
            except StoreUnavailable:
                raise
            except VaultError as error:
                log.error("rotation.not_begun", credential_id=str(credential_id), error=type(error).__name__)
        done = 0
        while (taken_at := self._monotonic()) < until and (rows := self._store.take_rotations(BATCH, LEASE)):
            for row in rows:
                done += self._drive(row, taken_at)
        return done

    def one(self, rotation_id: UUID) -> int:
        """Go on with one rotation now, if nobody has it in hand."""
        taken_at = self._monotonic()
        return sum(self._drive(row, taken_at) for row in self._store.take_rotations(1, LEASE, rotation_id))

    def _can_be_forced(self, before: RotationRow) -> bool:
        """Whether another rotation may begin beside one: not while that one's new value may be at the far side yet."""
        if before.step == "undo":
            undone = self._version(before, before.to_version)
            return undone is not None and _is_undone(undone)
        return before.step == "retire"

    # ------------------------------------------------------------------------------------------------------------ steps

    def _drive(self, row: RotationRow, taken_at: float) -> int:
        """Do one step after another; returns how many were done."""
        done, until = 0, taken_at + HOLD.total_seconds()
        rotator = self._rotators.get(row.rotator)
        if rotator is None:
            self._store.put_off(row, "unknown_rotator", LONGEST_WAIT)
            return done
        while self._monotonic() < until:
            try:
                following = self._step(row, rotator)
            except (KeyUnavailable, StoreUnavailable) as error:
                self._store.put_off(row, type(error).__name__, self._wait(row))
                return done
            except RotationFailed as error:
                self._failed(row, error.reason, permanent=not error.transient, retry_after=error.retry_after)
                return done
            except Exception as error:  # noqa: BLE001  # a rotator is anybody's code, and others' rotations wait behind it
                log.error("rotation.rotator_broke", rotation=str(row.id), step=row.step, error=type(error).__name__)
                self._failed(row, type(error).__name__, permanent=False)
                return done
            if following is None:
                return done
            row, done = following, done + 1
        return done

    def _step(self, row: RotationRow, rotator: Rotator) -> RotationRow | None:
        """Do what comes next; None: nothing more can be done now."""
        seen = self._credentials.credential(row.tenant, row.credential_id)
        if seen is None or seen.state == "destroyed":
            self._store.end_rotation(row, "not_retired" if row.step == "retire" else "failed", "destroyed")
            return None
        if seen.state == "deleted" and row.step not in ("retire", "undo") and not _may_have_made(row):
            return self._give_up(row, seen)
        request = self._request(row, seen)
        match row.step:
            case "create":
                return self._create(row, seen, request, rotator)
            case "set":
                rotator.set(request, self._value(row, row.to_version), self._value(row, row.from_version))
                return self._store.go_on(row, "test")
            case "test":
                rotator.test(request, self._value(row, row.to_version))
                return self._store.go_on(row, "finish")
            case "finish":
                return self._finish(row, seen, request, rotator)
            case "retire":
                return self._retire(row, request, rotator)
            case _:
                return self._undo(row, seen, request, rotator)

    def _create(
        self, row: RotationRow, seen: Credential, request: RotationRequest, rotator: Rotator
    ) -> RotationRow | None:
        made = rotator.create(request, self._value(row, row.from_version))
        new, facts = made if isinstance(made, Made) else Made(made)
        try:
            pending, reason = self._pending(seen, new, facts), "superseded"
        except InvalidCredential:
            pending, reason = None, "invalid_value"
        if pending is not None and seen.version == row.from_version:
            kept = self._store.keep_pending(row, pending, "set")
            if kept is not None:
                return kept
        if self._store.go_on(row, "create") is not None:  # else somebody else has it in hand, and the very same value
            now = self._credentials.credential(row.tenant, row.credential_id) or seen
            rotator.undo(request._replace(new_facts=facts), new, self._value(row, now.version))
            self._store.end_rotation(row, "failed", reason)
        return None

    def _undo(
        self, row: RotationRow, seen: Credential, request: RotationRequest, rotator: Rotator
    ) -> RotationRow | None:
        """Take the new value away; whoever has signed with it meanwhile is believed for some minutes more."""
        undone = self._version(row, row.to_version)
        if undone is not None and _is_undone(undone):
            left = (undone.serves_until or self._credentials.now()) - self._credentials.now()
            if left > _NO_WAIT:
                self._store.put_off(row, "undone", left)
                return None
        else:
            rotator.undo(request, self._value(row, row.to_version), self._value(row, seen.version))
            if seen.kind == Kind.WEBHOOK_SECRET and undone is not None and undone.stage == "pending":
                self._store.let_serve(row, UNDONE_LIFE)
                return None
        self._store.end_rotation(row, "failed", "undone")
        return None

    def _give_up(self, row: RotationRow, seen: Credential) -> RotationRow | None:
        """Its credential was deleted: take the new value away at the far side, or the old one if that was replaced."""
        if row.to_version is None:
            self._store.end_rotation(row, "failed", "deleted")
            return None
        return self._store.go_on(row, "retire" if seen.version == row.to_version else "undo")

    def _finish(
        self, row: RotationRow, seen: Credential, request: RotationRequest, rotator: Rotator
    ) -> RotationRow | None:
        if seen.version == row.from_version:
            dates, keep = self._values.dates_of_version(seen, row.to_version), self._values.policy(seen).keep
            went_on = self._store.promote(row, seen, dates, keep)
        elif seen.version == row.to_version:
            went_on = row  # whoever promoted it has died since
        else:
            return self._store.go_on(row, "undo")
        if went_on is None:
            return None
        rotator.finish(request, self._value(row, row.to_version), self._value(row, row.from_version))
        return self._store.go_on(went_on, "retire")

    def _retire(self, row: RotationRow, request: RotationRequest, rotator: Rotator) -> RotationRow | None:
        old = self._version(row, row.from_version)
        left = _NO_WAIT if old is None or old.serves_until is None else old.serves_until - self._credentials.now()
        if left > _NO_WAIT:
            self._store.put_off(row, "", left)
        else:
            rotator.retire(request, self._value(row, row.from_version))
            self._store.end_rotation(row, "done", "")
        return None

    def _value(self, row: RotationRow, version: int | None) -> Secret:
        return self._values.value(row.tenant, row.credential_id, version or 0, f"rotation {row.id}")

    def _version(self, row: RotationRow, version: int | None) -> SealedVersion | None:
        found = self._credentials.versions(row.tenant, row.credential_id)
        return next((each for each in found if each.version == version), None)

    def _request(self, row: RotationRow, seen: Credential) -> RotationRequest:
        """What the rotator hears: of a rotation that is undone, the value that goes on is the current one now."""
        versions = {each.version: each for each in self._credentials.versions(row.tenant, row.credential_id)}
        before = versions.get(seen.version if row.step == "undo" else row.from_version)
        after = versions.get(row.to_version or 0)
        return RotationRequest(
            row.id, row.tenant, row.credential_id, seen.kind, seen.provider, seen.name, seen.tags, row.overlap,
            seen.connection_id, before.facts if before else {}, after.facts if after else {},
        )  # fmt: skip

    def _pending(self, seen: Credential, value: Secret, facts: Mapping[str, str] | None = None) -> SealedVersion:
        found = checked(Kind(seen.kind), value.reveal(), seen.facts)
        found = found._replace(facts={**_fit(seen.kind, facts or {}), **found.facts})
        return self._values.sealed(seen, seen.latest + 1, found, "pending")

    def _failed(self, row: RotationRow, reason: str, *, permanent: bool, retry_after: timedelta | None = None) -> None:
        """Try again later, undo it, or give it up."""
        log.warning("rotation.failed", rotation=str(row.id), step=row.step, reason=reason, permanent=permanent)
        if row.step in ("create", "set", "test") and (permanent or row.attempt >= TRIES):
            if row.to_version is None:
                self._store.end_rotation(row, "failed", reason)
            elif (undoing := self._store.go_on(row, "undo")) is not None:
                self._store.put_off(undoing, reason, _NO_WAIT)
        elif row.step in ("retire", "undo") and (permanent or row.attempt >= LATE_TRIES):
            self._store.end_rotation(row, "not_retired" if row.step == "retire" else "failed", reason)
        else:
            self._store.put_off(row, reason, max(self._wait(row), retry_after or _NO_WAIT))

    def _wait(self, row: RotationRow) -> timedelta:
        step = min(LONGEST_WAIT, FIRST_WAIT * float(1 << min(max(row.attempt - 1, 0), 20)))
        return step * (0.1 + 0.9 * self._share())


def _may_have_made(row: RotationRow) -> bool:
    """Whether somebody who died may have made something at the far side that we have not kept."""
    return row.step == "create" and row.attempt > 1


def _is_undone(version: SealedVersion) -> bool:
    """Whether a new value was taken away at the far side, and only still counts."""
    return version.stage == "destroyed" or (version.stage == "pending" and version.serves_until is not None)


def _fit(kind: str, facts: Mapping[str, str]) -> Mapping[str, str]:
    if len(facts) > MOST_FACTS or any(len(word) > LONGEST_FACT for pair in facts.items() for word in pair):
        raise InvalidCredential(kind, f"{MOST_FACTS} facts of {LONGEST_FACT} characters are the most")
    return facts
